"""Next products of office shoppers: ids, text, text and what the LLM synthesised, beside baselines and the published.

Learnt is from `sequences_train` and the products' text alone: about an eighth of the interactions that the published
models saw, but later ones. Every product is ranked for every row of `sequences_test`, what stands in the row's history
left out. Epochs, shares of the mixture, and whether synthetic sessions are in it are chosen on the last step of each
training shopper; then all is learnt.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.kept import same_settings
from benchmarks.machine import machine
from benchmarks.sequence.training import Recipe, fit, ndcg
from synthrec import console, schema
from synthrec.cli import run_stages
from synthrec.config import load
from synthrec.evaluation.baselines import EASE, Fusion, ItemKNN, Likeness, Popularity
from synthrec.evaluation.recommendation import Judged, cold, judge
from synthrec.evaluation.significance import bootstrap_mean, paired_bootstrap
from synthrec.evaluation.splits import Items, Split
from synthrec.pipeline import Pipeline
from synthrec.recommenders.base import Cases, Scorer
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.recommenders.items import Features
from synthrec.recommenders.sequential import Shape
from synthrec.training.behaviour import sessions
from synthrec.training.checkpoints import Checkpoints

PADDING = "0"  # stands in histories where the source had no id; a product of that id is in the catalogue all the same
TEXT = Recipe(Shape(width=128, dropout=0.5, longest=11, negatives=0, temperature=0.07), batch_size=64, patience=6)
IDS = TEXT
PUBLISHED = {
    "MiniOneRec": {"hr@10": 0.1634, "ndcg@10": 0.1242},
    "S-DPO": {"hr@10": 0.1587, "ndcg@10": 0.1255},
    "SASRec": {"hr@10": 0.1120, "ndcg@10": 0.0858},
}
SHARES = (0.0, 0.5, 1.0, 2.0)  # of the mixture's parts, tried on the validation


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    pipeline = _synthesised(given)
    catalogue = (pipeline.folder("prepare") / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id")
    place = {product: i for i, product in enumerate(catalogue["product_id"].to_pylist())}
    choose, final = _splits(Path(given.data), place)
    labels = (pipeline.folder("synthesize") / "labels").read_table(schema.LABEL).to_pylist() if given.products else []
    synthetic = sessions(labels, place)
    vectors = _vectors(catalogue)
    before, simple = (_baselines(split, vectors) for split in (choose, final))
    found = {name: [_judge(one, final)] for name, one in simple.items()}
    chosen, mixtures = {}, []
    for seed in given.seeds:
        drafts, models, epochs = _models(choose, final, vectors, synthetic, seed, given)
        names, shares = _chosen(drafts, choose, before)
        mixtures.append(_mixture([models[name] for name in names], simple, shares))
        models["what is chosen of those that read text, EASE, text likeness"] = mixtures[-1]
        chosen[seed] = {"epochs": epochs, "models": names, "shares": shares}
        for system, model in models.items():
            found.setdefault(system, []).append(_judge(model, final))
    if len(mixtures) > 1:  # what varies by the seed is noise, and noise is less in the middle of several
        found["the seeds' mixtures together"] = [_judge(Fusion([(one, 1.0) for one in mixtures]), final)]
    result = {"benchmark": "office", "machine": machine(), "test_rows": len(final.test), "synthetic": len(synthetic)}
    result |= _figures(found, cold(final.test, final.train, len(place))) | {"published": PUBLISHED, "chosen": chosen}
    if given.json:
        print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon_office", help="folder of the set's Parquet files")
    parser.add_argument("--run-dir", default="runs/benchmark-office", help="synthesis and checkpoints, to go on from")
    parser.add_argument("--products", type=int, default=10_000, help="the LLM thinks of sessions for so many; 0: none")
    parser.add_argument("--engine", default="{kind: llamacpp}", help="synthesize.engine, as YAML")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100, help="at most so many")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


def _synthesised(given: argparse.Namespace) -> Pipeline:
    tasks = {"session": {"max_products": given.products or None}}
    overrides = [
        f"sources.products.path={given.data}/products.parquet",
        f"run_dir={given.run_dir}/run",
        f"synthesize.engine={given.engine}",
        f"synthesize.tasks={json.dumps(tasks)}",
    ]
    return run_stages(
        load("configs/office.yaml", overrides), ["prepare", "synthesize"] if given.products else ["prepare"]
    )


def _vectors(catalogue: pa.Table) -> Features:
    """Of each product the middle of its title's vector and its whole text's."""
    encoder = BiEncoder.load("embedded")
    both = encoder.encode(catalogue["title"].to_pylist()) + encoder.encode(catalogue["text"].to_pylist())
    return both / np.linalg.norm(both, axis=1, keepdims=True)  # type: ignore[no-any-return]


def _splits(data: Path, place: dict[str, int]) -> tuple[Split, Split]:
    """One to choose on, where each training shopper's last step is to be found, and one to learn from and test on.

    Rows of one shopper are prefixes of one sequence, so they are put together again: a row by itself would give away
    another's target.
    """
    shoppers = _rows(data / "sequences_train.parquet", place).values()
    whole = [[*rows[0][0], *(target for _, target in rows)] for rows in shoppers]
    held = _cases([(one[:-1], one[-1]) for one in whole])
    test = _cases([row for rows in _rows(data / "sequences_test.parquet", place).values() for row in rows])
    return (
        Split([np.array(one[:-1], np.int64) for one in whole], held, held),
        Split([np.array(one, np.int64) for one in whole], held, test),
    )


def _baselines(split: Split, vectors: Features) -> dict[str, Scorer]:
    items = len(vectors)
    together, likeness = ItemKNN(split.train, items), Likeness(vectors, last=3)
    return {
        "popularity": Popularity(split.train, items),
        "ItemKNN": together,
        "EASE": EASE(split.train, items, 100.0),
        "text likeness": likeness,
        "ItemKNN + text": Fusion([(together, 1.0), (likeness, 1.0)]),
    }


def _rows(path: Path, place: dict[str, int]) -> dict[str, list[tuple[list[int], int]]]:
    """Of each shopper (history, target), as in the file: in order of time."""
    table = pq.read_table(path, columns=["user_id", "history", "target"]).to_pydict()
    rows: dict[str, list[tuple[list[int], int]]] = {}
    for user, history, target in zip(*table.values(), strict=True):
        known = [place[p] for p in history if p != PADDING and p in place]
        rows.setdefault(user, []).append((known, place[target]))
    return rows


def _cases(rows: Sequence[tuple[list[int], int]]) -> Cases:
    nobody = np.full(len(rows), -1)  # no shopper is known by a number: all is in the history
    return Cases(nobody, [np.array(h, np.int64) for h, _ in rows], [np.array([t], np.int64) for _, t in rows])


def _models(
    choose: Split, final: Split, vectors: Features, synthetic: list[Items], seed: int, given: argparse.Namespace
) -> tuple[dict[str, Scorer], dict[str, Scorer], dict[str, int]]:
    """(trained without what is validated on, trained on all for the best number of epochs, those numbers) by name."""
    kinds: dict[str, tuple[Recipe, Features | None, list[Items]]] = {
        "sequential, ids": (IDS, None, []),
        "sequential, text": (TEXT, vectors, []),
    }
    if synthetic:
        kinds["sequential, text + synthetic"] = (TEXT, vectors, synthetic)
    drafts: dict[str, Scorer] = {}
    models: dict[str, Scorer] = {}
    epochs = {}
    for name, (recipe, features, more) in kinds.items():
        console.say(f"seed {seed}: {name}")
        folder = Path(given.run_dir) / f"{name.replace(', ', '-').replace(' + ', '-')}-{len(more)}-{seed}"
        same_settings(folder, asdict(recipe) | {"epochs": given.epochs})
        keep = Checkpoints(folder / "choose")
        drafts[name] = fit(
            choose.train,
            len(vectors),
            recipe,
            seed,
            given.epochs,
            keep,
            lambda model: ndcg(model, choose.validation, choose.train),
            features,
            more,
        )
        epochs[name] = (keep.progress().best or 0) + 1
        again = replace(recipe, patience=None)
        keep = Checkpoints(folder / "final")
        models[name] = fit(
            final.train, len(vectors), again, seed, epochs[name], keep, features=features, synthetic=more
        )
    return drafts, models, epochs


def _mixture(models: list[Scorer], parts: dict[str, Scorer], shares: tuple[float, float]) -> Scorer:
    """Of models and, of the `parts`, the baselines that err on other rows."""
    own = [(model, 1 / len(models)) for model in models]
    return Fusion([*own, (parts["EASE"], shares[0]), (parts["text likeness"], shares[1])])


def _chosen(
    drafts: dict[str, Scorer], choose: Split, parts: dict[str, Scorer]
) -> tuple[list[str], tuple[float, float]]:
    """Which of the models that read text, or all of them, and the shares of EASE and the text likeness beside, do best
    on the validation."""

    def mark(one: tuple[list[str], tuple[float, float]]) -> float:
        mixed = _mixture([drafts[name] for name in one[0]], parts, one[1])
        return float(judge(mixed, choose.validation, choose.train, True, (10,)).by_case["ndcg@10"].mean())

    text = [name for name in drafts if "text" in name]
    groups = [[name] for name in text] + ([text] if len(text) > 1 else [])
    return max(((names, (one, other)) for names in groups for one in SHARES for other in SHARES), key=mark)


def _judge(system: Scorer, split: Split) -> Judged:
    return judge(system, split.test, split.train, True)


def _figures(found: dict[str, list[Judged]], cold_rows: Any) -> dict[str, Any]:
    """Means over the seeds, their intervals over the rows, cold and warm targets apart."""
    measures = ("hr@10", "ndcg@10")
    values = {name: {m: np.mean([one.by_case[m] for one in runs], 0) for m in measures} for name, runs in found.items()}
    table: dict[str, dict[str, Any]] = {
        name: {m: asdict(bootstrap_mean(v)) for m, v in by.items()}
        | {f"{kind}_ndcg@10": float(by["ndcg@10"][rows].mean()) for kind, rows in _kinds(cold_rows).items()}
        | {"seeds_ndcg@10": [float(one.by_case["ndcg@10"].mean()) for one in found[name]]}
        for name, by in values.items()
    }
    best = max(table, key=lambda name: table[name]["ndcg@10"]["mean"])
    simple = max(("ItemKNN", "text likeness", "ItemKNN + text"), key=lambda name: table[name]["ndcg@10"]["mean"])
    return {
        "cold_rows": int(cold_rows.sum()),
        "best": best,
        "recall_10": table[best]["hr@10"]["mean"],
        "hr_10": table[best]["hr@10"]["mean"],
        "ndcg_10": table[best]["ndcg@10"]["mean"],
        "best_over_simple": asdict(paired_bootstrap(values[best]["ndcg@10"], values[simple]["ndcg@10"])),
        "simple": simple,
        "synthetic_on_cold": _lift(values, cold_rows),
        "systems": table,
    }


def _kinds(cold_rows: Any) -> dict[str, Any]:
    return {"cold": cold_rows, "warm": ~cold_rows}


def _lift(values: dict[str, Any], cold_rows: Any) -> dict[str, Any] | None:
    """What synthetic sessions add to the text model on cold targets."""
    with_, without = (values.get(f"sequential, text{end}") for end in (" + synthetic", ""))
    if with_ is None or without is None:
        return None
    a, b = with_["ndcg@10"][cold_rows], without["ndcg@10"][cold_rows]
    return asdict(paired_bootstrap(a, b)) | {"relative": float(a.mean() / b.mean() - 1)}


if __name__ == "__main__":
    main()
