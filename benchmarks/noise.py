"""Confident learning against known noise: labels of gold reviews turned over, through the step that curation runs.

Found: precision, recall and F1 of what the step refuses, against what was turned over. Recovered: of the accuracy that
the noise costs a student on held-out reviews, the share that comes back when the suspects are left out,
(cleaned - noisy) / (clean - noisy). The student is the step's own kind of classifier, with the penalty that is best on
clean labels; beside it one held back by the step's strong penalty, which noise hurts less.

Three parts that share no review: `tune` (the student's penalty; the step's settings were chosen on it, too), `test`
(the students' accuracy), and the reviews that get the noise. Noise is symmetric, or three positives to a negative.
"""

from __future__ import annotations

import argparse
import json
import sys
from statistics import mean, stdev
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.machine import machine
from benchmarks.peak import Peak, of_all
from synthrec import console
from synthrec.config import Config
from synthrec.curation import Aids, Row, ngrams, noise
from synthrec.storage import Folder

TUNE, TEST = 15_000, 5_000
SPLIT = 99  # seed
RATES, SEEDS, KINDS = (0.2, 0.1, 0.3), (1, 2, 3), ("symmetric", "class-dependent")
PENALTIES = (1.0, 4.0, 16.0, 64.0)
LABELS = ["negative", "positive"]
# The two that the step offers, its default first; and peers on the same probabilities, by cleanlab's names.
FILTERS = ("prune_by_noise_rate", "confident_learning", "both", "low_self_confidence", "predicted_neq_given")
Labels = NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Parquet of reviews: review_id, text, label (1 good, 0 bad)")
    parser.add_argument(
        "--rows", type=int, help="reviews that get the noise; default: all that are neither tune nor test"
    )
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many times each noise is drawn")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    given = parser.parse_args()
    result = {"benchmark": "noise", "machine": machine()} | measure(given.data, given.rows, given.seeds)
    if given.json:
        print(json.dumps(result))


def measure(data: str, rows: int | None, seeds: int) -> dict[str, Any]:
    texts, truth = _reviews(data)
    order = np.random.default_rng(SPLIT).permutation(len(texts))
    tune, test, own = np.split(order, [TUNE, TUNE + TEST])
    own = own[:rows]
    if not len(own):
        sys.exit(f"{data}: {len(texts)} reviews are too few: {TUNE} to tune on, {TEST} to test on")
    console.say(f"tune {len(tune)}, test {len(test)}, with noise {len(own)}")
    counted = [ngrams.counts([texts[at] for at in part]) for part in (tune, test, own)]
    loose = _penalty(counted[0], truth[tune])
    students = Students(counted[2], counted[1], truth[test], {"tuned": loose, "held_back": ngrams.C})
    clean = students.accuracy(truth[own], np.ones(len(own), bool))
    console.say(f"student's C {loose:g}; accuracy on clean labels {clean}")
    mine = [texts[at] for at in own]
    with Peak(of_all, 0.5) as peak:
        on_clean = _found(mine, truth[own], truth[own])
        runs = [
            _run(mine, truth[own], rate, kind, seed, students, clean)
            for rate in RATES
            for kind in KINDS
            for seed in range(1, seeds + 1)
        ]
    summed = [_summed([r for r in runs if (r["rate"], r["kind"]) == (rate, kind)]) for rate in RATES for kind in KINDS]
    at_20 = next(one for one in summed if (one["rate"], one["kind"]) == (0.2, "symmetric"))
    return {
        "f1_at_20": at_20["found"]["prune_by_noise_rate"]["f1"],
        "recovered_at_20": at_20["recovered"]["prune_by_noise_rate"]["tuned"],
        "rows": {"tune": len(tune), "test": len(test), "noise": len(own)},
        "student_c": {"tuned": loose, "held_back": ngrams.C},
        "clean_accuracy": clean,
        "refused_of_clean": {how: len(places) / len(own) for how, places in on_clean.items()},
        "by_noise": summed,
        "runs": runs,
        "peak_mb": peak.mb,
    }


class Students:
    """Classifiers of each penalty, trained on some labels and tested on gold ones."""

    def __init__(self, train: Any, test: Any, truth: Labels, penalties: dict[str, float]) -> None:
        self.train, self.test, self.truth, self.penalties = train, test, truth, penalties

    def accuracy(self, labels: Labels, kept: NDArray[np.bool_]) -> dict[str, float]:
        return {
            name: _accuracy(ngrams.Classifier.fit(self.train[kept], labels[kept], c), self.test, self.truth)
            for name, c in self.penalties.items()
        }


def _accuracy(model: ngrams.Classifier, counted: Any, truth: Labels) -> float:
    return float((model(counted).argmax(axis=1) == truth).mean())


def _penalty(counted: Any, truth: Labels) -> float:
    """The best on clean labels: learnt from four fifths of the tune part, tried on the rest."""
    cut = len(truth) * 4 // 5
    found = {c: _accuracy(ngrams.Classifier.fit(counted[:cut], truth[:cut], c), counted[cut:], truth[cut:])
             for c in PENALTIES}  # fmt: skip
    return max(found, key=found.__getitem__)


def _run(
    texts: list[str], truth: Labels, rate: float, kind: str, seed: int, students: Students, clean: dict[str, float]
) -> dict[str, Any]:
    turned = _turned(truth, rate, kind, seed)
    given = np.where(turned, 1 - truth, truth)
    noisy = students.accuracy(given, np.ones(len(truth), bool))
    one: dict[str, Any] = {"rate": rate, "kind": kind, "seed": seed, "noisy": noisy, "found": {}}
    one |= {"cleaned": {}, "recovered": {}}
    for how, places in _found(texts, given, truth).items():
        hit = int(turned[places].sum())
        one["found"][how] = _quality(hit, len(places), int(turned.sum()))
        if how in FILTERS[:2]:  # those that the step offers
            kept = np.ones(len(truth), bool)
            kept[places] = False
            one["cleaned"][how] = cleaned = students.accuracy(given, kept)
            one["recovered"][how] = {k: (cleaned[k] - noisy[k]) / (clean[k] - noisy[k]) for k in cleaned}
    console.say(json.dumps(one))
    return one


def _found(texts: list[str], given: Labels, truth: Labels) -> dict[str, Labels]:
    """Places of suspects by filter, all on the step's own probabilities; none where the step lets all labels be, since
    a classifier learns too little from them."""
    parts = [[_row(i, text, LABELS[given[i]]) for i, text in enumerate(texts)]]
    settings: dict[str, Any] = {"name": "noise", "run_dir": "noise", "sources": {"products": {"path": "x"}}}
    aids = Aids(Config.model_validate(settings), dict, lambda products: {}, Folder.open("."), Folder.open("."))
    judged = next(iter(noise.judge(parts, aids).values()), None)
    if judged is None:
        return {how: np.zeros(0, np.int64) for how in FILTERS}
    right = float((judged.probs.argmax(axis=1) == truth).mean())
    console.say(f"out of fold, right about the truth: {right:.4f}")
    return {how: noise.wrong(judged, how) for how in FILTERS}


def _row(number: int, text: str, label: str) -> Row:
    one = {"id": f"{number:09d}", "request_id": "", "task": "sentiment", "facet": "", "language": "zh", "text": text}
    return one | {"product_id": None, "label": label, "labels": LABELS, "scores": [0.5, 0.5], "model": "", "prompt": ""}


def _turned(truth: Labels, rate: float, kind: str, seed: int) -> NDArray[np.bool_]:
    """Which labels to turn over: each at the same rate, or positives at one and a half and negatives at half of it."""
    rates = np.full(len(truth), rate) if kind == "symmetric" else np.where(truth == 1, 1.5 * rate, 0.5 * rate)
    return np.random.default_rng(seed).random(len(truth)) < rates


def _quality(hit: int, refused: int, turned: int) -> dict[str, float]:
    return {"precision": hit / max(refused, 1), "recall": hit / turned, "f1": 2 * hit / (refused + turned)}


def _summed(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and the standard deviation of the step's F1."""
    keep = {key: _mean([run[key] for run in runs]) for key in ("noisy", "found", "cleaned", "recovered")}
    f1 = [run["found"][FILTERS[0]]["f1"] for run in runs]
    return {"rate": runs[0]["rate"], "kind": runs[0]["kind"], "f1_sd": stdev(f1) if len(f1) > 1 else None, **keep}


def _mean(some: list[Any]) -> Any:
    if isinstance(some[0], dict):
        return {key: _mean([one[key] for one in some]) for key in some[0]}
    return mean(some)


def _reviews(data: str) -> tuple[list[str], Labels]:
    table = pq.read_table(data, columns=["review_id", "text", "label"]).sort_by("review_id")
    return table["text"].to_pylist(), table["label"].to_numpy().astype(np.int64)


if __name__ == "__main__":
    main()
