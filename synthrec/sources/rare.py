"""Searches that too few shoppers typed: a rare query can name the one who typed it (k-anonymity, by distinct shoppers).

In two steps, as with repeated ids: each part's searches go to a bucket by the hash of their query, then each bucket,
which has all searches with its queries, counts their shoppers. One shopper who types a query a hundred times is one
shopper; a search without a user id is nobody's, so it counts for none, and is kept where enough known shoppers typed
the same.
"""

from __future__ import annotations

import unicodedata
import zlib
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from synthrec import schema
from synthrec.storage import Folder

SEARCH = pa.schema(
    [
        pa.field("query", pa.string()),  # as compared
        pa.field("user_id", pa.string()),
        pa.field("order", pa.int64()),  # of the part
        pa.field("row", pa.int64()),  # of the part's corpus
    ]
)
RARE = pa.schema([pa.field("order", pa.int64()), pa.field("row", pa.int64())])


def compared(query: str) -> str:
    """A query as it is compared with others: letter case, width and spaces do not tell shoppers apart."""
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split())


def scatter(row: dict[str, Any], corpus: Folder, buckets: Folder, count: int) -> dict[str, Any]:
    """One part's searches -> the buckets of their queries. Writes the same when run again."""
    name = f"{row['part']}.parquet"
    if not corpus.exists(name):
        return {"rows": 0}
    with corpus.fs.open_input_file(f"{corpus.path}/{name}") as file:
        table = pq.read_table(file, columns=["kind", "text", "user_id"])
    by_bucket: dict[int, list[dict[str, Any]]] = {}
    for place, one in enumerate(table.to_pylist()):
        if one["kind"] == "search":
            query = compared(one["text"])
            search = {"query": query, "user_id": one["user_id"], "order": row["order"], "row": place}
            by_bucket.setdefault(zlib.crc32(query.encode()) % count, []).append(search)
    for number, searches in by_bucket.items():
        (buckets / f"{number:05d}").write_table(name, schema.table(searches, SEARCH))
    return {"rows": sum(map(len, by_bucket.values()))}


def gather(row: dict[str, Any], buckets: Folder, out: Folder, k: int) -> dict[str, Any]:
    """One bucket -> RARE rows: places of searches whose query fewer than k shoppers typed."""
    searches = (buckets / row["bucket"]).read_table(SEARCH).to_pylist()
    shoppers: dict[str, set[str]] = {}
    for one in searches:
        shoppers.setdefault(one["query"], set()).update({one["user_id"]} - {None})
    rare = [one for one in searches if len(shoppers[one["query"]]) < k]
    if rare:
        out.write_table(f"{row['bucket']}.parquet", schema.table(rare, RARE))
    return {"rare": len(rare)}


def of_part(found: Folder, order: int) -> set[int]:
    """The rows of one part that are rare searches."""
    return set(found.read_table(RARE, where=pads.field("order") == order)["row"].to_pylist())
