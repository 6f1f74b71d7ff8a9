"""report.json and report.html: what went in, what the LLM wrote, what was refused, what came of it, what it took."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from typing import Any

import jinja2

from synthrec import console, schema
from synthrec.pipeline import Pipeline
from synthrec.reports import charts

SAMPLES = 12
REJECT_SAMPLES = 3


def write(pipeline: Pipeline) -> None:
    """Write both files into the run directory, from the published stages. The same run gives the same report."""
    report = collect(pipeline)
    pipeline.root.write_json("report.json", report)
    pipeline.root.write_bytes("report.html", html(report).encode())
    console.say(f"{pipeline.root}/report.html", "report")


def collect(pipeline: Pipeline) -> dict[str, Any]:
    """All figures of the report, JSON-able."""
    manifests = {name: found for name in pipeline.stages if (found := pipeline.manifest(name))}
    figures = {name: manifest["figures"] for name, manifest in manifests.items()}
    config = pipeline.config
    synthesis = figures["synthesize"]
    return {
        "name": config.name,
        "synthrec": next(iter(manifests.values()))["synthrec"],
        "made": max(m["made"] for m in manifests.values()),
        "engine": f"{config.synthesize.engine.kind}: {config.synthesize.engine.model}",
        "encoder": config.train.encoder,
        "sources": figures["prepare"]["sources"],
        "duplicates": figures["prepare"]["duplicates"],
        "personal_data": figures["prepare"]["personal_data"],
        "languages": _languages(pipeline),
        "synthesis": synthesis,
        "curation": figures["curate"],
        "training": figures["train"],
        "evaluation": {k: figures["evaluate"][k] for k in ("test", "winner", "bm25", "tune_queries", "left_out")},
        "next_items": figures.get("evaluate_next"),
        "sentiment": figures["evaluate"]["sentiment"],
        "bundle": figures["package"],
        "queries": _queries(pipeline),
        "judged": _judged(pipeline),
        "rejects": _rejects(pipeline),
        "seconds": {name: m["seconds"] for name, m in manifests.items()},
        "tokens": {t: {k: s[k] for k in ("prompt_tokens", "completion_tokens")} for t, s in synthesis.items()},
        "lineage": {name: {"fingerprint": m["fingerprint"], "made": m["made"]} for name, m in manifests.items()},
    }


def html(report: dict[str, Any]) -> str:
    """The page, whole in one file; every value is escaped."""
    source = (files("synthrec.reports") / "run_report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["clock"] = console.clock
    return environment.from_string(source).render(**report, charts=_charts(report), told=headline(report))


def headline(report: dict[str, Any]) -> str:
    """The result in a sentence or two, for someone who reads nothing else."""
    test, winner = report["evaluation"]["test"], report["evaluation"]["winner"]["system"]
    if not test:
        return f"{winner} is packaged, untested: no real judgments were configured."
    best, bm25 = test["systems"][winner]["ndcg@10"]["mean"], test["systems"]["BM25"]["ndcg@10"]["mean"]
    text = (
        f"{winner} is packaged. On {test['queries']} judged test queries its NDCG@10 is {best:.3f}; "
        f"keyword search (BM25) has {bm25:.3f}."
    )
    weak = [t for t in test["comparisons"] if t["verdict"] != "better"]
    for one in weak:
        text += f" {one['system']} does not beat {one['baseline']} beyond chance ({one['verdict']})."
    return text


def _charts(report: dict[str, Any]) -> dict[str, str]:
    test = report["evaluation"]["test"]
    drawn = {"seconds": charts.bars(report["seconds"], "seconds")}
    if test:
        winner = report["evaluation"]["winner"]["system"]
        drawn["systems"] = charts.systems(test["systems"], "ndcg@10", winner, "queries")
        drawn["differences"] = charts.differences(test["comparisons"])
    if taken := report["next_items"]:
        drawn["next_items"] = charts.systems(taken["systems"], "ndcg@10", taken["winner"], "shoppers")
    if report["training"]["loss"]:
        drawn["loss"] = charts.curve(report["training"]["loss"], "epoch", "training loss")
    return drawn


def _languages(pipeline: Pipeline) -> dict[str, dict[str, int]]:
    corpus = (pipeline.folder("prepare") / "corpus").read_table(schema.CORPUS, ["kind", "language"]).to_pylist()
    counts: dict[str, Counter[str]] = {}
    for row in corpus:
        counts.setdefault(row["kind"], Counter())[row["language"]] += 1
    return {kind: dict(sorted(c.items())) for kind, c in sorted(counts.items())}


def _queries(pipeline: Pipeline) -> list[dict[str, Any]]:
    """A few queries of each language that were kept, beside the product that each was written for."""
    titles = _titles(pipeline)
    return [
        {"text": r["text"], "language": r["language"], "product": titles.get(r["product_id"], ""), "aspect": r["label"]}
        for r in _sample(_labels(pipeline), "queries")
    ]


def _judged(pipeline: Pipeline) -> dict[str, list[dict[str, Any]]]:
    titles = _titles(pipeline)
    rows = _labels(pipeline)
    keep = ("facet", "text", "label", "score", "language")
    return {
        task: [{k: r[k] for k in keep} | {"product": titles.get(r["product_id"], "")} for r in _sample(rows, task)]
        for task in sorted({r["task"] for r in rows if r["task"] != "queries"})
    }


def _labels(pipeline: Pipeline) -> list[dict[str, Any]]:
    return (pipeline.folder("curate") / "labels").read_table(schema.LABEL).to_pylist()


def _titles(pipeline: Pipeline) -> dict[str, str]:
    table = (pipeline.folder("prepare") / "catalogue").read_table(schema.CATALOGUE, ["product_id", "title"])
    return dict(zip(table["product_id"].to_pylist(), table["title"].to_pylist(), strict=True))


def _sample(rows: list[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    """The same rows each time, half of each language where there are two."""
    found = sorted((r for r in rows if r["task"] == task), key=lambda r: schema.row_id("sample", r["id"]))
    tongues = sorted({r["language"] for r in found})
    return [r for tongue in tongues for r in [r for r in found if r["language"] == tongue][: SAMPLES // len(tongues)]]


def _rejects(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Reasons by stage, commonest first, with examples."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for stage in ("prepare", "synthesize", "curate"):
        for row in (pipeline.folder(stage) / "rejects").read_table(schema.REJECT).to_pylist():
            groups.setdefault((row["stage"], row["reason"]), []).append(row)
    found = []
    for (stage, reason), rows in sorted(groups.items(), key=lambda item: -len(item[1])):
        rows.sort(key=lambda r: schema.row_id(r["where"], r["raw"]))
        examples = [{"raw": r["raw"][:160], "detail": r["detail"][:200]} for r in rows[:REJECT_SAMPLES]]
        found.append({"stage": stage, "reason": reason, "count": len(rows), "examples": examples})
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]
