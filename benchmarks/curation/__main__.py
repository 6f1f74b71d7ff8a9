"""What each curation step is worth: each one off in turn, and each that is off by default on, with intervals.

The labels are synthesised once, and each arm curates them anew. What is left is measured in three ways:

- encoder: an encoder is trained on the queries with the config's settings and several seeds, and ranks the whole
  catalogue for the judged queries (NDCG@10). Arms whose training pairs are the same share their trainings.
- expansion: the queries are added to their products' texts, which BM25 ranks for the judged queries. No luck in it.
- labels: the sentiment of reviews is held against the shoppers' ratings (balanced accuracy).

Every result is a file of `--run-dir`: the same command goes on where it was stopped, and one that has finished works no
more. Seeds go round by round, so that a run that is cut short has all arms with fewer seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.curation import downstream, here, worth
from benchmarks.curation.arms import Arm, arms, left_out
from benchmarks.kept import once
from benchmarks.machine import machine
from synthrec import console
from synthrec.cli import run_stages, stages
from synthrec.config import load
from synthrec.pipeline import Pipeline
from synthrec.storage import Folder
from synthrec.training.pairs import PAIR, training_pairs

AGAIN = "as configured, other seeds"  # the same labels: what luck alone is worth
Train = Callable[[downstream.Shop, pa.Table, int, int], dict[str, Any]]


@dataclass(frozen=True)
class Bench:
    """One config with its folder of results."""

    config: str
    overrides: list[str]
    folder: Folder
    known: dict[str, Any] = field(default_factory=dict)  # what steps learnt that is the same in all arms

    def labels(self) -> None:
        """Have the LLM write and score, if it has not."""
        run_stages(self.pipeline().config, ["prepare", "synthesize"])
        import ray

        ray.shutdown()  # its workers hold models that are not needed any more

    def pipeline(self, arm: Arm | None = None) -> Pipeline:
        own = arm.overrides if arm else []
        config = load(self.config, [f"run_dir={self.folder}/run", *self.overrides, *own])
        return Pipeline(config, stages(config))

    def curated(self, arm: Arm) -> dict[str, Any]:
        """Rows kept of each task, the hash of the training pairs, and the labels of rated reviews."""
        pipeline = self.pipeline(arm)
        return self.once(f"curated/{pipeline.fingerprint('curate')}.json", partial(self._curate, pipeline))

    def _curate(self, pipeline: Pipeline) -> dict[str, Any]:
        prepared, labels = pipeline.folder("prepare"), pipeline.folder("synthesize") / "labels"
        kept = here.curate(pipeline.config, prepared, labels, self.folder / "learnt", self.known)
        pairs = training_pairs(pipeline.config.train, prepared, kept)
        name = hashlib.sha256(json.dumps(pairs.to_pydict()).encode()).hexdigest()[:12]
        (self.folder / "pairs" / name).write_table("pairs.parquet", pairs)
        counts = Counter(row["task"] for row in kept)
        return {"kept": counts, "pairs": name, "rated": downstream.rated(prepared, kept)}

    def trained(self, pairs: str, seed: int, shop: downstream.Shop, fit: Train, like: str) -> dict[str, Any]:
        """What one training on these pairs gives, in as many steps as those of `like` take."""
        settings = json.dumps(shop.config.train.model_dump(), sort_keys=True)
        name = hashlib.sha256(settings.encode()).hexdigest()[:8]
        table = (self.folder / "pairs" / pairs).read_table(PAIR)
        rows = (self.folder / "pairs" / like).read_table(PAIR).num_rows
        kept = f"trained/{pairs}-{name}-{seed}{'' if rows == table.num_rows else f'-{rows}'}.json"
        return self.once(kept, lambda: fit(shop, table, seed, rows))

    def expanded(self, pairs: str, shop: downstream.Shop) -> list[float]:
        table = (self.folder / "pairs" / pairs).read_table(PAIR)
        found: list[float] = self.once(f"expanded/{pairs}.json", lambda: downstream.expanded(shop, table))
        return found

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        return once(self.folder, name, make)


def measure(
    bench: Bench, chosen: list[Arm], seeds: list[int], fit: Train, control: bool = True, even: bool = False
) -> dict[str, Any]:
    """Curate and train what has not been, and compare. The first arm is what the others are held against.

    Args:
        even: all trainings take the first arm's number of steps; else each takes what its pairs make.
    """
    curated = {}
    with console.meter("curate", len(chosen), "arms") as meter:
        for arm in chosen:
            curated[arm.name] = bench.curated(arm)
            meter.advance(1)
    shop = downstream.shop(bench.pipeline(chosen[0]))
    tables = list(dict.fromkeys(one["pairs"] for one in curated.values()))
    base = curated[chosen[0].name]
    own, again = seeds, [seed + len(seeds) for seed in seeds] if control else []
    rounds = [(seed, table) for seed in own for table in tables] + [(seed, base["pairs"]) for seed in again]
    ndcg: dict[tuple[str, int], list[float]] = {}
    with console.meter("train", len(rounds), "trainings") as meter:
        for seed, table in rounds:
            ndcg[table, seed] = bench.trained(table, seed, shop, fit, base["pairs"] if even else table)["ndcg"]
            meter.advance(1)
    # measure -> table of pairs -> (seeds, queries)
    found = {
        "expansion": {one: np.array([bench.expanded(one, shop)]) for one in tables},
        "encoder": {one: np.array([ndcg[one, seed] for seed in own]) for one in tables if own},
    }
    worths = {name: _worths(chosen, curated, tables) for name, tables in found.items() if tables}
    if base["rated"]:
        worths["labels"] = _worths_of_labels(chosen, curated)
    luck = np.array([ndcg[base["pairs"], seed] for seed in again])
    return {
        "seeds": own,
        "same_steps": even,
        "judged_queries": len(shop.queries),
        "rated_reviews": len(base["rated"]),
        "train": shop.config.train.model_dump(),
        "control": worth.of_queries(Arm(AGAIN, ()), luck, found["encoder"][base["pairs"]]) if again else None,
        "arms": {
            arm.name: {
                "step": arm.step,
                "kept": (one := curated[arm.name])["kept"],
                "ndcg_10": {name: float(np.nanmean(tables[one["pairs"]])) for name, tables in found.items() if tables},
                "label_accuracy": worth.accuracy(one["rated"]),
                "worth": {name: told.get(arm.name, {"verdict": worth.SAME}) for name, told in worths.items()},
            }
            for arm in chosen
        },
    }


def _worths(chosen: list[Arm], curated: dict[str, Any], values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each arm whose training pairs are other than the first one's."""
    base = curated[chosen[0].name]["pairs"]
    changed = [arm for arm in chosen if curated[arm.name]["pairs"] != base]
    return worth.judged(
        {arm.name: worth.of_queries(arm, values[curated[arm.name]["pairs"]], values[base]) for arm in changed}
    )


def _worths_of_labels(chosen: list[Arm], curated: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each arm whose labels of rated reviews are other than the first one's."""
    base = curated[chosen[0].name]["rated"]
    changed = [arm for arm in chosen if (own := curated[arm.name]["rated"]) and own != base]
    return worth.judged({arm.name: worth.of_labels(arm, curated[arm.name]["rated"], base) for arm in changed})


def main() -> None:
    given = _arguments()
    folder = Folder.open(given.run_dir)
    bench = Bench(given.config, [*(given.set or []), *_encoder(given, folder)], folder)
    own = bench.pipeline().config.curate
    known = partial(_has_value, own)
    result: dict[str, Any] = {"benchmark": "curation", "machine": machine(), "config": given.config}
    with bench.folder.locked():
        bench.labels()
        with console.hushed(folder.local / "frameworks.log"):
            seeds = list(range(1, given.seeds + 1))
            chosen = arms(own.steps, known)
            result |= measure(bench, chosen, seeds, downstream.fine_tuned, not given.no_control, given.same_steps)
            shop = downstream.shop(bench.pipeline())
            zero = bench.once(f"zero_shot-{given.layers}.json", lambda: downstream.zero_shot(shop))
            plain = bench.once("bm25.json", lambda: downstream.bm25(shop, shop.texts))
    result["untrained_ndcg_10"] = {"encoder": float(np.nanmean(zero)), "expansion": float(np.nanmean(plain))}
    result["left_out"] = left_out(own.steps, known)
    for name, one in result["arms"].items():
        console.say(f"    {name}: " + "; ".join(f"{what} {_told(told)}" for what, told in one["worth"].items()))
    if given.json:
        print(json.dumps(result, ensure_ascii=False))


def _encoder(given: argparse.Namespace, folder: Folder) -> list[str]:
    """Settings under which one process trains as the config's ranks do together, on the encoder that was asked for."""
    own = load(given.config, given.set).train
    settings = ["train.workers=1", f"train.batch_size={own.workers * own.batch_size}"]
    if given.layers is None:
        return settings
    with console.hushed(folder.make().local / "frameworks.log"):
        cut = downstream.shallow(own.encoder, given.layers, folder.local / f"encoder-{given.layers}")
    return [*settings, f"train.encoder={cut}"]


def _has_value(settings: Any, key: str) -> bool:
    return bool(getattr(settings, key))


def _told(one: dict[str, Any]) -> str:
    if "mean" not in one:
        return str(one["verdict"])
    return f"{one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}], p {one['p_holm']:.3f}: {one['verdict']}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/store.yaml", help="of a run with judgments (evaluate.judgments)")
    parser.add_argument("--set", "-s", action="append", help="override a setting: train.epochs=4")
    parser.add_argument("--layers", type=int, help="keep so many layers of the encoder: 0 trains in seconds")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each arm")
    parser.add_argument(
        "--same-steps", action="store_true", help="train each arm as long as the first, however many pairs it has"
    )
    parser.add_argument(
        "--no-control", action="store_true", help="leave out the trainings that show what luck is worth"
    )
    parser.add_argument("--run-dir", default="runs/benchmark-curation", help="where to work, and to go on")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
