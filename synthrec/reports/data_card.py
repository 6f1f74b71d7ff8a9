"""card.json and card.md: what the curated labels are, where they come from, how varied, and what is not in them."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from typing import Any

import jinja2
import pyarrow.compute as pc
import pyarrow.dataset as pads

import synthrec
from synthrec import schema
from synthrec.engines import Sampling
from synthrec.evaluation import diversity
from synthrec.pipeline import Context
from synthrec.review import decisions
from synthrec.review.summary import summary, told
from synthrec.storage import Folder
from synthrec.synthesis.requests import model_name
from synthrec.tasks import Task, chosen_tasks

Rows = list[dict[str, Any]]
NEAR_COPIES = ("copy of the title", "copy of the prompt", "duplicate", "near-duplicate", "semantic duplicate")
LEAST = 20  # fewer texts than these say nothing of variety


def write(context: Context, figures: dict[str, dict[str, Any]], made: str) -> dict[str, Any]:
    """Write both files into the stage's folder, whose labels are written already.

    Args:
        figures: of curation, by task; see `curation.plan.curate`.
        made: time, ISO 8601.
    """
    card = collect(context, figures) | {"made": made}
    context.out.write_json("card.json", card)
    context.out.write_bytes("card.md", markdown(card).encode())
    return card


def collect(context: Context, figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    config, prepared = context.config, context.manifests["prepare"]["figures"]
    kept = _counted(context.out / "labels")
    queries = figures.get("queries", {"in": 0, "refused": {}})
    copies = sum(count for reason, count in queries["refused"].items() if reason in NEAR_COPIES)
    personal: Counter[str] = Counter()
    for one in figures.values():
        personal.update(one["personal"])
    return {
        "name": config.name,
        "synthrec": synthrec.__version__,
        "model": model_name(config.synthesize.engine),
        "languages": sorted({row["language"] for row in kept}),
        "size": _size(sum(row["count"] for row in kept)),
        "sources": {kind: counts["rows"] for kind, counts in prepared["sources"].items()},
        "tasks": {t.name: _task(context, t, figures.get(t.name, NONE), kept) for t in chosen_tasks(config)},
        "lineage": {name: m["fingerprint"] for name, m in context.manifests.items()},
        "near_copies": copies / queries["in"] if queries["in"] else 0.0,
        "diversity": _diversity(context),
        "personal_data": {
            "sources": prepared["personal_data"],
            "kept": dict(personal),
            "kinds": list(config.privacy.kinds),
        },
        "review": summary(decisions.read(context.root)),
    }


NONE: dict[str, Any] = {"in": 0, "kept": 0, "refused": {}}


def _counted(labels: Folder) -> Rows:
    """How many labels there are of each task, facet, language and label; `scored`: they were chosen, not written."""
    table = labels.read_table(schema.LABEL, ["task", "facet", "language", "label", "labels"])
    table = table.set_column(4, "scored", table["labels"].is_valid())
    written = pc.if_else(table["scored"], table["label"], "")  # what is written differs row by row
    table = table.set_column(3, "label", written)
    keys = ["task", "facet", "language", "label", "scored"]
    return table.group_by(keys).aggregate([([], "count_all")]).rename_columns([*keys, "count"]).to_pylist()


def with_review(folder: Folder, found: dict[str, Any]) -> None:
    """Write a published card anew with what reviewers found since; nothing else of it changes."""
    card = folder.read_json("card.json") | {"review": found}
    folder.write_json("card.json", card)
    folder.write_bytes("card.md", markdown(card).encode())


def markdown(card: dict[str, Any]) -> str:
    """The card for people, with the front matter of a Hugging Face dataset card."""
    source = (files("synthrec.reports") / "data_card.md").read_text(encoding="utf-8")
    # Markdown, not HTML: nothing of the shop's free text enters the card, so nothing is escaped.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    environment.filters["counts"] = lambda counts: ", ".join(f"{n:,} {name}" for name, n in counts.items())
    environment.filters["told"] = told
    return environment.from_string(source).render(**card)


def _task(context: Context, task: Task, figures: dict[str, Any], kept: Rows) -> dict[str, Any]:
    own = [row for row in kept if row["task"] == task.name]
    asked = context.manifests["synthesize"]["figures"][task.name]
    languages: Counter[str] = Counter()
    for row in own:
        languages[row["language"]] += row["count"]
    return {
        "version": task.version,
        "questions": [_question(task, facet, tongue, own) for facet, tongue in sorted(task.templates)],
        "asked": asked["requests"],
        "labelled": figures["in"],
        "kept": figures["kept"],
        "languages": dict(sorted(languages.items())),
        "labels": _labels(own),
        "refused": {**({"no label": asked["rejects"]} if asked["rejects"] else {}), **figures["refused"]},
    }


def _question(task: Task, facet: str, tongue: str, own: Rows) -> dict[str, str]:
    """One of the task's prompts: its hash, and how it was answered."""
    chose = any(row["scored"] for row in own if row["facet"] == facet)
    sampling = "label probabilities" if chose else _sampling(task.sampling(facet))
    return {"facet": facet, "language": tongue, "prompt": task.made_of(tongue, facet), "sampling": sampling}


def _labels(own: Rows) -> dict[str, int]:
    """How often each label was chosen; nothing where labels are texts of the shop's, as many as there are rows."""
    counts: Counter[str] = Counter()
    for row in own:
        if row["scored"]:
            counts[row["label"]] += row["count"]
    return dict(counts.most_common()) if len(counts) <= schema.FEW_LABELS else {}


def _sampling(one: Sampling) -> str:
    return f"temperature {one.temperature:g}, top-p {one.top_p:g}, at most {one.max_tokens} tokens"


def _diversity(context: Context) -> dict[str, Any]:
    """Synthetic queries beside the shop's real searches, by language."""
    from synthrec.recommenders.bi_encoder import BiEncoder

    corpus = (context.inputs["prepare"] / "corpus").read_table(schema.CORPUS, ["kind", "language", "text"])
    searches = corpus.filter(pads.field("kind") == "search").to_pylist()
    where = pads.field("task") == "queries"
    queries = (context.out / "labels").read_table(schema.LABEL, ["language", "text"], where).to_pylist()
    encoder = None
    found: dict[str, Any] = {}
    for tongue in sorted({row["language"] for row in queries}):
        ours, theirs = ([row["text"] for row in rows if row["language"] == tongue] for rows in (queries, searches))
        ours, theirs = diversity.matched(ours, theirs)
        if len(ours) < LEAST:
            continue
        encoder = encoder or BiEncoder.load(context.config.curate.roundtrip_encoder)
        found[tongue] = {"texts": len(ours), "synthetic": _measures(ours, encoder), "real": _measures(theirs, encoder)}
    return found


def _measures(texts: list[str], encoder: Any) -> dict[str, float]:
    return {
        "distinct_1": diversity.distinct(texts, 1),
        "distinct_2": diversity.distinct(texts, 2),
        "self_bleu": diversity.self_bleu(texts),
        "vendi": diversity.vendi(encoder.encode(texts, query=True)),
    }


def _size(rows: int) -> str:
    """Hugging Face's name for a number of rows."""
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < limit:
            return name
    return "n>1M"
