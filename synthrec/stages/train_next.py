"""train_sequential, train_graph: what shoppers did, and what the LLM thinks they would do -> what they take next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synthrec.config import Config, GraphModel, NextModel, SequentialModel
from synthrec.errors import UserError
from synthrec.pipeline import Context, Stage
from synthrec.recommenders.base import Cases
from synthrec.stages import fitting, next_items
from synthrec.stages.next_items import Shop
from synthrec.training.behaviour import held

if TYPE_CHECKING:
    from synthrec.training.loop import Plan

ITEMS = pa.list_(pa.int64())
SEQUENCE = pa.schema([pa.field("items", ITEMS, nullable=False), pa.field("weight", pa.float32(), nullable=False)])
PAIR = pa.schema([pa.field(name, pa.int64(), nullable=False) for name in ("user", "item")])
CASE = pa.schema(
    [
        pa.field("user", pa.int64(), nullable=False),
        pa.field("history", ITEMS, nullable=False),
        pa.field("target", ITEMS, nullable=False),
    ]
)
Made = tuple[Any, pa.Table, dict[str, Any]]  # a model to start from, what it learns from, figures
Vectors = NDArray[np.float32]  # (products, width), of their texts
Start = Callable[[Any, int, Shop, Vectors | None], Made]  # of settings and a seed


def settings(name: str, config: Config) -> Any:
    own = config.recommend
    thought = [own.sessions, own.sessions_weight]
    return [getattr(own, name).own(), next_items.settings(config), thought, fitting.layout(config)]


def _run(name: str, context: Context) -> dict[str, Any]:
    config = getattr(context.config.recommend, name)
    workers = fitting.workers(context)
    shop = next_items.read(context)
    vectors = next_items.vectors(context, shop.texts) if config.text else None
    seed = context.config.seed
    model, rows, figures = STARTS[name](config, seed, shop, vectors)
    validation = table(shop.split.validation)
    plan = _plan(config, rows.num_rows, workers, seed)
    metrics = fitting.fitted(context, name, config.own(), plan, rows, model.save, validation)
    return figures | {
        "shoppers": len(shop.users),
        "precision": metrics.get("precision"),
        "validation_ndcg@10": [round(one, 5) for one in metrics.get("values", [])],
        "best_epoch": metrics.get("best_epoch"),
    }


def _plan(config: NextModel, rows: int, workers: int, seed: int) -> Plan:
    from synthrec.training.loop import Plan

    batch = fitting.batch(config.batch_size, rows, workers)
    return Plan(rows, batch, config.epochs, 0.0, seed, decay=False, patience=config.patience)


def begun(
    name: str, config: NextModel, seed: int, shop: Shop, vectors: Vectors | None, workers: int, folder: Path
) -> tuple[Plan, pa.Table]:
    """Save into a folder what one worker starts from that does what `workers` do together; how long it learns, what."""
    model, rows, _ = STARTS[name](config, seed, shop, vectors)
    model.save(folder)
    plan = _plan(config, rows.num_rows, workers, seed)
    return replace(plan, batch_size=plan.batch_size * workers), rows


def _sequential(config: SequentialModel, seed: int, shop: Shop, vectors: Vectors | None) -> Made:
    import torch

    from synthrec.recommenders.sequential import Sequential, Shape

    kinds = zip((shop.split.train, shop.synthetic), shop.weights, strict=True)
    rows = [(one, counts) for some, counts in kinds for one in some if len(one) > 1]
    if not rows:
        raise UserError(
            "no shopper has two steps to learn from, beside those that are kept to validate and to test",
            "give sources.interactions with longer histories, or leave sequential out of recommend.models",
        )
    known, thought = (held(some, len(shop.products)) for some in (shop.split.train, shop.synthetic))
    names = ("width", "blocks", "heads", "longest", "dropout", "ids", "negatives", "temperature", "gbce")
    shape = Shape(**{name: getattr(config, name) for name in names})
    torch.manual_seed(seed)
    model = Sequential(known, shape, vectors if config.text else None, thought)
    items, weights = zip(*rows, strict=True)
    table = pa.table({"items": pa.array(items, ITEMS), "weight": pa.array(weights, pa.float32())}, schema=SEQUENCE)
    figures = {
        "sequences": len(rows),
        "synthetic": len(shop.synthetic),
        "synthetic_weight": shop.weights[1] / shop.weights[0],
    }
    return model, table, figures | {"known_products": int(known.sum()), "thought_of": int((thought & ~known).sum())}


def _graph(config: GraphModel, seed: int, shop: Shop, vectors: Vectors | None) -> Made:
    import torch

    from synthrec.recommenders.graph import LightGCN

    torch.manual_seed(seed)
    sizes = {"width": config.width, "layers": config.layers, "l2": config.l2, "draws": config.draws}
    model = LightGCN.of(shop.split.train, len(shop.products), **sizes)
    if config.text and vectors is not None:
        model.start_from(vectors)
    pairs: NDArray[np.int64] = model.get_buffer("pairs").numpy()
    rows = pa.table({"user": pairs[:, 0], "item": pairs[:, 1]}, schema=PAIR)
    return model, rows, {"interactions": len(pairs), "unscorable": len(model.unscorable)}


STARTS: dict[str, Start] = {"sequential": _sequential, "graph": _graph}


def table(cases: Cases) -> pa.Table:
    return pa.table(
        {
            "user": cases.users,
            "history": pa.array(list(cases.histories), ITEMS),
            "target": pa.array(list(cases.targets), ITEMS),
        },
        schema=CASE,
    )


def stage(name: str) -> Stage:
    """Of one recommender."""
    words = {"sequential": "trains the sequential model", "graph": "trains the graph model"}
    needs = ("prepare", "curate", "train")
    return Stage(
        f"train_{name}",
        f"{words[name]} (Ray Train, DDP)",
        needs,
        partial(settings, name),
        partial(_run, name),
        version=2,
    )
