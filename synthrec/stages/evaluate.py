"""evaluate: rank the whole catalogue for every judged query, beside strong baselines, and choose what to deploy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from rich.table import Column, Table

from synthrec import console, schema
from synthrec.config import Config, Source
from synthrec.evaluation import classification, judgments, metrics, systems
from synthrec.evaluation.judgments import Query
from synthrec.evaluation.significance import bootstrap_mean, compare, verdict
from synthrec.evaluation.systems import Ranked
from synthrec.pipeline import Context, Stage
from synthrec.retrieval.bm25 import BM25
from synthrec.sources import readers
from synthrec.sources.cleaning import LANGUAGES

if TYPE_CHECKING:
    from synthrec.recommenders.bi_encoder import BiEncoder

MEASURES: dict[str, Callable[[Ranked], metrics.Values]] = {
    "ndcg@10": lambda r: metrics.ndcg(r.ranking, r.gains, 10),
    "recall@10": lambda r: metrics.recall(r.ranking, r.gains, 10, judgments.RELEVANT),
    "recall@100": lambda r: metrics.recall(r.ranking, r.gains, 100, judgments.RELEVANT),
    "mrr@10": lambda r: metrics.mrr(r.ranking, r.gains, 10, judgments.RELEVANT),
}
# What each trained system is held against.
COMPARE = (
    ("fine-tuned encoder", "zero-shot encoder"),
    ("BM25 + fine-tuned", "BM25"),
    ("BM25 + fine-tuned", "BM25 + zero-shot"),
)


def settings(config: Config) -> Any:
    found = config.evaluate.model_dump()
    behaviour = config.evaluate.next_item
    given = {
        "evaluate.judgments": config.evaluate.judgments,
        "evaluate.next_item.path": behaviour and behaviour.path,
        "evaluate.next_item.tune_path": behaviour and behaviour.tune_path,
    }
    found["stamps"] = [readers.stamp(key, Source(path=path)) for key, path in given.items() if path]
    return [found, config.train.encoder, config.seed]


def run(context: Context) -> dict[str, Any]:
    config = context.config.evaluate
    catalogue = (context.inputs["prepare"] / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id")
    tune, test, left_out = queries(context.config, catalogue)
    if not test:
        console.warn("no judgments are configured: nothing is measured, and BM25 + fine-tuned is packaged untuned")
    result: dict[str, Any] = {"tune_queries": len(tune), "left_out": left_out, "test": None, "sentiment": None}
    result |= _rank_all(context, catalogue, tune, test)
    if config.sentiment_from_ratings:
        result["sentiment"] = _sentiment(context)
    context.out.write_json("metrics.json", result)
    _print(result)
    return {key: result[key] for key in ("test", "sentiment", "winner", "tune_queries", "left_out", "bm25")}


def queries(whole: Config, catalogue: pa.Table) -> tuple[list[Query], list[Query], int]:
    """Queries to tune on, queries to test on, and how many rows of behaviour could not be asked."""
    config, seed = whole.evaluate, whole.seed
    tune: list[Query] = []
    test: list[Query] = []
    left_out = 0
    if config.judgments:
        tune, test = judgments.split(judgments.load_graded(config.judgments), config.tune_share, seed)
    if config.next_item:
        titles = dict(zip(catalogue["product_id"].to_pylist(), catalogue["title"].to_pylist(), strict=True))
        more, left_out = judgments.load_next_item(
            config.next_item.path, config.next_item, titles, config.next_item.max_queries
        )
        if config.next_item.tune_path:
            earlier = config.next_item.tune_path
            tune += judgments.load_next_item(earlier, config.next_item, titles, config.next_item.max_tune_queries)[0]
            test += more
        else:
            more_tune, more_test = judgments.split(more, config.tune_share, seed)
            tune, test = tune + more_tune, test + more_test
    return tune, test, left_out


@contextmanager
def encoder(context: Context, name: str) -> Iterator[BiEncoder]:
    """One of systems.ENCODERS: as it comes, or as it was trained."""
    from synthrec.recommenders.bi_encoder import BiEncoder

    config = context.config.train
    if name == "zero-shot":
        yield BiEncoder.load(config.encoder, config.max_query_tokens, config.max_product_tokens)
        return
    with (context.inputs["train"] / "model").fetched() as folder:
        yield BiEncoder.load(str(folder))


def _rank_all(context: Context, catalogue: pa.Table, tune: list[Query], test: list[Query]) -> dict[str, Any]:
    ids, texts = catalogue["product_id"].to_pylist(), catalogue["text"].to_pylist()
    place = {product_id: i for i, product_id in enumerate(ids)}
    asked = [query.text for query in tune + test]
    once = list(dict.fromkeys(asked))  # next-item queries repeat: many shoppers bought the same product last
    row_of = {text: row for row, text in enumerate(once)}
    vectors = {}
    with console.meter("encode", len(systems.ENCODERS) * (len(texts) + len(once)), "texts") as meter:
        for name in systems.ENCODERS:
            with encoder(context, name) as one:
                products = one.encode(texts, tick=meter.advance)
                found = one.encode(once, query=True, tick=meter.advance)
            vectors[name] = (products, found[[row_of[text] for text in asked]])
    bm25 = systems.tune_bm25(texts, tune, place)
    index = BM25.build(texts, **bm25)
    split = len(tune)
    ranked: dict[str, tuple[Ranked, Ranked]] = {}
    weights: dict[str, dict[str, float]] = {"BM25": dict.fromkeys(LANGUAGES, 0.0)}
    lexical = [systems.lexical(index, part) for part in (tune, test)]
    ranked["BM25"] = _both(tune, test, place, lexical)
    for name, (products, found) in vectors.items():
        semantic = [systems.semantic(products, found[:split]), systems.semantic(products, found[split:])]
        ranked[f"{name} encoder"] = _both(tune, test, place, semantic)
        weights[f"{name} encoder"] = dict.fromkeys(LANGUAGES, 1.0)
        fusion = f"BM25 + {name}"
        weights[fusion] = systems.tune_weights(lexical[0], semantic[0], tune, place) if tune else {}
        mixed = [systems.fused(one, other, weights[fusion], part)
                 for one, other, part in zip(lexical, semantic, (tune, test), strict=True)]  # fmt: skip
        ranked[fusion] = _both(tune, test, place, mixed)
    winner = _winner(ranked, weights)
    with context.out.writing("vectors.npy") as file:
        np.lib.format.write_array(file, vectors[winner["encoder"]][0], allow_pickle=False)
    return {
        "bm25": bm25,
        "winner": winner,
        "weights": weights,
        "test": _measure(context, {name: found for name, (_, found) in ranked.items()}) if test else None,
    }


def _both(tune: list[Query], test: list[Query], place: dict[str, int], score: list[Any]) -> tuple[Ranked, Ranked]:
    return systems.rank(tune, place, score[0]), systems.rank(test, place, score[1])


def _winner(ranked: dict[str, tuple[Ranked, Ranked]], weights: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The system to deploy, chosen on the queries to tune on: the test stays unseen until the choice is made."""
    found = {name: tuned.ndcg() for name, (tuned, _) in ranked.items()}
    system, encoder = systems.choose(found)
    marks = {name: metrics.mean(values)[0] for name, values in found.items()}
    return {"system": system, "encoder": encoder, "weights": weights[system], "tune_ndcg@10": marks}


def _measure(context: Context, ranked: dict[str, Ranked]) -> dict[str, Any]:
    samples, seed = context.config.evaluate.bootstrap, context.config.seed
    values = {name: {m: f(found) for m, f in MEASURES.items()} for name, found in ranked.items()}
    asked = next(iter(ranked.values())).queries
    tongues = [q.language for q in asked]
    rows = []
    table: dict[str, Any] = {}
    for name, by_measure in values.items():
        table[name] = told(by_measure, tongues, samples, seed)
        for i, query in enumerate(asked):
            rows.append({"system": name, "query_id": query.query_id, **{m: v[i] for m, v in by_measure.items()}})
    context.out.write_table("per_query.parquet", pa.Table.from_pylist(rows))
    tests = compare({name: by_measure["ndcg@10"] for name, by_measure in values.items()}, COMPARE, samples, seed)
    for one in tests:
        one["verdict"] = verdict(one)
    counts = {t: tongues.count(t) for t in sorted(set(tongues))}
    excluded = sum(len(q.exclude) for q in asked)
    return {"queries": len(asked), "languages": counts, "systems": table, "comparisons": tests, "excluded": excluded}


def told_of(ranked: Ranked, config: Config) -> dict[str, Any]:
    """One system's measures, as the evaluation tells them."""
    values = {m: f(ranked) for m, f in MEASURES.items()}
    return told(values, [q.language for q in ranked.queries], config.evaluate.bootstrap, config.seed)


def told(values: dict[str, metrics.Values], tongues: list[str], samples: int, seed: int) -> dict[str, Any]:
    """Each measure's mean over the queries with its interval, and its means by language."""
    among = np.array(tongues)
    table: dict[str, Any] = {m: asdict(bootstrap_mean(v, samples, seed)) for m, v in values.items()}
    table["by_language"] = {
        tongue: {m: metrics.mean_or_none(v[among == tongue]) for m, v in values.items()}
        for tongue in sorted(set(tongues))
    }
    return table


def _sentiment(context: Context) -> dict[str, Any] | None:
    """The LLM's sentiment against the shoppers' ratings: 4-5 positive, 1-2 negative, 3 left out."""
    corpus = (context.inputs["prepare"] / "corpus").read_table(schema.CORPUS, ["doc_id", "kind", "fields"])
    reviews = corpus.filter(pads.field("kind") == "review").to_pylist()
    rating = {r["doc_id"]: int(v) for r in reviews if (v := schema.strings(r["fields"]).get("rating"))}
    gold = {doc: "positive" if v >= 4 else "negative" for doc, v in rating.items() if v != 3}
    asked = (context.inputs["synthesize"] / "requests" / "sentiment").read_table(schema.REQUEST, ["id", "fields"])
    doc_of = {r["id"]: schema.strings(r["fields"])["review"] for r in asked.to_pylist()}
    out = {}
    for name, stage in (("as the LLM scored it", "synthesize"), ("calibrated", "curate")):
        labels = (context.inputs[stage] / "labels").read_table(schema.LABEL).to_pylist()
        labels = [r for r in labels if r["task"] == "sentiment" and not r["facet"]]
        labels = [r for r in labels if doc_of.get(r["request_id"]) in gold]
        if not labels:
            return None
        out[name] = {
            tongue: _classified(gold, doc_of, [r for r in labels if tongue in ("all", r["language"])])
            for tongue in ("all", *sorted({r["language"] for r in labels}))
        }
    return out


def _classified(gold: dict[str, str], doc_of: dict[str, str], labels: list[dict[str, Any]]) -> dict[str, Any]:
    truth = [gold[doc_of[r["request_id"]]] for r in labels]
    found = classification.scores(truth, [r["label"] for r in labels])
    return {**found, "auc": classification.auc([t == "positive" for t in truth], [r["scores"][0] for r in labels])}


def _print(result: dict[str, Any]) -> None:
    if result["test"]:
        _print_ranking(result["test"])
    for name, by_language in (result["sentiment"] or {}).items():
        one = by_language["all"]
        console.say(
            f"    sentiment, {name}: precision {one['precision']:.3f}, recall {one['recall']:.3f}, F1 {one['f1']:.3f} "
            f"(macro), AUC {one['auc']:.3f}, against {one['support']:.0f} ratings"
        )


def _print_ranking(test: dict[str, Any]) -> None:
    tongues = list(test["languages"])
    title = f"{test['queries']} test queries, whole catalogue ranked; \\[low, high] is the 95% interval"
    table = Table(
        Column("system", no_wrap=True), *MEASURES, *[f"ndcg@10 {t}" for t in tongues], title=title, title_justify="left"
    )
    for name, by_measure in test["systems"].items():
        cells = [_cell(by_measure[m], m == "ndcg@10") for m in MEASURES]
        of_tongues = [by_measure["by_language"][t]["ndcg@10"] for t in tongues]
        cells += ["-" if one is None else f"{one:.3f}" for one in of_tongues]
        table.add_row(name, *cells)
    console.console.print(table)
    for one in test["comparisons"]:
        console.say(
            f"    {one['system']} against {one['baseline']}: {one['mean']:+.3f} NDCG@10 "
            f"[{one['low']:+.3f}, {one['high']:+.3f}], p {one['p_holm']:.3f}: {one['verdict']}"
        )


def _cell(value: dict[str, float], interval: bool) -> str:
    return f"{value['mean']:.3f}" + (f" \\[{value['low']:.3f}, {value['high']:.3f}]" if interval else "")


NEEDS = ("prepare", "synthesize", "curate", "train")
STAGE = Stage("evaluate", "measures every system against real judgments", NEEDS, settings, run, version=5)
