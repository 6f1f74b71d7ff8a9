"""package: the system that evaluation chose -> a bundle."""

from __future__ import annotations

import io
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import synthrec
from synthrec import bundle, console, schema
from synthrec.config import Config
from synthrec.pipeline import Context, Stage
from synthrec.retrieval.bm25 import BM25


def settings(config: Config) -> Any:
    return [bundle.FORMAT, config.recommend.models]


def run(context: Context) -> dict[str, Any]:
    tuned = context.inputs["evaluate"].read_json("metrics.json")
    catalogue = (context.inputs["prepare"] / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id")
    folder = context.out.local
    shutil.rmtree(folder / "model", ignore_errors=True)
    with (context.inputs["train"] / "model").fetched() as model:
        shutil.copytree(model, folder / "model", ignore=shutil.ignore_patterns(".*"))
    recommender = _recommender(context, folder)
    vectors = np.load(io.BytesIO(context.inputs["evaluate"].read_bytes("vectors.npy")), allow_pickle=False)
    winner = tuned["winner"]
    lineage = {name: m["fingerprint"] for name, m in context.manifests.items()}
    manifest = bundle.write(
        folder,
        catalogue,
        vectors,
        BM25.build(catalogue["text"].to_pylist(), **tuned["bm25"]),
        {
            "name": context.config.name,
            "made": datetime.now(UTC).isoformat(),
            "synthrec": synthrec.__version__,
            "system": winner["system"],
            "weights": winner["weights"],
            "recommender": recommender,
            "metrics": tuned["test"]["systems"][winner["system"]] if tuned["test"] else {},
            "lineage": lineage,
        },
    )
    bundle.check(folder)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    console.say(f"    {manifest['system']} over {manifest['products']} products, {size / 1e6:.0f} MB: {folder}")
    return {"system": winner["system"], "products": manifest["products"], "bytes": size}


def _recommender(context: Context, folder: Path) -> dict[str, Any] | None:
    """Put the recommender that evaluation chose into the bundle; None where the config trains none.

    The text likeness needs no more than the products' vectors, which are there.
    """
    shutil.rmtree(folder / "recommender", ignore_errors=True)
    if not context.config.recommend.models:
        return None
    judged = context.inputs["evaluate_next"].read_json("metrics.json")
    winner = judged["winner"]
    if winner in context.config.recommend.models:
        with (context.inputs[f"train_{winner}"] / "model").fetched() as model:
            shutil.copytree(model, folder / "recommender", ignore=shutil.ignore_patterns(".*"))
    return {"system": winner, "metrics": judged["systems"][winner], "filter_viewed": judged["filter_viewed"]}


def stage(models: tuple[str, ...]) -> Stage:
    """`models`: the recommenders of the next product, whose winner goes into the bundle."""
    behaviour = (*(f"train_{name}" for name in models), "evaluate_next") if models else ()
    needs = ("prepare", "synthesize", "curate", "train", "evaluate", *behaviour)
    return Stage("package", "builds the bundle that serve loads", needs, settings, run, sealed=False)
