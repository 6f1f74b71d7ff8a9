"""The reviews' split, and what the LLM says and shows of them: in chunks on disk, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.sentiment_zh.prompts import Prompt
from synthrec import console
from synthrec.recommenders.features import HiddenStates, Reading

TEST = 5_120
CHUNK = 128
LAYERS, MEAN = (9, 12, 15, 18), 12
EARLY = (0, 1, 4)  # of what is read: layers 9 and 12, and the mean


@dataclass(frozen=True)
class Reviews:
    """Some reviews. `gold` is 1 where a person found it good; nothing but a score or the ceiling may look at it."""

    ids: list[str]
    texts: list[str]
    categories: list[str]
    gold: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> Reviews:
        ids, texts, categories = ([one[r] for r in rows] for one in (self.ids, self.texts, self.categories))
        return Reviews(ids, texts, categories, self.gold[rows])


def split(path: str) -> dict[str, Reviews]:
    """Test and pool by a hash of the review's id. A text that stands twice is in one of them alone."""
    rows = pq.read_table(path, columns=["review_id", "text", "category", "label"]).to_pylist()
    by_text: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: hashlib.sha256(row["review_id"].encode()).digest()):
        by_text.setdefault(" ".join(row["text"].split()), row)
    ordered = list(by_text.values())
    return {"test": _reviews(ordered[:TEST]), "pool": _reviews(ordered[TEST:])}


def _reviews(rows: list[dict[str, Any]]) -> Reviews:
    ids, texts, categories = ([row[name] for row in rows] for name in ("review_id", "text", "category"))
    return Reviews(ids, texts, categories, np.array([row["label"] for row in rows], np.int64))


def early(states: NDArray[np.float32]) -> NDArray[np.float32]:
    """The states from before the LLM has made up its mind.

    Layers 15 and 18 hold its answer: taught by its labels, a student of them says the same again, mistakes and all.
    """
    return np.ascontiguousarray(states.reshape(len(states), len(LAYERS) + 1, -1)[:, EARLY].reshape(len(states), -1))


class Reader:
    """Reads reviews by a prompt, or takes what the same model read before from `cache`."""

    def __init__(self, cache: Path, model: str) -> None:
        self._cache, self._name = cache / Path(model).name, model
        self._model: HiddenStates | None = None
        self._cache.mkdir(parents=True, exist_ok=True)

    def read(self, prompt: Prompt, reviews: Reviews, name: str) -> Reading:
        chunks = [range(at, min(at + CHUNK, len(reviews))) for at in range(0, len(reviews), CHUNK)]
        with console.meter(f"{prompt.name}, {name}", len(reviews), "reviews") as meter:
            found = []
            for rows in chunks:
                found.append(self._chunk(prompt, [reviews.ids[r] for r in rows], [reviews.texts[r] for r in rows]))
                meter.advance(len(rows))
        return Reading(np.concatenate([one.states for one in found]), np.concatenate([one.logits for one in found]))

    def _chunk(self, prompt: Prompt, ids: list[str], texts: list[str]) -> Reading:
        made_of = repr((prompt, LAYERS, MEAN, ids))
        path = self._cache / f"{hashlib.sha256(made_of.encode()).hexdigest()[:24]}.npz"
        if not path.exists():
            self._read(prompt, texts, path)
        with np.load(path) as kept:
            return Reading(kept["states"], kept["logits"])

    def _read(self, prompt: Prompt, texts: list[str], path: Path) -> None:
        self._model = self._model or HiddenStates.load(self._name, LAYERS, MEAN)
        got = self._model.read([prompt.render(text) for text in texts], (prompt.positive, prompt.negative))
        draft = path.with_suffix(f".{os.getpid()}")
        with draft.open("wb") as file:
            np.savez(file, states=got.states, logits=got.logits)
        draft.rename(path)
