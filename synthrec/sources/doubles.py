"""Ids that stand more than once in the shop's files, found without anybody holding all ids.

Each part's ids go to a bucket by their hash; then each bucket, which has all places of its ids, is looked through. The
first place counts, in the order of the parts and of the rows in them.
"""

from __future__ import annotations

import zlib
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from synthrec import schema
from synthrec.storage import Folder

PLACE = pa.schema(
    [
        pa.field("doc_id", pa.string()),
        pa.field("order", pa.int64()),  # of the part
        pa.field("row", pa.int64()),  # of the part's corpus
        pa.field("where", pa.string()),  # file:row of the shop's own
    ]
)
ROWS_A_BUCKET = 500_000
DOUBLE = pa.schema([pa.field("order", pa.int64()), pa.field("row", pa.int64()), pa.field("first", pa.string())])


def scatter(row: dict[str, Any], corpus: Folder, buckets: Folder, count: int) -> dict[str, Any]:
    """One part's ids -> their buckets. Writes the same when run again."""
    name = f"{row['part']}.parquet"
    if not corpus.exists(name):
        return {"rows": 0}
    with corpus.fs.open_input_file(f"{corpus.path}/{name}") as file:
        places = pq.read_table(file, columns=["doc_id", "where"])
    places = places.append_column("order", pa.array([row["order"]] * len(places), pa.int64()))
    places = places.append_column("row", pa.array(range(len(places)), pa.int64()))
    bucket = pa.array([zlib.crc32(one.encode()) % count for one in places["doc_id"].to_pylist()], pa.int64())
    for number in bucket.unique().to_pylist():
        own = places.filter(pc.equal(bucket, number))
        (buckets / f"{number:05d}").write_table(name, own.select(PLACE.names).cast(PLACE))
    return {"rows": len(places)}


def gather(row: dict[str, Any], buckets: Folder, out: Folder) -> dict[str, Any]:
    """One bucket -> DOUBLE rows: places whose id has stood before, and where that was."""
    places = (buckets / row["bucket"]).read_table(PLACE).sort_by([("order", "ascending"), ("row", "ascending")])
    first: dict[str, str] = {}
    found = []
    for one in places.to_pylist():
        before = first.setdefault(one["doc_id"], one["where"])
        if before != one["where"]:
            found.append({"order": one["order"], "row": one["row"], "first": before})
    if found:
        out.write_table(f"{row['bucket']}.parquet", schema.table(found, DOUBLE))
    return {"doubles": len(found)}


def of_part(found: Folder, order: int) -> dict[int, str]:
    """The rows of one part whose id has stood before -> where."""
    table = found.read_table(DOUBLE, where=pads.field("order") == order)
    return dict(zip(table["row"].to_pylist(), table["first"].to_pylist(), strict=True))
