"""curate: labels -> the labels worth training on; each one refused keeps its reason."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow.dataset as pads

from synthrec import cluster, console, schema
from synthrec.config import Config
from synthrec.curation import Aids, Row, chosen, plan
from synthrec.curation.clean import tidy
from synthrec.curation.gold import Gold, from_file, reviewed
from synthrec.errors import UserError
from synthrec.pipeline import Context, Stage
from synthrec.reports import data_card
from synthrec.storage import Folder
from synthrec.tasks import chosen_tasks
from synthrec.tasks.relevance import relevant


def settings(config: Config) -> Any:
    """A hash of the gold labels is part of it: others calibrate anew, and their texts, which are shoppers', stay out of
    the manifest."""
    root = Folder.open(config.run_dir, config.storage.key_source)
    said = gold(config, root) if "calibrate" in config.curate.steps else []
    return [config.curate.model_dump(), schema.row_id(said) if said else None]


def run(context: Context) -> dict[str, Any]:
    steps = chosen(context.config.curate.steps)
    _check_second(context.config)
    labels, prepared = context.inputs["synthesize"] / "labels", context.inputs["prepare"]
    cluster.start()
    work = context.keep("work") / context.out.path.rpartition("/")[2]
    aids = Aids(
        context.config,
        partial(catalogue, prepared),
        partial(scored, labels),
        labels,
        work,
        partial(gold, context.config, context.root),
    )
    with console.meter("curate", None, "rows") as meter:
        figures = plan.curate(labels, steps, aids, context.out, meter)
        meter.note = ", ".join(f"{one['kept']} {task}" for task, one in figures.items()) + " kept"
    _check(figures)
    data_card.write(context, figures, datetime.now(UTC).isoformat())
    console.say(f"    data card: {context.out}/card.md")
    work.delete()
    return figures


def catalogue(prepared: Folder) -> dict[str, Row]:
    """CATALOGUE rows by product id, in order of id."""
    rows = (prepared / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id").to_pylist()
    return {row["product_id"]: row for row in rows}


def scored(labels: Folder, products: Collection[str]) -> dict[tuple[str, str], float]:
    """(query, product) -> the LLM's probability that it fits, of these products."""
    where = (pads.field("task") == "relevance") & pads.field("product_id").isin(list(products))
    rows = labels.read_table(schema.LABEL, ["text", "product_id", "scores"], where).to_pylist()
    return {(tidy(row["text"]), row["product_id"]): relevant(row["scores"]) for row in rows}


def gold(config: Config, root: Folder) -> list[Gold]:
    """Right labels from the spot check and from a file of the user's own, as the config wants them."""
    own = config.curate
    return (reviewed(root) if own.learn_from_review else []) + (from_file(own.gold) if own.gold else [])


def _check_second(config: Config) -> None:
    """A slip in its name would let every label pass as agreed on."""
    own, second = {task.name for task in chosen_tasks(config)}, config.curate.second
    if "agreement" in config.curate.steps and not second:
        raise UserError("curate.steps: agreement has no second opinion", "set curate.second: {task: other task}")
    if unknown := sorted(set(second) - own):
        raise UserError(f"curate.second: no task '{unknown[0]}'", f"there are: {', '.join(sorted(own))}")


def _check(figures: dict[str, Any]) -> None:
    if "queries" in figures and not figures["queries"]["kept"]:
        steps = "; ".join(f"{s['step']} refused {s['refused']}" for s in figures["queries"]["steps"])
        raise UserError(
            f"no synthetic query is left of {figures['queries']['in']} ({steps})",
            "look at curate's rejects, then try another model or looser curate settings",
        )


STAGE = Stage("curate", "keeps the labels worth training on", ("prepare", "synthesize"), settings, run, version=8)
