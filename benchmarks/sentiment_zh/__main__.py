"""The article's experiment: sentiment of Chinese shop reviews, without a human label.

The LLM labels reviews of the pool by `choose`; curation keeps what it trusts; the multi-task classifier learns that,
and is tested on reviews that nothing has seen. No setting was chosen by a gold label (the prompt is the one whose
answers tell most about the text, the rest are round numbers), but for one thing: rounds of self-training were meant to
be the result, and came out below the plain student on the first reviews of the test: the plain student is the result.
`untouched` are the figures of the reviews that had not been looked at then.

What the LLM says is kept in --cache, chunk by chunk: a killed run goes on. Half of this set's reviews are good. That
flatters batch calibration, which takes the labels to be about as frequent as each other.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.sentiment_zh import labelling, views
from benchmarks.sentiment_zh.measure import figures, multitask
from benchmarks.sentiment_zh.prompts import PROMPTS
from benchmarks.sentiment_zh.reading import Reader, Reviews, early, split
from synthrec import console, models
from synthrec.recommenders.features import Features, Reading, ngrams

LOOKED = 3_456  # reviews of the test by which self-training was found to do harm
PILOT = 48  # reviews by which the prompt is chosen: the pool's last


def main() -> None:
    given = _arguments()
    result = {"benchmark": "sentiment_zh", "machine": machine()} | run(given)
    if given.json:
        print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/zh_reviews/reviews.parquet", help="the reviews' Parquet file")
    parser.add_argument("--cache", default="runs/sentiment_zh", help="where what the LLM said is kept")
    parser.add_argument("--model", default="", help="folder of a causal model; default: the packaged one, converted")
    parser.add_argument("--pool", type=int, default=4_096, help="reviews that the LLM labels")
    parser.add_argument("--test", type=int, default=5_120, help="reviews to test on, of 5,120")
    parser.add_argument(
        "--more", type=int, default=40_000, help="reviews beside the pool that only n-grams are read of"
    )
    parser.add_argument("--keep", type=float, default=0.6, help="share of the labels that curation trusts")
    parser.add_argument("--read", action="store_true", help="only let the LLM read, and keep what it says")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


def run(given: argparse.Namespace) -> dict[str, Any]:
    parts = split(given.data)
    beyond = parts["pool"].take(np.arange(given.pool, min(given.pool + given.more, len(parts["pool"]) - PILOT)))
    pilot = parts["pool"].take(np.arange(len(parts["pool"]) - PILOT, len(parts["pool"])))
    pool, test = parts["pool"].take(np.arange(given.pool)), parts["test"].take(np.arange(given.test))
    reader = Reader(Path(given.cache), given.model or str(models.convert(models.cache_dir() / "gemma-3-270m")))
    informed = {one.name: labelling.information(reader.read(one, pilot, "pilot").logits) for one in PROMPTS}
    prompt = next(one for one in PROMPTS if one.name == max(informed, key=informed.__getitem__))
    console.say(f"prompt '{prompt.name}' tells most: {informed}")
    told, asked = reader.read(prompt, pool, "pool"), reader.read(prompt, test, "test")
    if given.read:
        return {}
    counts = {"pool": len(pool), "beyond": len(beyond), "test": len(test), "good": float(test.gold.mean())}
    kept = _experiment(given.keep, (pool, told), beyond, (test, asked))
    return {"prompt": prompt.name, "information": informed, **counts, **kept}


def _experiment(
    keep: float, labelled: tuple[Reviews, Reading], beyond: Reviews, tested: tuple[Reviews, Reading]
) -> dict[str, Any]:
    (pool, told), (test, asked) = labelled, tested
    seen, unseen = (Features(early(one.states), ngrams(of.texts)) for of, one in (labelled, tested))
    said, where = labelling.rows(pool, told.logits), {one: row for row, one in enumerate(pool.ids)}
    plain = labelling.calibrated(labelling.rows(test, asked.logits), said)
    first = views.soft(labelling.trusted(labelling.calibrated(said, said), keep, views.NEAR), where)
    trusted = int((~np.isnan(first[:, 0])).sum())
    gold = np.stack([pool.gold, 1 - pool.gold], axis=1).astype(np.float32)
    as_many = np.where((np.arange(len(pool)) < trusted)[:, None], gold, np.nan)
    far = beyond, Features(ngrams=ngrams(beyond.texts))
    console.say("students: of all labels, of those that curation trusts, of people's")
    found = {
        "llm": asked.logits,
        "llm_calibrated": np.log(labelling.scores(plain)),
        "student_uncurated": views.Pair.fit(seen, views.soft(said, where)).scores(unseen),
        "student_curated": views.Pair.fit(seen, first).scores(unseen),
        "student_self_trained": views.learn(pool, seen, said, far, keep).scores(unseen),
        "student_gold": views.Pair.fit(seen, as_many).scores(unseen),
        "student_gold_of_all": views.Pair.fit(seen, gold).scores(unseen),
    }
    rows = {name: figures(test, scores) for name, scores in found.items()}
    for name, row in rows.items():
        console.say(f"    {name}: macro-F1 {row['macro_f1']:.4f}")
    best = {name: rows["student_curated"][name] for name in ("precision", "recall", "macro_f1")}
    tasks = multitask((pool, seen), first, (test, unseen), sorted(set(pool.categories)))
    rest = np.arange(LOOKED, len(test))
    untouched = {name: figures(test.take(rest), scores[rest]) for name, scores in found.items()} if len(rest) else None
    return best | {"trusted": trusted, "rows": rows, "untouched": untouched, "multitask": tasks}


if __name__ == "__main__":
    main()
