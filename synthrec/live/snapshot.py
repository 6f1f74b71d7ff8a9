"""A catalogue as searched: its rows, vectors, words and filters, all by position. Immutable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synthrec import schema
from synthrec.bundle import Bundle
from synthrec.retrieval.filters import Facets
from synthrec.retrieval.postings import Few, Matrix
from synthrec.retrieval.vectors import Floats, Maker, VectorIndex

Row = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """Most of the catalogue.

    Attributes:
        ids: product ids by position; `places` the other way round.
        vectors: unit vectors, (size, width).
    """

    table: pa.Table
    ids: list[str]
    places: dict[str, int]
    vectors: Floats
    index: VectorIndex
    words: Matrix
    facets: Facets

    @classmethod
    def of(cls, bundle: Bundle, maker: Maker) -> Snapshot:
        vectors = bundle.hybrid.vectors
        return cls._made(bundle.catalogue, vectors, Matrix.of(bundle.hybrid.bm25), maker.first(vectors))

    def merged(self, alive: NDArray[np.bool_], delta: Delta, maker: Maker) -> Snapshot:
        """One snapshot of this and the delta, of the products that are alive, shape (size + delta's,)."""
        old, new = alive[: len(self.ids)], alive[len(self.ids) :]
        rows = schema.table([row for row, stays in zip(delta.rows, new, strict=True) if stays], schema.CATALOGUE)
        table = pa.concat_tables([self.table.filter(pa.array(old)), rows]).combine_chunks()
        joined = np.concatenate([self.vectors[old], delta.vectors[new]])
        index = maker.after(self.index, np.flatnonzero(old), joined)
        return self._made(table, joined, self.words.merged(alive, delta.words), index)

    def row(self, place: int, names: Sequence[str] | None = None) -> Row:
        """A product; `names`: these fields alone, which is much faster than all."""
        found = {name: self.columns[name][place].as_py() for name in (self.columns if names is None else names)}
        if names is None or "attributes" in names:
            found["attributes"] = dict(found.get("attributes") or ())
        return found

    @cached_property
    def columns(self) -> dict[str, pa.ChunkedArray]:
        """Of the table, each looked up once."""
        return dict(zip(self.table.column_names, self.table.columns, strict=True))

    @classmethod
    def _made(cls, table: pa.Table, unit: Floats, words: Matrix, index: VectorIndex) -> Snapshot:
        table = table.combine_chunks()
        ids = table["product_id"].to_pylist()
        places = {one: place for place, one in enumerate(ids)}
        return cls(table, ids, places, unit, index, words, Facets.of(table))


@dataclass(frozen=True)
class Delta:
    """Products that came since the snapshot, some replaced since: their positions follow the snapshot's.

    Attributes:
        places: product id -> position in the delta of its latest row.
        vectors: (products, width).
    """

    rows: tuple[Row, ...]
    places: dict[str, int]
    vectors: Floats
    words: Few
    facets: Facets

    @classmethod
    def empty(cls, width: int) -> Delta:
        return cls((), {}, np.zeros((0, width), np.float32), Few(), Facets({}, np.zeros(0)))

    def plus(self, rows: Sequence[Row], weights: Sequence[dict[str, float]], unit: Floats) -> Delta:
        """With more rows, what their terms weigh, and their vectors."""
        added = {row["product_id"]: place for place, row in enumerate(rows, len(self.rows))}
        return Delta(
            (*self.rows, *rows),
            self.places | added,
            np.concatenate([self.vectors, unit]),
            self.words.plus(weights),
            self.facets.plus(rows),
        )
