"""Vectors of a catalogue larger than a node, in Qdrant: a `VectorIndex` whose vectors a server holds.

A collection is named by the vectors in it, so replicas that serve the same snapshot share one, and whoever comes first
fills it. Points are known by their positions. `drop` removes the collection when no replica serves it any more.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from synthrec.errors import UserError
from synthrec.retrieval.vectors import FEW, Floats, Mask, Positions

try:
    from qdrant_client import QdrantClient, models
    from qdrant_client.http.exceptions import ApiException
except ImportError:
    raise UserError("an index in Qdrant needs the package qdrant-client", "pip install 'synthrec[qdrant]'") from None

PART = 1_000  # points sent at once: some 4 MB of JSON at width 384
EF = 256  # candidates of a search in the graph, at least (HNSW, Malkov & Yashunin 2018)
READY_SECONDS = 600.0  # until the server has built its graph


class Qdrant:
    """Immutable. Recall is the server's: that of HNSW with `EF` candidates, exact in a collection without a graph yet.

    Args:
        vectors: unit vectors, (size, width); may be mapped from a file.
        client: of a server, or `QdrantClient(":memory:")`.

    Raises:
        UserError: here and in every method: the server cannot be reached, or refuses.
    """

    def __init__(self, vectors: Floats, client: QdrantClient, prefix: str = "synthrec") -> None:
        self.size, width = vectors.shape
        self._client = client
        digest = hashlib.sha256(np.ascontiguousarray(vectors).tobytes()).hexdigest()
        self.collection = f"{prefix}-{width}-{digest[:32]}"
        with _told("take the vectors"):
            self._fill(vectors)
            self._wait()

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
        if self._client.count(self.collection, exact=True).count == self.size:
            return
        for start in range(0, self.size, PART):
            part = np.asarray(vectors[start : start + PART])
            places: list[Any] = list(range(start, start + len(part)))
            points = models.Batch(ids=places, vectors=part.tolist())
            self._client.upsert(self.collection, points=points, wait=True)

    def _wait(self) -> None:
        """Until the graph is built: before that a search is exact, and slow."""
        end = time.monotonic() + READY_SECONDS
        while self._client.get_collection(self.collection).status != models.CollectionStatus.GREEN:
            if time.monotonic() > end:
                raise UserError(f"Qdrant is not done with {self.collection}", "see its log, and its processors")
            time.sleep(0.2)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """The client's errors in words."""
    try:
        yield
    except (ApiException, OSError) as error:
        raise UserError(
            f"Qdrant does not {what}: {error}", "see that it runs and can be reached, and its disk"
        ) from error
