"""LABEL rows made by hand, and what curation steps may look things up in."""

from __future__ import annotations

import json
import math

from synthrec.config import Config
from synthrec.curation import STEPS, Aids
from synthrec.schema import GRADES
from synthrec.sources import documents, records
from synthrec.sources.cleaning import clean
from synthrec.storage import Folder

LABELS = {"sentiment": ["positive", "negative"], "relevance": list(GRADES)}
TITLES = {"k1": "Tarrow Cast Iron Skillet, 10.25 in", "k2": "Tarrow Red Kettle", "k3": "橡奔 狗狗防水雨衣 中号"}


def config(**wanted):
    values = {"name": "x", "run_dir": "x", "sources": {"products": {"path": "x"}}, "curate": wanted}
    return Config.model_validate(values)


def aids(products=None, relevance=None, labels=None, work=None, gold=(), **wanted):
    known = products or {i: {"product_id": i, "title": title, "text": title} for i, title in TITLES.items()}
    folder = Folder.open(str(work)) if work else None
    return Aids(config(**wanted), lambda: known, lambda products: relevance or {}, labels, folder, lambda: list(gold))


def whole(name, rows, known):
    """A step by its name, on rows that are all there are."""
    step = STEPS[name]
    return step.apply(rows, known, step.learn([rows], known) if step.learn else None)


def query(text, product_id="k1", number=0, language="en", label="colour: red"):
    made = {"id": f"q{number:03d}", "request_id": f"r{number}", "task": "queries", "language": language}
    made |= {"facet": "", "prompt": "p"}
    return made | {"text": text, "product_id": product_id, "label": label, "model": "m"}


def scored(number, logits, language="en", task="sentiment", **more):
    total = sum(map(math.exp, logits))
    scores = [math.exp(x) / total for x in logits]
    best = max(range(len(scores)), key=scores.__getitem__)
    made = {"id": f"s{number:03d}", "request_id": f"r{number}", "task": task, "language": language, "model": "m"}
    labels = LABELS[task]
    made |= {"text": f"text {number}", "product_id": "k1", "label": labels[best], "labels": labels, "facet": ""}
    return made | {"score": scores[best], "scores": scores, "prior": [0.0] * len(labels), "prompt": "p"} | more


def shelf_of(store):
    """Ten real products, five of each language, as prepare would catalogue them."""
    rows = [json.loads(line) for line in (store / "products.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for la in ("en", "zh") for row in [r for r in rows if r["language"] == la][:5]]
    made = [documents.product_row(records.Product.model_validate(row), clean) for row in rows]
    return {row["product_id"]: row for row in sorted(made, key=lambda row: row["product_id"])}
