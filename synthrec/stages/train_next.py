"""train_sequential, train_graph: what shoppers did, and what the LLM thinks they would do -> what they take next."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synthrec import cluster
from synthrec.config import Config, GraphModel, SequentialModel
from synthrec.pipeline import Context, Stage
from synthrec.recommenders.base import Cases
from synthrec.stages import next_items
from synthrec.stages.next_items import Shop
from synthrec.stages.train import publish

ITEMS = pa.list_(pa.int64())
SEQUENCE = pa.schema([pa.field("items", ITEMS, nullable=False)])
PAIR = pa.schema([pa.field(name, pa.int64(), nullable=False) for name in ("user", "item")])
CASE = pa.schema(
    [
        pa.field("user", pa.int64(), nullable=False),
        pa.field("history", ITEMS, nullable=False),
        pa.field("target", ITEMS, nullable=False),
    ]
)
Start = Callable[[Any, Context, Shop, Path], tuple[pa.Table, dict[str, Any]]]


def _settings(name: str, config: Config) -> Any:
    own = config.recommend
    layout = [config.train.workers, config.train.use_gpu, config.train.precision]
    return [getattr(own, name).model_dump(), next_items.settings(config), own.sessions, layout, config.seed]


def _run(name: str, context: Context) -> dict[str, Any]:
    from synthrec.training.loop import Plan
    from train_app.fit import Job, fit

    layout, config = context.config.train, getattr(context.config.recommend, name)
    cluster.start()
    cluster.need(layout.workers, layout.workers if layout.use_gpu else 0, name, "train.workers or train.use_gpu")
    shop = next_items.read(context)
    work = context.keep("work") / context.out.path.rpartition("/")[2]
    with tempfile.TemporaryDirectory() as folder:
        rows, figures = STARTS[name](config, context, shop, Path(folder))
        (work / "start").write_files(Path(folder))
    (work / "rows").write_table("rows.parquet", rows)
    (work / "validation").write_table("cases.parquet", table(shop.split.validation))
    # A batch that is larger than a rank's share of the rows would never be filled.
    batch = min(config.batch_size, max(1, rows.num_rows // layout.workers))
    job = Job(
        recommender=name,
        settings=config.model_dump(),
        plan=Plan(rows.num_rows, batch, config.epochs, 0.0, context.config.seed, decay=False, patience=config.patience),
        start=(work.fs, f"{work.path}/start"),
        rows=(work.fs, f"{work.path}/rows"),
        schema=rows.schema,
        use_gpu=layout.use_gpu,
        precision=layout.precision,
        validation=(work.fs, f"{work.path}/validation"),
        filter_viewed=context.config.recommend.filter_viewed,
    )
    result = fit(job, layout.workers, layout.max_failures, (work.fs, work.path))
    if result.error:
        raise result.error
    best = max(result.best_checkpoints or [], key=lambda one: one[1]["value"])
    publish(best[0], job, context.out)
    metrics = result.metrics or {}
    work.delete()
    return figures | {
        "shoppers": len(shop.users),
        "precision": metrics.get("precision"),
        "validation_ndcg@10": [round(one, 5) for one in metrics.get("values", [])],
        "best_epoch": metrics.get("best_epoch"),
    }


def _sequential(config: SequentialModel, context: Context, shop: Shop, folder: Path) -> tuple[pa.Table, dict[str, Any]]:
    import torch

    from synthrec.recommenders.sequential import Sequential, Shape

    rows = [one for one in [*shop.split.train, *shop.synthetic] if len(one) > 1]
    known = np.zeros(len(shop.products), bool)
    known[np.concatenate([np.zeros(0, np.int64), *rows])] = True
    names = ("width", "blocks", "heads", "longest", "dropout", "ids", "negatives", "temperature")
    shape = Shape(**{name: getattr(config, name) for name in names})
    torch.manual_seed(context.config.seed)
    Sequential(known, shape, next_items.vectors(context, shop.texts) if config.text else None).save(folder)
    table = pa.table({"items": pa.array(rows, ITEMS)}, schema=SEQUENCE)
    return table, {"sequences": len(rows), "synthetic": len(shop.synthetic), "known_products": int(known.sum())}


def _graph(config: GraphModel, context: Context, shop: Shop, folder: Path) -> tuple[pa.Table, dict[str, Any]]:
    import torch

    from synthrec.recommenders.graph import LightGCN

    torch.manual_seed(context.config.seed)
    sizes = {"width": config.width, "layers": config.layers, "l2": config.l2, "draws": config.draws}
    model = LightGCN.of(shop.split.train, len(shop.products), **sizes)
    if config.text:
        model.start_from(next_items.vectors(context, shop.texts))
    model.save(folder)
    pairs: NDArray[np.int64] = model.get_buffer("pairs").numpy()
    rows = pa.table({"user": pairs[:, 0], "item": pairs[:, 1]}, schema=PAIR)
    return rows, {"interactions": len(pairs), "unscorable": len(model.unscorable)}


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
        f"train_{name}", f"{words[name]} (Ray Train, DDP)", needs, partial(_settings, name), partial(_run, name)
    )
