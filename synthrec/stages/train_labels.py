"""train_cross_encoder, train_classifier: what the LLM graded and chose -> models that do it for any text, in less time.

A run without such labels trains nothing, says so, and publishes no model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from synthrec import console, schema
from synthrec.config import Config
from synthrec.evaluation import classification
from synthrec.pipeline import Context, Stage
from synthrec.stages import fitting
from synthrec.stages.train import starting_encoder

SOFT = pa.list_(pa.float32())
GRADED = pa.schema(
    [
        pa.field("query", pa.string(), nullable=False),
        pa.field("products", pa.list_(pa.string()), nullable=False),
        pa.field("grades", pa.list_(SOFT), nullable=False),
    ]
)
HELD = 10  # one text of so many is kept from the classifier, to see how far it agrees with the LLM there
LEAST = 100  # with fewer texts all are learnt
Rows = list[dict[str, Any]]


def _settings(name: str, config: Config) -> Any:
    own = config.train
    encoder = own.model_dump(include={"encoder", "extend_vocabulary", "new_token_learning_rate", "warmup"})
    read = encoder if name == "cross_encoder" else own.warmup
    return [getattr(own, name).model_dump(), read, fitting.layout(config)]


def _cross_encoder(context: Context) -> dict[str, Any]:
    import torch

    from synthrec.recommenders.cross_encoder import CrossEncoder
    from synthrec.training.loop import Plan

    config, layout = context.config.train.cross_encoder, context.config.train
    catalogue = (context.inputs["prepare"] / "catalogue").read_table(schema.CATALOGUE, ["product_id", "text"])
    rows = graded(_labels(context, ["relevance"]), dict(zip(*catalogue.to_pydict().values(), strict=True)))
    if not rows.num_rows:
        return _nothing(context, "cross-encoder", "relevance")
    workers = fitting.workers(context)
    encoder, added = starting_encoder(context)
    torch.manual_seed(context.config.seed)  # the head is new
    with tempfile.TemporaryDirectory() as folder:
        encoder.save(Path(folder))
        model = CrossEncoder.load(folder, config.max_tokens)
    batch = fitting.batch(config.batch_size, rows.num_rows, workers)
    plan = Plan(rows.num_rows, batch, config.epochs, layout.warmup, context.config.seed)
    settings = {
        "learning_rate": config.learning_rate,
        "embedding_rate": layout.new_token_learning_rate if added else config.learning_rate,
        "rank_weight": config.rank_weight,
    }
    metrics = fitting.fitted(context, "cross_encoder", settings, plan, rows, model.save)
    pairs = sum(map(len, rows["products"].to_pylist()))
    return {"trained": True, "queries": rows.num_rows, "pairs": pairs, "loss": _rounded(metrics["losses"])}


def graded(labels: Rows, texts: dict[str, str]) -> pa.Table:
    """GRADED rows: each query with the products that the LLM graded for it, and the grades' probabilities."""
    found: dict[str, tuple[list[str], list[list[float]]]] = {}
    for row in labels:
        if row["product_id"] in texts:
            products, grades = found.setdefault(row["text"], ([], []))
            products.append(texts[row["product_id"]])
            chances = dict(zip(row["labels"], row["scores"], strict=True))
            grades.append([chances[grade] for grade in schema.GRADES])
    rows = [{"query": query, "products": some, "grades": grades} for query, (some, grades) in found.items()]
    return pa.Table.from_pylist(rows, schema=GRADED)


def _classifier(context: Context) -> dict[str, Any]:
    import torch

    from synthrec.recommenders.classifier import Classifier
    from synthrec.recommenders.features import Features, ngrams
    from synthrec.training.loop import Plan

    config, seed = context.config.train.classifier, context.config.seed
    labels = _labels(context, config.tasks)
    tasks = questions(labels)
    if not tasks:
        return _nothing(context, "classifier", " or ".join(config.tasks))
    workers = fitting.workers(context)
    texts = answered(labels, tasks)
    held = _held(texts)
    known = [text for text in texts if text not in held]
    features = Features(ngrams=ngrams(known, buckets=config.buckets)).batch(range(len(known)))
    rows = pa.table(
        {"ngrams": pa.array(features["ngrams"], pa.list_(pa.int32()))}
        | {name: pa.array([texts[text].get(name) for text in known], SOFT) for name in tasks}
    )
    torch.manual_seed(seed)
    weights = dict.fromkeys(tasks, 1.0) if len(tasks) == 1 else None  # of one task alone none can be learnt
    model = Classifier(tasks, 0, config.buckets, config.width, config.dropout, weights)
    batch = fitting.batch(config.batch_size, rows.num_rows, workers)
    plan = Plan(rows.num_rows, batch, config.epochs, context.config.train.warmup, seed)
    settings = {"learning_rate": config.learning_rate}
    metrics = fitting.fitted(context, "classifier", settings, plan, rows, model.save)
    with (context.out / "model").fetched() as folder:
        agreement = _agreement(Classifier.load(folder), held)
    return {
        "trained": True,
        "texts": len(known),
        "heads": {name: len(some) for name, some in tasks.items()},
        "agreement_with_llm": agreement,
        "loss": _rounded(metrics["losses"]),
    }


def _held(texts: dict[str, Any]) -> dict[str, Any]:
    order = sorted(texts, key=schema.row_id)
    return {text: texts[text] for text in order[::HELD]} if len(texts) >= LEAST else {}


def questions(labels: Rows) -> dict[str, list[str]]:
    """Head -> its labels: a head for each question, `task` or `task.facet`, whose labels are few enough for classes."""
    found: dict[str, dict[str, None]] = {}
    for row in labels:
        found.setdefault(_question(row), {}).update(dict.fromkeys(row["labels"]))
    for name in [name for name, some in found.items() if len(some) > schema.FEW_LABELS]:
        console.say(f"    {name} chose among {len(found.pop(name))} labels: too many for a classifier's head")
    return {name: sorted(some) for name, some in sorted(found.items())}


def answered(labels: Rows, tasks: dict[str, list[str]]) -> dict[str, dict[str, list[float]]]:
    """Text -> head -> the probabilities of its labels; of a text asked twice the first answer stands."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in labels:
        name = _question(row)
        if name in tasks:
            chances = dict(zip(row["labels"], row["scores"], strict=True))
            found.setdefault(row["text"], {}).setdefault(name, [chances.get(one, 0.0) for one in tasks[name]])
    return found


def _agreement(model: Any, held: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, Any]]:
    """How far the classifier says what the LLM said, of texts that it did not learn from."""
    said = model.of_texts(list(held))
    found = {}
    for name, labels in model.tasks.items():
        rows = [i for i, answers in enumerate(held.values()) if name in answers]
        wanted = [labels[int(np.argmax(answers[name]))] for answers in held.values() if name in answers]
        if rows:
            guessed = [labels[int(best)] for best in said[name][rows].argmax(1)]
            found[name] = {"rows": len(rows)} | classification.scores(wanted, guessed)
    return found


def _labels(context: Context, tasks: Iterable[str]) -> Rows:
    """Curated LABEL rows of these tasks that were chosen among labels, in order of id."""
    where = pads.field("task").isin(list(tasks)) & pads.field("scores").is_valid()
    return (context.inputs["curate"] / "labels").read_table(schema.LABEL, where=where).sort_by("id").to_pylist()


def _question(row: dict[str, Any]) -> str:
    return f"{row['task']}.{row['facet']}" if row["facet"] else str(row["task"])


def _nothing(context: Context, what: str, tasks: str) -> dict[str, Any]:
    console.say(f"    the run has no labels of {tasks}: no {what} is trained")
    context.out.write_json("nothing.json", {"no_labels_of": tasks})  # an object store has no empty folders
    return {"trained": False}


def _rounded(losses: list[float]) -> list[float]:
    return [round(one, 5) for one in losses]


RUNS: dict[str, tuple[str, Callable[[Context], dict[str, Any]]]] = {
    "cross_encoder": ("trains the cross-encoder", _cross_encoder),
    "classifier": ("trains the classifier", _classifier),
}


def stage(name: str) -> Stage:
    """Of one of `config.Train.models`."""
    words, run = RUNS[name]
    return Stage(f"train_{name}", f"{words} (Ray Train, DDP)", ("prepare", "curate"), partial(_settings, name), run)
