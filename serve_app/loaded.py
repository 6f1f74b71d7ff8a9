"""One bundle, opened for serving: its index, encoder and models, and the checks that it passes before it serves."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.batching import Batcher, Encode
from synthrec import bundle
from synthrec.bundle import Bundle
from synthrec.compression import encoder
from synthrec.config import Serve
from synthrec.errors import UserError
from synthrec.retrieval.live import LiveIndex
from synthrec.stores.base import Change, Store

SANE = 20  # products that must be found by their own titles
SANE_SHARE = 0.8  # of them; titles may be alike, and an encoder may be new to a language
PAGE = 2_000  # changes read from the store at once


@dataclass(frozen=True)
class Loaded:
    """What one version answers with. All but `index` never changes."""

    version: str
    bundle: Bundle
    index: LiveIndex
    encoder: encoder.Encoder
    encode: Encode

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return self.bundle.manifest

    def part(self, name: str) -> Path | None:
        """The folder of a part that a bundle may hold beside search."""
        folder = self.bundle.path / name
        return folder if folder.is_dir() else None

    @property
    def parts(self) -> list[str]:
        return [name for name in ("recommender", "reranker", "classifier", "replies", "brands") if self.part(name)]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Of products' texts, shape (n, width); blocking."""
        return self.encoder.encode(texts)

    def follow(self, store: Store) -> int:
        """Apply what has changed in the store since; how many changes. Blocking; one thread at a time."""
        done = 0
        while changes := store.changes(self.index.revision, PAGE):
            self._apply(changes)
            done += len(changes)
        return done

    def _apply(self, changes: Sequence[Change]) -> None:
        texts = [change.product["text"] for change in changes if change.product is not None]
        wide = np.zeros((0, self.encoder.width), np.float32)
        self.index.apply(changes, self.vectors(texts) if texts else wide)


def load(folder: Path, settings: Serve, pool: Executor, remote: Encode | None = None) -> Loaded:
    """Open, warm and check a bundle. Blocking.

    Args:
        pool: where queries are encoded.
        remote: encodes in another process; None: here.

    Raises:
        UserError: files that changed, another schema, figures below `serve.floor`, or answers without sense.
    """
    opened = bundle.load(folder)
    _check_floor(opened.manifest, settings.floor)
    model = encoder.load(opened.model)
    if model.width != opened.hybrid.vectors.shape[1]:
        raise UserError(f"{folder}: encoder and vectors differ in width", "package it again")
    batched = Batcher(lambda queries: list(model.encode(queries, query=True)), settings.batch_size, pool)
    made = Loaded(folder.name, opened, LiveIndex(opened, settings.index), model, remote or batched)
    _check_sense(made)
    return made


def _check_floor(manifest: dict[str, Any], floor: float | None) -> None:
    found = (manifest.get("metrics") or {}).get("ndcg@10", {}).get("mean")
    if floor is not None and (found is None or found < floor):
        told = "no NDCG@10" if found is None else f"NDCG@10 {found:.3f}"
        raise UserError(f"bundle {manifest['name']} has {told}, serve.floor is {floor}", "train it better, or lower it")


def _check_sense(made: Loaded) -> None:
    """Products are found by their own titles. It also warms caches and the encoder's threads."""
    rows = made.bundle.catalogue.select(["product_id", "title"])
    picked = np.linspace(0, rows.num_rows - 1, min(SANE, rows.num_rows)).astype(int)
    some = rows.take(picked).to_pylist()
    vectors = made.encoder.encode([row["title"] for row in some], query=True)
    if not np.isfinite(vectors).all():
        raise UserError(f"bundle {made.version}: its encoder gives no finite vectors", "train it again")
    hit = [
        row["product_id"] in {found.product_id for found in made.index.search(row["title"], vector, 10)}
        for row, vector in zip(some, vectors, strict=True)
    ]
    if sum(hit) < SANE_SHARE * len(hit):
        raise UserError(
            f"bundle {made.version}: only {sum(hit)} of {len(hit)} products are found by their own titles",
            "look at its report; the encoder or the weights are wrong",
        )


