"""The nearest vectors by Qdrant: a `VectorIndex` whose graph a server holds.

A collection is named by the vectors in it, so replicas that serve the same bundle share one, and whoever comes first
fills it. Points are known by their positions. Nothing live is written to it, since replicas fold at different times:
what has gone since is passed over, what has come is compared in the replica. `drop` removes a collection when no
replica serves its bundle any more.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthrec.errors import UserError
from synthrec.retrieval.vectors import FEW, Away, Floats, Mask, Positions, VectorIndex, build

try:
    from qdrant_client import QdrantClient, models
    from qdrant_client.http.exceptions import ApiException
except ImportError:
    raise UserError("an index in Qdrant needs the package qdrant-client", "pip install 'synthrec[qdrant]'") from None

PART = 1_000  # points sent at once: some 4 MB of JSON at width 384
EF = 256  # candidates of a search in the graph, at least (HNSW, Malkov & Yashunin 2018)
READY_SECONDS = 600.0  # until the server has built its graph
ANSWER_SECONDS = 10
KEY = "SYNTHREC_QDRANT_KEY"  # the environment variable that holds the server's API key, where it wants one
SAMPLED = 16  # points of a collection that are compared with the bundle's vectors
CLOSE = 1e-3  # that they may differ by

log = logging.getLogger("synthrec.serve.index")  # the endpoint writes what is below `synthrec.serve` into its log


@dataclass(frozen=True)
class Server:
    """Makes indexes whose first snapshot, the bundle's, is a collection of the server; as `vectors.Maker`.

    Attributes:
        exact: of what has come since, compared here: products up to which that is done without codes.
    """

    client: QdrantClient
    prefix: str
    exact: int

    @classmethod
    def at(cls, url: str, exact: int) -> Server:
        """The server at `qdrant://host:port/prefix`, or `qdrants://` for TLS."""
        kind, _, rest = url.partition("://")
        host, _, prefix = rest.partition("/")
        return cls(connect(f"{'https' if kind == 'qdrants' else 'http'}://{host}"), prefix or "synthrec", exact)

    def first(self, vectors: Floats) -> Qdrant:
        return Qdrant(vectors, self.client, self.prefix)

    def after(self, before: VectorIndex, kept: Positions, vectors: Floats) -> Grown:
        if isinstance(before, Grown):
            base, kept = before.base, before.kept[kept[kept < len(before.kept)]]
        else:
            assert isinstance(before, Qdrant)
            base = before
        return Grown(base, kept, build(vectors[len(kept) :], self.exact))


def connect(url: str) -> QdrantClient:
    """No request is made yet."""
    return QdrantClient(url, api_key=os.environ.get(KEY), timeout=ANSWER_SECONDS, check_compatibility=False)


class Qdrant:
    """Immutable. Recall is the server's: that of HNSW with `EF` candidates, exact in a collection without a graph yet.

    Args:
        vectors: unit vectors, (size, width); may be mapped from a file.
        client: of a server, or `QdrantClient(":memory:")`.

    Raises:
        Away: here and in every method: the server cannot be reached, or refuses.
        UserError: the collection holds other vectors.
    """

    def __init__(self, vectors: Floats, client: QdrantClient, prefix: str = "synthrec") -> None:
        self.size, width = vectors.shape
        self._client = client
        digest = hashlib.sha256()
        for start in range(0, self.size, PART):  # mapped vectors need not be in memory all at once
            digest.update(np.ascontiguousarray(vectors[start : start + PART]).data)
        self.collection = f"{prefix}-{width}-{digest.hexdigest()[:32]}"
        with _told("take the vectors"):
            self._fill(vectors)
            self._wait()
            self._check(vectors)
        log.info("vectors are in Qdrant", extra={"facts": {"collection": self.collection}})

    def search(self, vectors: Floats, k: int, allowed: Mask | None = None) -> tuple[Positions, Floats]:
        """As `VectorIndex.search`; of equals at the last place the server chooses.

        Few allowed positions are sent along, and compared with all; where many are allowed, more are asked for until k
        of them are, or all have been seen.
        """
        positions, scores = np.full((len(vectors), k), -1, np.int64), np.full((len(vectors), k), -np.inf, np.float32)
        count = self.size if allowed is None else int(np.count_nonzero(allowed))
        wanted = min(k, count)
        if not wanted:
            return positions, scores
        for row, vector in enumerate(vectors):
            with _told("answer"):
                places, values = self._one(vector, wanted, count, allowed)
            positions[row, : len(places)], scores[row, : len(places)] = places, values
        return positions, scores

    def drop(self) -> None:
        """Remove the collection from the server."""
        with _told("drop a collection"):
            self._client.delete_collection(self.collection)

    def _one(self, vector: Floats, k: int, count: int, allowed: Mask | None) -> tuple[Positions, Floats]:
        if allowed is None:
            return self._ask(vector, k)
        if count <= FEW:
            those = [models.HasIdCondition(has_id=np.flatnonzero(allowed).tolist())]
            return self._ask(vector, k, models.Filter(must=those), exact=True)
        depth = 2 * k * self.size // count
        while True:
            places, scores = self._ask(vector, min(depth, self.size), exact=depth >= self.size)
            passed = allowed[places]
            if np.count_nonzero(passed) >= k or depth >= self.size:
                return places[passed][:k], scores[passed][:k]
            depth *= 4

    def _ask(
        self, vector: Floats, k: int, those: models.Filter | None = None, exact: bool = False
    ) -> tuple[Positions, Floats]:
        found = self._client.query_points(
            self.collection,
            query=vector.tolist(),
            limit=k,
            query_filter=those,
            search_params=models.SearchParams(hnsw_ef=max(EF, k), exact=exact),
            with_payload=False,
        ).points
        places = np.array([int(one.id) for one in found], np.int64)
        scores = np.array([one.score for one in found], np.float32)
        order = np.lexsort((places, -scores))  # ties by position
        return places[order], scores[order]

    def _fill(self, vectors: Floats) -> None:
        """Nothing where it is full already. What two replicas write at once is the same."""
        if not self._client.collection_exists(self.collection):
            how = models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT)
            try:
                self._client.create_collection(self.collection, vectors_config=how)
            except (ApiException, ValueError):
                if not self._client.collection_exists(self.collection):  # another replica was not first
                    raise
        if self._client.count(self.collection, exact=True).count >= self.size:
            return  # `_check` says whether these are the ones
        for start in range(0, self.size, PART):
            part = np.asarray(vectors[start : start + PART])
            places: list[Any] = list(range(start, start + len(part)))
            points = models.Batch(ids=places, vectors=part.tolist())
            self._client.upsert(self.collection, points=points, wait=True)

    def _check(self, vectors: Floats) -> None:
        """Raise UserError where the collection holds others: it was written by another program, or damaged."""
        how = self._client.get_collection(self.collection).config.params.vectors
        width = vectors.shape[1]
        same = isinstance(how, models.VectorParams) and (how.size, how.distance) == (width, models.Distance.DOT)
        if same and self._client.count(self.collection, exact=True).count == self.size:
            some = np.unique(np.linspace(0, self.size - 1, min(self.size, SAMPLED)).astype(int)).tolist()
            points = self._client.retrieve(self.collection, some, with_vectors=True)
            found: dict[int, Any] = {int(one.id): one.vector for one in points}
            if len(found) == len(some) and np.allclose([found[i] for i in some], vectors[some], rtol=0, atol=CLOSE):
                return
        raise UserError(
            f"the collection {self.collection} holds other vectors than this bundle's",
            "give another prefix in serve.index.vectors, or delete the collection: it is filled again",
        )

    def _wait(self) -> None:
        """Until the graph is built: before that a search is exact, and slow."""
        end = time.monotonic() + READY_SECONDS
        while self._client.get_collection(self.collection).status != models.CollectionStatus.GREEN:
            if time.monotonic() > end:
                raise UserError(f"Qdrant is not done with {self.collection}", "see its log, and its processors")
            time.sleep(0.2)


class Grown:
    """A collection without what has gone since, and after it what has come. Immutable.

    Args:
        kept: positions in the collection of those that stay, ascending.
        late: an index of those that came, here.
    """

    def __init__(self, base: Qdrant, kept: Positions, late: VectorIndex) -> None:
        self.base, self.kept, self.late = base, kept, late
        self.size = len(kept) + late.size

    def search(self, vectors: Floats, k: int, allowed: Mask | None = None) -> tuple[Positions, Floats]:
        """As `VectorIndex.search`."""
        first = len(self.kept)
        old, new = (slice(None), None) if allowed is None else (allowed[:first], allowed[first:])
        mask = np.zeros(self.base.size, bool)
        mask[self.kept[old]] = True
        places, scores = self.base.search(vectors, k, mask)
        places = np.where(places < 0, -1, np.searchsorted(self.kept, places))
        others, theirs = self.late.search(vectors, k, new)
        places = np.hstack([places, np.where(others < 0, -1, others + first)])
        scores = np.hstack([scores, theirs])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(places, order, 1), np.take_along_axis(scores, order, 1)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """The client's errors in words."""
    try:
        yield
    except (ApiException, OSError) as error:
        raise Away(f"Qdrant does not {what}: {error}", "see that it runs and can be reached, and its disk") from error
