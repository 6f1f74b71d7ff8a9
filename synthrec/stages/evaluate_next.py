"""evaluate_next: every product ranked for every shopper, beside strong baselines; the best is chosen to be served."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pyarrow as pa
from rich.table import Column, Table

from synthrec import console
from synthrec.config import Config
from synthrec.evaluation import recommendation
from synthrec.evaluation.baselines import EASE, Fusion, ItemKNN, Likeness, Popularity, Welcoming
from synthrec.evaluation.metrics import mean_or_none
from synthrec.evaluation.recommendation import Judged
from synthrec.evaluation.significance import bootstrap_mean, compare
from synthrec.pipeline import Context, Stage
from synthrec.recommenders.base import Scorer
from synthrec.recommenders.ready import ITEM_KNN, NEIGHBOURS, Neighbours
from synthrec.stages import next_items
from synthrec.stages.next_items import Shop

MEASURES = ("ndcg@10", "recall@10", "hr@10", "mrr@10")
EASE_LIMIT = 20_000  # products: it holds products x products weights
TEXT = "text likeness"


def settings(config: Config) -> Any:
    return [config.recommend.models, next_items.settings(config), config.evaluate.bootstrap, config.seed]


def run(context: Context) -> dict[str, Any]:
    config = context.config.recommend
    shop = next_items.read(context)
    systems = _systems(context, shop)
    parts = {"validation": shop.split.validation, "test": shop.split.test}
    judged: dict[str, dict[str, Judged]] = {part: {} for part in parts}
    with console.meter("rank", len(systems) * sum(map(len, parts.values())), "shoppers") as meter:
        for name, system in systems.items():
            for part, cases in parts.items():
                found = recommendation.judge(system, cases, shop.split.train, config.filter_viewed, tick=meter.advance)
                judged[part][name] = found
    cold = recommendation.cold(shop.split.test, shop.split.train, len(shop.products))
    result = _measure(context, judged["test"], cold)
    marks = {name: float(one.by_case["ndcg@10"].mean()) for name, one in judged["validation"].items()}
    # Served can be what was trained, what needs no more than products' vectors, and what a small file holds; the test
    # has no say in the choice.
    result["validation_ndcg@10"] = marks
    result["winner"] = max((*config.models, TEXT, ITEM_KNN), key=marks.__getitem__)
    if isinstance(won := systems[result["winner"]].scorer, ItemKNN):
        with context.out.writing(f"model/{NEIGHBOURS}") as file:
            file.write(Neighbours(won.likeness).stored())
    result["comparisons"] = _compare(context, judged["test"], marks)
    context.out.write_json("metrics.json", result)
    _print(result)
    return {key: result[key] for key in ("systems", "winner", "cases", "cold_cases", "filter_viewed", "comparisons")}


def _systems(context: Context, shop: Shop) -> dict[str, Welcoming]:
    """Baselines, then what was trained. What has a text needs no training at all: it is the zero-shot row."""
    train, items = shop.split.train, len(shop.products)
    likeness, together = Likeness(next_items.vectors(context, shop.texts), last=3), ItemKNN(train, items)
    popularity = Popularity(train, items)
    systems: dict[str, Scorer] = {"popularity": popularity, ITEM_KNN: together}
    if items <= EASE_LIMIT:
        systems["EASE"] = EASE(train, items)
    systems |= {TEXT: likeness, f"{ITEM_KNN} + text": Fusion([(together, 1.0), (likeness, 1.0)])}
    systems |= {name: _trained(context, name) for name in context.config.recommend.models}
    return {name: Welcoming(system, popularity) for name, system in systems.items()}


def _trained(context: Context, name: str) -> Scorer:
    from synthrec import recommenders

    with (context.inputs[f"train_{name}"] / "model").fetched() as folder:
        return recommenders.scorer(name, folder)


def _measure(context: Context, judged: dict[str, Judged], cold: Any) -> dict[str, Any]:
    samples, seed = context.config.evaluate.bootstrap, context.config.seed
    systems, rows = {}, []
    for name, one in judged.items():
        found: dict[str, Any] = {m: asdict(bootstrap_mean(one.by_case[m], samples, seed)) for m in MEASURES}
        found |= {key: one.beyond[f"{key}@10"] for key in ("coverage", "novelty", "popularity")}
        found["cold_ndcg@10"], found["warm_ndcg@10"] = (mean_or_none(one.by_case["ndcg@10"][p]) for p in (cold, ~cold))
        systems[name] = found
        rows.append(pa.table({"system": [name] * len(cold), "cold": cold} | {m: one.by_case[m] for m in MEASURES}))
    context.out.write_table("per_case.parquet", pa.concat_tables(rows))
    viewed = context.config.recommend.filter_viewed
    return {"systems": systems, "cases": len(cold), "cold_cases": int(cold.sum()), "filter_viewed": viewed}


def _compare(context: Context, judged: dict[str, Judged], marks: dict[str, float]) -> list[dict[str, Any]]:
    """What was trained against the baseline that did best on the validation."""
    models = context.config.recommend.models
    best = max((name for name in judged if name not in models), key=marks.__getitem__)
    samples, seed = context.config.evaluate.bootstrap, context.config.seed
    values = {name: one.by_case["ndcg@10"] for name, one in judged.items()}
    return compare(values, [(name, best) for name in models], samples, seed)


def _print(result: dict[str, Any]) -> None:
    seen = "what a shopper has taken is never recommended" if result["filter_viewed"] else "nothing is filtered"
    title = f"{result['cases']} shoppers, all products ranked, {seen}; \\[low, high] is the 95% interval"
    table = Table(
        Column("system", no_wrap=True), *MEASURES, "cold", "warm", "coverage", title=title, title_justify="left"
    )
    for name, one in result["systems"].items():
        first = one["ndcg@10"]
        cells = [f"{first['mean']:.3f} \\[{first['low']:.3f}, {first['high']:.3f}]"]
        cells += [f"{one[m]['mean']:.3f}" for m in MEASURES[1:]]
        cells += ["-" if v is None else f"{v:.3f}" for v in (one["cold_ndcg@10"], one["warm_ndcg@10"])]
        table.add_row(name, *cells, f"{one['coverage']:.2f}")
    console.console.print(table)
    for one in result["comparisons"]:
        console.say(
            f"    {one['system']} against {one['baseline']}: {one['mean']:+.3f} NDCG@10 "
            f"[{one['low']:+.3f}, {one['high']:+.3f}], p {one['p_holm']:.3f}"
        )
    console.say(f"    chosen on the validation, to be served: {result['winner']}")


def stage(models: tuple[str, ...]) -> Stage:
    needs = ("prepare", "curate", "train", *(f"train_{name}" for name in models))
    return Stage("evaluate_next", "measures recommenders on what shoppers took next", needs, settings, run, version=3)
