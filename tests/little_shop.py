"""A little shop with a run directory of its own, brought through prepare and synthesize as often as a test likes."""

from __future__ import annotations

import json
from types import SimpleNamespace

from synthrec import schema
from synthrec.config import Config
from synthrec.pipeline import Pipeline
from synthrec.stages import prepare, synthesize
from synthrec.storage import Folder

PRODUCTS = [
    ("k1", "en", "Tarrow Red Kettle", "Boils a litre in two minutes. Quiet enough for the night."),
    ("k2", "en", "Oakrun Dog Coat", "Keeps the belly dry in the rain. Folds into its own pocket."),
    ("k3", "en", "Merrow Garden Chair", "Packs flat for the back of a car. Holds a heavy sitter."),
    ("k4", "zh", "橡奔 狗狗雨衣", "下雨天遛狗不湿肚子。收起来只有巴掌大。"),
    ("k5", "zh", "塔柔 红色水壶", "一升水两分钟烧开。夜里也安静。"),
    ("k6", "zh", "沐朗 花园折叠椅", "小车后备箱也放得下。坐得稳不摇晃。"),
]
LONG = "long " * 600  # beyond any context here
REVIEWS = [
    ("r1", "k1", "I love it, best I ever had."),
    ("r2", "k2", "Terrible. It leaks and it smells."),
    ("r3", "k4", "太喜欢了，用过最好的。"),
    ("r4", "k5", "太差了，漏水，味道难闻。"),
]
TASKS_ON = {"queries": {"per_product": 2}, "relevance": {"candidates": 1}, "sentiment": {}}
FAKE = {"kind": "fake", "model": "none", "resources": {"batch_size": 5}}
# One thread: llama.cpp's threads wait for each other by spinning, which a busy machine makes slow.
ENGINE = {"context": 512, "resources": {"slots": 2, "threads": 1, "batch_size": 5}}


class Shop:
    """A shop's files and a run directory; `run` brings prepare and synthesize up to date."""

    def __init__(self, folder, products=PRODUCTS, reviews=REVIEWS):
        self.folder, self.run_dir = folder, folder / "run"
        keys = ("product_id", "language", "title", "description")
        self.write("p.jsonl", [dict(zip(keys, product, strict=True)) for product in products])
        keys = ("review_id", "product_id", "text")
        self.write("r.jsonl", [dict(zip(keys, review, strict=True)) for review in reviews])

    def write(self, name, rows):
        self.folder.mkdir(exist_ok=True)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (self.folder / name).write_text(text, encoding="utf-8")

    def run(self, tasks=TASKS_ON, engine=ENGINE, **settings):
        sources = {
            "products": {"path": str(self.folder / "p.jsonl")},
            "reviews": {"path": str(self.folder / "r.jsonl")},
        }
        values = {"name": "shop", "run_dir": str(self.run_dir), "sources": sources}
        values["synthesize"] = {"engine": engine, "tasks": tasks, "failure_window": 1000, **settings}
        config = Config.model_validate(values)
        pipeline = Pipeline(config, (prepare.STAGE, synthesize.STAGE))
        pipeline.run("prepare")
        manifest = pipeline.run("synthesize")
        out = pipeline.folder("synthesize")
        return SimpleNamespace(
            manifest=manifest,
            figures=manifest["figures"],
            asked={task: figures["now"]["rows"] for task, figures in manifest["figures"].items()},
            out=out,
            config=config,
            labels=(out / "labels").read_table(schema.LABEL),
            rejects=(out / "rejects").read_table(schema.REJECT),
            requests={task: (out / "requests" / task).read_table(schema.REQUEST) for task in manifest["figures"]},
        )

    def completions(self, task, which):
        return Folder.open(str(self.run_dir / "synthesize" / "completions" / task / which)).read_table(
            schema.COMPLETION
        )

    def ask_again(self, done):
        """As `synthrec synthesize --again`."""
        synthesize.ask_again(Pipeline(done.config, (prepare.STAGE, synthesize.STAGE)))

    def forget(self):
        """As if the run had been stopped just before it was published."""
        (self.run_dir / "synthesize" / "manifest.json").unlink()


def ids(table, column="id"):
    return sorted(table[column].to_pylist())


def accounted(done):
    """Each request is a label or a reject, and nothing else is."""
    for task, asked in done.requests.items():
        labels = [row["request_id"] for row in done.labels.to_pylist() if row["task"] == task]
        rejects = [i for i in done.rejects["where"].to_pylist() if i in set(asked["id"].to_pylist())]
        assert sorted(labels + rejects) == ids(asked), task
        figures = done.figures[task]
        assert (figures["requests"], figures["labels"], figures["rejects"]) == (len(asked), len(labels), len(rejects))
    every = {i for asked in done.requests.values() for i in asked["id"].to_pylist()}
    assert set(done.rejects["where"].to_pylist()) <= every
    return True
