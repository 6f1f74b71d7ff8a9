"""review: a person looks at a sample of the curated labels; what they say goes into the data card and calibration."""

from __future__ import annotations

from typing import Any

from synthrec import console, schema
from synthrec.errors import UserError
from synthrec.pipeline import Pipeline
from synthrec.reports import data_card
from synthrec.review import decisions
from synthrec.review.sample import sample
from synthrec.review.server import Review, Server
from synthrec.review.summary import lines, summary


def run(pipeline: Pipeline, task: str | None, rows: int, port: int, reviewer: str) -> None:
    """Serve the page until interrupted, then renew the data card."""
    chosen = sampled(pipeline, task, rows)
    decided = [one for one in decisions.read(pipeline.root) if one.reviewer == reviewer]
    ledger = decisions.Ledger(pipeline.root, reviewer)
    try:
        server = Server(Review(chosen, decided, reviewer, ledger.append), port)
        console.say(f"{len(chosen)} rows to review; open this address in a browser here, and stop with Ctrl-C:")
        print(server.url, flush=True)  # a line of its own, never wrapped
        server.serve()
    except KeyboardInterrupt:
        console.say("stopped; the same command goes on from here")
    finally:
        ledger.close()
    tell(pipeline)


def sampled(pipeline: Pipeline, task: str | None, rows: int) -> list[dict[str, Any]]:
    """LABEL rows to review, each with its product's title. Raises UserError where there are none."""
    pipeline.needed("review", "curate")
    labels = (pipeline.folder("curate") / "labels").read_table(schema.LABEL).to_pylist()
    if task is not None and not any(row["task"] == task for row in labels):
        found = ", ".join(sorted({row["task"] for row in labels})) or "none"
        raise UserError(f"no curated label is of the task {task}", f"tasks with labels: {found}")
    catalogue = (pipeline.folder("prepare") / "catalogue").read_table(schema.CATALOGUE, ["product_id", "title"])
    titles = {row["product_id"]: row["title"] for row in catalogue.to_pylist()}
    wanted = [row for row in labels if task in (None, row["task"])]
    chosen = sample(wanted, rows, pipeline.config.seed)
    return [row | {"title": titles.get(row["product_id"])} for row in chosen]


def tell(pipeline: Pipeline) -> None:
    """Print what the reviewers found, and put it into the data card."""
    found = summary(decisions.read(pipeline.root))
    for line in lines(found) or ["nothing was reviewed yet"]:
        console.say(line)
    manifest = pipeline.manifest("curate")
    if not found or manifest is None:
        return
    with pipeline.root.locked():
        folder = pipeline.folder("curate")
        data_card.with_review(folder, found)
        (pipeline.root / "curate").write_json("manifest.json", manifest | {"files": folder.describe()})
    console.say(f"data card: {folder}/card.md")
