"""What calibration does to label scores: macro-F1 and AUC on Chinese shop reviews that people have judged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq

from synthrec import schema
from synthrec.config import Engine as EngineSettings
from synthrec.config import SentimentTask
from synthrec.curation.calibrate import calibrated, learn
from synthrec.engines import load
from synthrec.evaluation.classification import auc, scores
from synthrec.synthesis.parse import label, verdict
from synthrec.synthesis.requests import of_record
from synthrec.synthesis.worker import ask, completion
from synthrec.tasks import Shop
from synthrec.tasks.sentiment import Sentiment

ROWS = 400
HOW: tuple[str, ...] = ("none", "contextual", "batch")


def calibration(folder: Path, data: str) -> dict[str, Any] | None:
    """None where the data is not there."""
    path = Path(data) / "reviews.parquet"
    if not path.is_file():
        return None
    reviews = sorted(pq.read_table(path).to_pylist(), key=lambda row: schema.row_id("calibration", row["review_id"]))
    gold = {f"review:{row['review_id']}": row["label"] for row in reviews[:ROWS]}
    rows = _scored([row for row in reviews[:ROWS] if row["text"]])
    found: dict[str, Any] = {"rows": len(rows)}
    for how in HOW:
        aids: Any = SimpleNamespace(config=SimpleNamespace(curate=SimpleNamespace(calibration=how)), gold=list)
        kept, _ = calibrated(rows, aids, learn([rows], aids))
        good = [row["scores"][0] for row in kept]
        truth = [gold[row["sources"][0]] == 1 for row in kept]
        told = scores([str(one) for one in truth], [str(one > 0.5) for one in good])
        found[how] = {"macro_f1": told["f1"], "auc": auc(truth, good)}
    return {"calibration": found}


def _scored(reviews: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """LABEL rows of the reviews, by the embedded LLM."""
    task, model = Sentiment(SentimentTask()), "llamacpp:embedded"
    records = [
        {"doc_id": f"review:{r['review_id']}", "language": "zh", "text": r["text"], "product_id": ""} for r in reviews
    ]
    asked = [one for record in records for one in of_record(task, record, Shop(None), model)]  # type: ignore[arg-type]
    engine = load(EngineSettings())
    answered = ask(engine, {task.name: task}, asked, {})
    engine.close()
    rows = [completion(*pair, model) for pair in zip(asked, answered, strict=True)]
    return [label(task, row, verdict(task, row)) for row in rows if not row["error"]]  # type: ignore[arg-type]
