"""One bundle, opened for serving: its index, encoder and models, and the checks that it passes before it serves."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.batching import Batcher, Encode, Remembered, Vector
from serve_app.brands import BrandIndex, BrandMeans, brands, sold
from serve_app.logs import log
from synthrec import bundle
from synthrec.bundle import Bundle
from synthrec.compression import encoder
from synthrec.config import Serve
from synthrec.errors import UserError
from synthrec.live.index import LiveIndex
from synthrec.recommenders import ready
from synthrec.recommenders.brands import mean
from synthrec.recommenders.ready import Ready
from synthrec.stores.base import Change, Store

SANE = 20  # products that must be found by their own titles
SANE_SHARE = 0.8  # of them; titles may be alike, and an encoder may be new to a language
PARTS = ("recommender", "reranker", "classifier", "replies", "brands")
PAGE = 2_000  # changes read from the store at once


@dataclass(frozen=True)
class Loaded:
    """What one version answers with. All but `index` and `brands` never changes."""

    version: str
    bundle: Bundle
    index: LiveIndex
    encoder: encoder.Encoder
    encode: Encode
    brands: BrandIndex | BrandMeans
    recommender: Ready | None

    @cached_property
    def ids(self) -> list[str]:
        """Of the bundle's products, by place: how the recommender knows them."""
        return self.bundle.catalogue["product_id"].to_pylist()

    @cached_property
    def places(self) -> dict[str, int]:
        return {product: place for place, product in enumerate(self.ids)}

    @property
    def parts(self) -> list[str]:
        """What the bundle holds beside search."""
        return [name for name in PARTS if (self.bundle.path / name).is_dir()]

    @cached_property
    def middle(self) -> Vector:
        """(width,): what the catalogue is about."""
        return mean(self.bundle.hybrid.vectors)

    @cached_property
    def said(self) -> dict[str, str]:
        """Past replies by their ids."""
        past = self.bundle.replies
        return dict(zip(past.index.ids, past.index.texts, strict=True)) if past else {}

    @property
    def filters_viewed(self) -> bool:
        """Whether the recommender was judged without what a shopper had taken already."""
        return bool((self.bundle.manifest.get("recommender") or {}).get("filter_viewed", True))

    @property
    def events(self) -> Collection[str]:
        """The kinds that the recommender has learnt from."""
        told: Collection[str] = (self.bundle.manifest.get("recommender") or {}).get("events") or ()
        return told or ("view", "cart", "purchase")

    def wants_vector(self, query: str, weight: float | None) -> bool:
        """Whether meaning counts at all: where words alone do, encoding would be for nothing."""
        return (self.bundle.hybrid.weight(query) if weight is None else weight) > 0

    def of_products(self, product_ids: Sequence[str]) -> Vector:
        """Vectors of those that are known, in their order, shape (at most n, width)."""
        return self.index.vectors(product_ids)[1]

    def skip_settled(self, store: Store) -> None:
        """Pass over changes that the shop's files held when the bundle was made (`package.settled`)."""
        settled = int(self.bundle.manifest.get("settled", 0))
        if settled <= store.revision():
            self.index.pass_over(settled)
        else:  # a new store, whose numbers say nothing of the old one's
            log.warning("the store is younger than package.settled: all its changes are applied")

    def follow(self, store: Store) -> int:
        """Apply what has changed in the store since; how many changes. Blocking; one thread at a time."""
        done = 0
        while changes := store.changes(self.index.revision, PAGE):
            self._apply(changes)
            done += len(changes)
        return done

    def _apply(self, changes: Sequence[Change]) -> None:
        texts = [change.product["text"] for change in changes if change.product is not None]
        vectors = self.encoder.encode(texts)
        changed = [change.product_id for change in changes]
        gone = sold(self.index, changed)
        self.index.apply(changes, vectors)
        self.brands.change(gone, sold(self.index, changed))


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
    encode = remote or Batcher(lambda queries: list(model.encode(queries, query=True)), settings.batch_size, pool)
    if settings.cached_queries:
        encode = Remembered(encode, settings.cached_queries)
    index = LiveIndex(opened, settings.index)
    made = Loaded(folder.name, opened, index, model, encode, brands(opened), _recommender(opened))
    _check_sense(made)
    # Read and computed now, not while a shopper waits.
    _ = made.places, made.middle, opened.reranker, opened.classifier, opened.replies, opened.asked
    return made


def _recommender(opened: Bundle) -> Ready | None:
    folder, products = opened.path / "recommender", opened.catalogue.num_rows
    if not folder.is_dir():
        return None
    made = ready.load(opened.manifest["recommender"]["system"], folder)
    if made.products != products:
        raise UserError(f"{folder} knows {made.products} products, the catalogue has {products}", "package it again")
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
