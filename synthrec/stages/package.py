"""package: the system that evaluation chose -> a bundle."""

from __future__ import annotations

import io
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

import synthrec
from synthrec import bundle, console, schema
from synthrec.compression.encoder import Encoder, load
from synthrec.config import Config, Package
from synthrec.errors import UserError
from synthrec.evaluation.compressed import Judge, Judged
from synthrec.pipeline import Context, Stage
from synthrec.recommenders import ready
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.retrieval.bm25 import BM25
from synthrec.sources.cleaning import clean
from synthrec.stages import evaluate, evaluate_next, parts


def settings(config: Config) -> Any:
    models = [config.recommend.models, config.train.models]
    return [bundle.FORMAT, models, config.package.model_dump(), config.storage.encrypt]


def run(context: Context) -> dict[str, Any]:
    folder = context.out.local
    manifest = _packaged(folder) or _package(context, folder)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    console.say(
        f"    {manifest['system']} over {manifest['products']} products, encoder in {manifest['encoder']['kind']}, "
        f"{size / 1e6:.0f} MB: {folder}"
    )
    return {name: manifest[name] for name in ("system", "encoder", "products")} | {"bytes": size}


def _packaged(folder: Path) -> dict[str, Any] | None:
    """The manifest of a bundle that stands here already, made with the settings that are set again: replicas may have
    its files mapped, so it is never written anew."""
    if not (folder / bundle.MANIFEST).is_file():
        return None
    try:
        return bundle.check(folder)
    except UserError as error:
        console.warn(f"{error.problem}: it is packaged anew")
        (folder / bundle.MANIFEST).unlink()
        return None


def _package(context: Context, folder: Path) -> dict[str, Any]:
    tuned = context.inputs["evaluate"].read_json("metrics.json")
    winner = tuned["winner"]
    catalogue = (context.inputs["prepare"] / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id")
    texts = catalogue["text"].to_pylist()
    index = BM25.build(texts, **tuned["bm25"])
    shutil.rmtree(folder / "model", ignore_errors=True)
    encoder, judged = _encoder(context, catalogue, index, winner, folder / "model")
    recommender = _recommender(context, folder)
    answers = parts.write(context, catalogue, judged.vectors, folder)
    measured = tuned["test"]["systems"][winner["system"]] if tuned["test"] else {}
    if measured and encoder["kind"] != "float32":
        measured = evaluate.told_of(judged.test, context.config)
    manifest = bundle.write(
        folder,
        catalogue,
        judged.vectors,
        index,
        {
            "name": context.config.name,
            "made": datetime.now(UTC).isoformat(),
            "synthrec": synthrec.__version__,
            "system": winner["system"],
            "weights": judged.weights,
            "encoder": encoder,
            "recommender": recommender,
            "parts": answers,
            "settled": context.config.package.settled,
            "metrics": measured,
            "lineage": {name: m["fingerprint"] for name, m in context.manifests.items()},
        },
    )
    bundle.check(folder)
    return manifest


def _encoder(
    context: Context, catalogue: pa.Table, index: BM25, winner: dict[str, Any], model: Path
) -> tuple[dict[str, Any], Judged]:
    """Write the encoder that serves into `model`; which it is and what it costs, and the system judged with it."""
    config = context.config.package
    tune, test, _ = evaluate.queries(context.config, catalogue)
    place = {product: i for i, product in enumerate(catalogue["product_id"].to_pylist())}
    judge = Judge(catalogue["text"].to_pylist(), place, index, winner["weights"], tune, test)
    vectors = np.load(io.BytesIO(context.inputs["evaluate"].read_bytes("vectors.npy")), allow_pickle=False)
    with evaluate.encoder(context, winner["encoder"]) as whole:
        plain = judge.judge(whole, vectors)
        kept, judged = "float32", plain
        told: dict[str, Any] = {"asked": config.encoder, "ndcg@10": {"float32": plain.ndcg}}
        if config.encoder != "float32":
            kind = "int8" if config.encoder == "auto" else config.encoder
            asked = {clean(query.text) for query in (*tune, *test)}
            small = judge.judge(_compressed(context, whole, judge.texts, asked, kind, model))
            told["ndcg@10"][kind] = small.ndcg
            if _worth(config, kind, plain, small):
                kept, judged = kind, small
        if kept == "float32":
            shutil.rmtree(model, ignore_errors=True)
            whole.save(model)
    # JSON knows no NaN: without judgments there is no figure.
    told["ndcg@10"] = {
        kind: {part: None if np.isnan(value) else value for part, value in figures.items()}
        for kind, figures in told["ndcg@10"].items()
    }
    return told | {"kind": kept}, judged


def _compressed(
    context: Context, whole: BiEncoder, texts: list[str], judged: set[str], kind: str, model: Path
) -> Encoder:
    if kind == "static":
        from synthrec.compression.distil import distil

        distil(whole, _queries(context, judged), texts).save(model)
    else:
        from synthrec.compression.export import export

        export(whole, model)
    return load(model)


def _queries(context: Context, judged: set[str]) -> list[str]:
    """What shoppers typed, and what the LLM wrote for them; no judged query, which are for measuring alone."""
    searches = pads.field("kind") == "search"
    typed = (context.inputs["prepare"] / "corpus").read_table(schema.CORPUS, ["text", "kind"], searches)
    written = (context.inputs["curate"] / "labels").read_table(
        schema.LABEL, ["text", "task"], pads.field("task") == "queries"
    )
    return sorted({text for table in (typed, written) for text in table["text"].to_pylist() if text} - judged)


def _worth(config: Package, kind: str, plain: Judged, small: Judged) -> bool:
    """Whether to package the compressed encoder. One that was asked for by name is; its cost is told."""
    before, after = plain.ndcg["tune"], small.ndcg["tune"]
    if np.isnan(before) or np.isnan(after):
        if config.encoder == "auto":
            console.warn(f"no judgments show what {kind} would cost: the encoder is packaged in float32")
            return False
        console.warn(f"no judgments show what {kind} costs; it is packaged as package.encoder asks")
        return True
    said = f"NDCG@10 {after:.3f} with {kind}, {before:.3f} with float32, on the queries to tune on"
    if after >= (1 - config.max_loss) * before:
        console.say(f"    {said}")
        return True
    if config.encoder == "auto":
        console.warn(f"{said}: that is more than package.max_loss, so the encoder is packaged in float32")
        return False
    console.warn(f"{said}; it is packaged as package.encoder asks")
    return True


def _recommender(context: Context, folder: Path) -> dict[str, Any] | None:
    """Put the recommender that evaluation chose into the bundle; None where the config trains none.

    The text likeness needs no more than the products' vectors, which are there; the evaluation kept ItemKNN.
    """
    shutil.rmtree(folder / "recommender", ignore_errors=True)
    if not context.config.recommend.models:
        return None
    judged = context.inputs["evaluate_next"].read_json("metrics.json")
    winner = judged["winner"]
    if winner != evaluate_next.TEXT:
        made = context.inputs["evaluate_next" if winner == ready.ITEM_KNN else f"train_{winner}"]
        with (made / "model").fetched() as model:
            ready.pack(winner, model, folder / "recommender")
    learnt_from = {"filter_viewed": judged["filter_viewed"], "events": list(context.config.recommend.events)}
    return {"system": winner, "metrics": judged["systems"][winner], **learnt_from}


def stage(config: Config) -> Stage:
    """It holds what was trained, and of the recommenders of the next product the winner."""
    trained = [f"train_{name}" for name in (*config.train.models, *config.recommend.models)]
    judged = ["evaluate_next"] if config.recommend.models else []
    needs = ("prepare", "synthesize", "curate", "train", "evaluate", *trained, *judged)
    return Stage("package", "builds the bundle that serve loads", needs, settings, run, version=6, sealed=False)
