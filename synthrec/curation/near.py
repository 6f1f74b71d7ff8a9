"""Near-duplicates anywhere in a task: MinHash (Broder 1997) with banded LSH (Leskovec, Rajaraman & Ullman 2020, ch. 3).

Texts are sets of character n-grams. Each text's signature is cut into bands; texts that agree in a whole band are
candidates, and their Jaccard similarity is then computed. Linked texts form groups, and the best of each is kept. Band
hashes are scattered over buckets on disk, so memory holds the texts and one bucket, however many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from numpy.typing import NDArray

from synthrec import cluster, schema
from synthrec.curation.base import Aids, Outcome, Parts, Row, split
from synthrec.sources.cleaning import HAN
from synthrec.storage import Folder

# At Jaccard .8 a pair is a candidate with probability 1 - (1 - .8^5)^16 = .998; at .5 with .40.
BANDS, ROWS_A_BAND = 16, 5
ROWS_A_BUCKET = 100_000
SEED = 42

TEXT = pa.schema([("id", pa.string()), ("text", pa.string()), ("product", pa.string()), ("quality", pa.float64())])
BAND = pa.schema([("key", pa.uint64()), ("row", pa.int64())])
PAIR = pa.schema([("one", pa.int64()), ("other", pa.int64())])


@dataclass(frozen=True)
class Copies:
    """Ids of rows that are near-copies of better ones, and the ids and texts of those."""

    ids: pa.Array
    kept: pa.Array
    texts: pa.Array


def copies_of(parts: Iterable[list[Row]], aids: Aids) -> Copies:
    """Look for near-duplicates: of the same product, or of the whole task (`curate.near_scope`)."""
    assert isinstance(parts, Parts)  # the search reads them where they are, part by part, in parallel
    work = aids.work / "near"
    work.delete()
    names = parts.names
    *starts, rows = accumulate((parts.folder.rows(name) for name in names), initial=0)
    buckets_of = 1 + rows // ROWS_A_BUCKET
    units = [{"name": name, "start": at, "buckets": buckets_of} for name, at in zip(names, starts, strict=True)]
    list(cluster.work(units, partial(_sign, parts=parts, aids=aids, work=work), num_cpus=1))
    texts = (work / "texts").read_table(TEXT).combine_chunks()
    shared, least = ray.put(texts), aids.config.curate.near_similarity
    buckets = sorted({name.split("/")[0] for name in (work / "bands").files()})
    pair = partial(_pairs, work=work, texts=shared, least=least)
    list(cluster.work([{"bucket": bucket} for bucket in buckets], pair, num_cpus=1))
    pairs = (work / "pairs").read_table(PAIR)
    work.delete()
    return _best(texts, pairs)


def near_duplicates(rows: list[Row], aids: Aids, copies: Copies) -> Outcome:
    """Refuse rows that are near-copies; the detail names the row that was kept for its group."""
    found = pc.index_in(pa.array([row["id"] for row in rows], pa.string()), value_set=copies.ids).to_pylist()
    at = {row["id"]: place for row, place in zip(rows, found, strict=True)}

    def why(row: Row) -> tuple[str, str] | None:
        place = at[row["id"]]
        if place is None:
            return None
        return "near-duplicate", f"of {copies.kept[place]}, which says '{copies.texts[place]}'"

    return split(rows, why)


def shingles(text: str) -> set[str]:
    """Character 3-grams; 2-grams where there are Han characters, each of which says more. Never empty."""
    size = 2 if HAN.search(text) else 3
    padded = f" {text.casefold()} "
    return {padded[i : i + size] for i in range(max(1, len(padded) - size + 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    both = len(one & other)
    return both / (len(one) + len(other) - both)


def signatures(texts: list[str]) -> NDArray[np.uint32]:
    """MinHash signatures, shape (n, BANDS * ROWS_A_BAND)."""
    import rensa

    sets = [list(shingles(text)) for text in texts]
    return np.array(rensa.RMinHash.digests_from_token_sets(sets, BANDS * ROWS_A_BAND, SEED), np.uint32)


def band_keys(signed: NDArray[np.uint32], salts: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One hash a band, shape (n, BANDS). Rows of different salts share none."""
    bands = signed.reshape(len(signed), BANDS, ROWS_A_BAND).astype(np.uint64)
    keys = np.add.outer(salts, np.arange(BANDS, dtype=np.uint64)).astype(np.uint64)
    for place in range(ROWS_A_BAND):
        keys = _mixed(keys ^ bands[:, :, place])
    return keys


def _mixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014)."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _sign(row: dict[str, Any], parts: Parts, aids: Aids, work: Folder) -> dict[str, Any]:
    """One part: its texts, and the hashes of their bands in their buckets."""
    rows = parts.read(row["name"])
    quality = _quality(rows, aids)
    texts = [
        {"id": one["id"], "text": one["text"], "product": one["product_id"] or "", "quality": good}
        for one, good in zip(rows, quality, strict=True)
    ]
    (work / "texts").write_table(row["name"], pa.Table.from_pylist(texts, TEXT))
    whole = aids.config.curate.near_scope == "task"
    salts = [0 if whole else int(schema.row_id(one["product_id"] or one["id"])[:16], 16) for one in rows]
    keys = band_keys(signatures([one["text"] for one in rows]), np.array(salts, np.uint64))
    numbers = np.repeat(np.arange(row["start"], row["start"] + len(rows)), BANDS)
    flat = keys.reshape(-1)
    place = flat % np.uint64(row["buckets"])
    for bucket in range(row["buckets"]):
        own = place == bucket
        table = pa.table({"key": flat[own], "row": numbers[own]}, schema=BAND)
        (work / "bands" / f"{bucket:05d}").write_table(row["name"], table)
    return {"rows": len(rows)}


def _quality(rows: list[Row], aids: Aids) -> list[float]:
    """What is kept of a group: what the LLM is surest of, or scored as fitting its product."""
    scored = aids.scored({row["product_id"] for row in rows if row["product_id"]})
    return [scored.get((row["text"], row["product_id"]), 0.0) if row["score"] is None else row["score"] for row in rows]


def _pairs(row: dict[str, Any], work: Folder, texts: Any, least: float) -> dict[str, Any]:
    """One bucket: pairs of rows that share a band and are as alike as asked for."""
    bands = (work / "bands" / row["bucket"]).read_table(BAND)
    order = np.lexsort((bands["row"].to_numpy(), bands["key"].to_numpy()))
    keys, numbers = bands["key"].to_numpy()[order], bands["row"].to_numpy()[order]
    same = np.flatnonzero(keys[1:] == keys[:-1]) + 1
    begins = np.maximum.accumulate(np.where(np.r_[True, keys[1:] != keys[:-1]], np.arange(len(keys)), 0))
    # Each with the one before it and with the first of its band: a chain, and a star in case the chain breaks.
    pairs = np.unique(
        np.r_[np.c_[numbers[same - 1], numbers[same]], np.c_[numbers[begins[same]], numbers[same]]], axis=0
    )
    column = ray.get(texts)["text"]

    @lru_cache(maxsize=100_000)
    def grams(number: int) -> set[str]:
        return shingles(column[number].as_py())

    alike = [
        (one, other) for one, other in pairs.tolist() if one != other and jaccard(grams(one), grams(other)) >= least
    ]
    table = pa.Table.from_pylist([{"one": one, "other": other} for one, other in alike], PAIR)
    (work / "pairs").write_table(f"{row['bucket']}.parquet", table)
    return {"pairs": len(alike)}


def _best(texts: pa.Table, pairs: pa.Table) -> Copies:
    """Of each group of linked rows the best is kept: by quality, then by id."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    size = len(texts)
    edges = (np.ones(len(pairs), np.int8), (pairs["one"].to_numpy(), pairs["other"].to_numpy()))
    _, group = connected_components(coo_matrix(edges, shape=(size, size)), directed=False)
    place = np.empty(size, np.int64)
    place[pc.sort_indices(texts["id"]).to_numpy()] = np.arange(size)
    order = np.lexsort((place, -texts["quality"].to_numpy(), group))
    best = order[np.r_[True, group[order][1:] != group[order][:-1]]] if size else order
    of_group = np.empty(size, np.int64)
    of_group[group[best]] = best
    kept = of_group[group]
    copies = np.flatnonzero(kept != np.arange(size))
    names, said = texts["id"].combine_chunks(), texts["text"].combine_chunks()
    return Copies(names.take(pa.array(copies)), names.take(pa.array(kept[copies])), said.take(pa.array(kept[copies])))
