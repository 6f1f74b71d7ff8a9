"""curate: labels -> the labels worth training on; each one refused keeps its reason."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from synthrec import console, schema
from synthrec.config import Config
from synthrec.curation import STEPS, Aids, Row
from synthrec.curation.base import EVERY_TASK
from synthrec.curation.clean import tidy
from synthrec.errors import UserError
from synthrec.pipeline import Context, Stage
from synthrec.reports import data_card
from synthrec.tasks.relevance import relevant


def settings(config: Config) -> Any:
    return [config.curate.model_dump(), [[step.name, step.task] for step in STEPS]]


def run(context: Context) -> dict[str, Any]:
    rows = (context.inputs["synthesize"] / "labels").read_table(schema.LABEL).to_pylist()
    products = (context.inputs["prepare"] / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id").to_pylist()
    by_task: dict[str, list[Row]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    figures: dict[str, Any] = {task: {"in": len(found), "steps": []} for task, found in by_task.items()}
    rejects: list[dict[str, str]] = []
    with console.meter("curate", None, "texts") as meter:
        known = {product["product_id"]: product for product in products}
        aids = Aids(context.config, known, _relevance(by_task.get("relevance", [])), meter)
        for step in STEPS:
            for task in [one for one in by_task if step.task in (one, EVERY_TASK)]:
                kept, refused = step.run(by_task[task], aids)
                rejects += [schema.reject("curate", r["id"], why, detail, r["text"]) for r, why, detail in refused]
                by_task[task] = kept
                figures[task]["steps"].append({"step": step.name, "kept": len(kept), "refused": len(refused)})
        meter.note = ", ".join(f"{len(found)} {task}" for task, found in by_task.items()) + " kept"
    _check(by_task, figures)
    kept_rows = sorted((row for found in by_task.values() for row in found), key=lambda row: (row["task"], row["id"]))
    (context.out / "labels").write_table("labels.parquet", schema.table(kept_rows, schema.LABEL))
    (context.out / "rejects").write_table("rejects.parquet", schema.table(rejects, schema.REJECT))
    data_card.write(context, rows, kept_rows, rejects, datetime.now(UTC).isoformat())
    console.say(f"    data card: {context.out}/card.md")
    return {task: figures[task] | {"kept": len(found)} for task, found in by_task.items()}


def _relevance(rows: list[Row]) -> dict[tuple[str, str], float]:
    return {(tidy(row["text"]), row["product_id"]): relevant(row["scores"]) for row in rows}


def _check(by_task: dict[str, list[Row]], figures: dict[str, Any]) -> None:
    if "queries" in by_task and not by_task["queries"]:
        steps = "; ".join(f"{s['step']} refused {s['refused']}" for s in figures["queries"]["steps"])
        raise UserError(
            f"no synthetic query is left of {figures['queries']['in']} ({steps})",
            "look at curate's rejects, then try another model or looser curate settings",
        )


STAGE = Stage("curate", "keeps the labels worth training on", ("prepare", "synthesize"), settings, run, version=5)
