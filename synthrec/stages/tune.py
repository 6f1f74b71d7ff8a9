"""tune_sequential, tune_graph: which settings of a recommender do best on the validation (Ray Tune)."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError
from rich.table import Table

from synthrec import cluster, console
from synthrec.config import Between, Config, NextModel, Space
from synthrec.errors import UserError
from synthrec.pipeline import Context, Pipeline, Stage
from synthrec.stages import next_items, train_next
from synthrec.stages.next_items import Shop

if TYPE_CHECKING:
    import pyarrow as pa

    from synthrec.training.loop import Plan


def stage(name: str, trials: int) -> Stage:
    """Raises: UserError for a recommender that is not validated while it learns."""
    if name not in train_next.STARTS:
        raise UserError(
            f"'{name}' has no validation to tune by", f"recommenders that have one: {', '.join(train_next.STARTS)}"
        )
    needs = ("prepare", "curate", "train")
    told = f"looks for settings of {name} (Ray Tune, {trials} trials)"
    return Stage(f"tune_{name}", told, needs, partial(_settings, name, trials), partial(_run, name, trials))


def _settings(name: str, trials: int, config: Config) -> Any:
    model = getattr(config.recommend, name)
    return [train_next.settings(name, config), model.model_dump(include={"search"}), trials]


def _run(name: str, trials: int, context: Context) -> dict[str, Any]:
    from train_app.tune import Study, search

    config: NextModel = getattr(context.config.recommend, name)
    own, seed = context.config.train, context.config.seed
    if not config.search:
        raise UserError(f"recommend.{name}.search is empty", "name settings in it, or leave it out for the default")
    cluster.start()
    cluster.need(1, int(own.use_gpu), context.stage.name, "train.use_gpu")
    shop = next_items.read(context)
    with_text = config.text or "text" in config.search
    vectors = next_items.vectors(context, shop.texts) if with_text else None
    begin = partial(begun, name, config, seed, shop, vectors, own.ranks[1])
    viewed = context.config.recommend.filter_viewed
    study = Study(name, begin, shop.split.validation, viewed, own.use_gpu, own.precision)
    first = {setting: getattr(config, setting) for setting in config.search}
    work = context.keep("work") / context.out.path.rpartition("/")[2]
    failures = max(0, own.max_failures)  # without an end a trial of impossible values would never end
    found = search(study, space(config.search), first, trials, config.epochs, seed, failures, work)
    if found[0].error is not None:
        raise UserError(f"no trial came to an end: {found[0].error}", f"see {context.root}/logs, and mend the search")
    told = {"trials": [asdict(one) for one in found], "as_configured": first}
    context.out.write_json("trials.json", told)
    work.delete()
    return told


def begun(
    name: str,
    config: NextModel,
    seed: int,
    shop: Shop,
    vectors: train_next.Vectors | None,
    workers: int,
    values: dict[str, Any],
    folder: Path,
) -> tuple[dict[str, Any], Plan, pa.Table]:
    """What a trial of some values starts from; see `train_app.tune.Begin`."""
    try:
        own: NextModel = config.having(values)
    except ValidationError as error:  # each value may be right, and not the two together
        raise UserError(f"{values}: {error.errors()[0]['msg']}") from None
    plan, rows = train_next.begun(name, own, seed, shop, vectors, workers, folder)
    return own.own(), plan, rows


def space(search: Space) -> dict[str, Any]:
    """As Ray Tune has it."""
    from ray import tune

    def domain(axis: Between | list[Any]) -> Any:
        if isinstance(axis, list):
            return tune.choice(axis)
        if isinstance(axis.low, int) and isinstance(axis.high, int):
            draw = tune.lograndint if axis.log else tune.randint
            return draw(axis.low, axis.high + 1)
        return (tune.loguniform if axis.log else tune.uniform)(axis.low, axis.high)

    return {name: domain(axis) for name, axis in search.items()}


def told(pipeline: Pipeline, name: str) -> str:
    """Show a table of the trials; returns the best settings as YAML for the config."""
    manifest = pipeline.manifest(name)
    assert manifest is not None
    figures = manifest["figures"]
    names = list(figures["as_configured"])
    table = Table("NDCG@10", "epochs", *names, "")
    for one in figures["trials"]:
        value = "" if one["ndcg"] is None else f"{one['ndcg']:.4f}"
        note = one["error"] or ("as configured" if one["values"] == figures["as_configured"] else "")
        table.add_row(value, str(one["epochs"]), *(_short(one["values"].get(setting)) for setting in names), note)
    console.console.print(table)
    best = figures["trials"][0]["values"]
    return yaml.safe_dump({"recommend": {name.removeprefix("tune_"): best}}, sort_keys=False).rstrip()


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
