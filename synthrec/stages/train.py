"""train: curated pairs -> a fine-tuned bi-encoder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from synthrec import cluster, console, recommenders, schema
from synthrec.config import Config, Train
from synthrec.errors import UserError
from synthrec.pipeline import Context, Stage
from synthrec.storage import Folder

if TYPE_CHECKING:
    from train_app.fit import Job

PAIR = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("query", "product", "group")])


def settings(config: Config) -> Any:
    return [config.train.model_dump(exclude={"max_failures"}), config.seed]


def run(context: Context) -> dict[str, Any]:
    config = context.config.train
    cluster.start()
    cluster.need(config.workers, config.workers if config.use_gpu else 0, "train", "train.workers or train.use_gpu")
    labels = (context.inputs["curate"] / "labels").read_table(schema.LABEL).to_pylist()
    pairs = training_pairs(config, context.inputs["prepare"], labels)
    ranks_batch = config.workers * config.batch_size
    if pairs.num_rows < ranks_batch:
        raise UserError(
            f"{pairs.num_rows} training pairs are fewer than one step takes "
            f"({config.workers} workers x batch {config.batch_size})",
            "synthesise more queries, or lower train.batch_size or train.workers",
        )
    work = context.keep("work") / context.out.path.rpartition("/")[2]
    (work / "pairs").write_table("pairs.parquet", pairs)
    added = _starting_point(context, work / "start")
    from synthrec.training.loop import Plan
    from train_app.fit import Job, fit

    rates = {
        "learning_rate": config.learning_rate,
        "embedding_rate": config.new_token_learning_rate if added else config.learning_rate,
    }
    job = Job(
        recommender="bi_encoder",
        settings={"temperature": config.temperature, **rates},
        plan=Plan(pairs.num_rows, config.batch_size, config.epochs, config.warmup, context.config.seed),
        start=(work.fs, f"{work.path}/start"),
        rows=(work.fs, f"{work.path}/pairs"),
        schema=PAIR,
        use_gpu=config.use_gpu,
        precision=config.precision,
    )
    result = fit(job, config.workers, config.max_failures, (work.fs, work.path))
    if result.error:
        raise result.error
    publish(result.checkpoint, job, context.out)
    work.delete()
    metrics = result.metrics or {}
    return {
        "pairs": pairs.num_rows,
        "added_characters": added,
        "workers": config.workers,
        "precision": metrics.get("precision"),
        # Not from Ray's table of metrics, which forgets an epoch with its checkpoint.
        "loss": [round(loss, 5) for loss in metrics.get("losses", [])],
    }


def training_pairs(config: Train, prepared: Folder, labels: list[dict[str, Any]]) -> pa.Table:
    """PAIR rows: synthesised query -> product text; and each product's title -> the rest of its text."""
    products = (prepared / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id").to_pylist()
    text = {p["product_id"]: p["text"] for p in products}
    rows = [
        {"query": r["text"], "product": text[r["product_id"]], "group": r["product_id"]}
        for r in sorted(labels, key=lambda r: str(r["id"]))
        if r["task"] == "queries" and r["product_id"] in text
    ]
    if config.text_pairs:
        for p in products:
            rest = p["text"].removeprefix(p["title"]).strip(" .")
            if rest:
                rows.append({"query": p["title"], "product": rest, "group": p["product_id"]})
    return pa.Table.from_pylist(rows, schema=PAIR)


def _starting_point(context: Context, out: Folder) -> int:
    """Write the encoder that workers start from; returns how many characters were added to it."""
    from synthrec.recommenders.bi_encoder import BiEncoder

    config = context.config.train
    encoder = BiEncoder.load(config.encoder, config.max_query_tokens, config.max_product_tokens)
    added = 0
    if config.extend_vocabulary:
        texts = (context.inputs["prepare"] / "corpus").read_table(schema.CORPUS, ["text"])["text"].to_pylist()
        added = encoder.extend_vocabulary(texts)
        if added:
            console.say(f"    the encoder cannot read {added} characters of the corpus; they are added and learnt")
    with tempfile.TemporaryDirectory() as folder:
        encoder.save(Path(folder))
        out.write_files(Path(folder))
    return added


def publish(checkpoint: Any, job: Job, out: Folder) -> None:
    """The trained weights as the folder `model` that the recommender's own `load` reads."""
    import torch

    with Folder(*job.start).fetched() as start:
        objective: Any = recommenders.objective(job.recommender).start(start, job.settings, lambda mine: mine)
    with checkpoint.as_directory() as folder:
        state = torch.load(Path(folder) / "state.pt", map_location="cpu", weights_only=True)["model"]
    objective.load_state_dict(state)
    with tempfile.TemporaryDirectory() as folder:
        objective.save(Path(folder))
        (out / "model").write_files(Path(folder))


STAGE = Stage("train", "fine-tunes the bi-encoder (Ray Train, DDP)", ("prepare", "curate"), settings, run, version=2)
