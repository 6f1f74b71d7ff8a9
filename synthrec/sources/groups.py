"""Documents about many records at once: a shopper (searches, purchases, reviews) and a brand (its products).

In two steps, so that no one holds all of the corpus: each part's rows go to a bucket by the hash of their shopper or
brand; then each bucket, which has all rows of its shoppers and brands, is grouped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from synthrec import schema
from synthrec.storage import Folder

Row = dict[str, Any]
ROWS_A_BUCKET = 200_000
LATEST = 50  # of each kind of event that a shopper's document keeps

EVENT = pa.schema(
    [
        pa.field("key", pa.string()),  # shopper:<pseudonym> | brand:<language>:<brand>
        pa.field("kind", pa.string()),  # search | review | purchase | product
        pa.field("id", pa.string()),  # of the document
        pa.field("language", pa.string()),
        pa.field("text", pa.string()),
        pa.field("product_id", pa.string()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("name", pa.string()),  # the shopper's pseudonym, the brand's name
        pa.field("category", pa.string()),
    ]
)


def scatter(row: dict[str, Any], out: Folder, buckets: Folder, count: int) -> dict[str, Any]:
    """One published part -> its rows in the buckets of their shopper or brand. Writes the same when run again."""
    name = f"{row['part']}.parquet"
    by_bucket: dict[int, list[Row]] = {}
    for event in _events(out, name):
        by_bucket.setdefault(int(schema.row_id(event["key"])[:8], 16) % count, []).append(event)
    for bucket, events in by_bucket.items():
        (buckets / f"{bucket:05d}").write_table(name, schema.table(events, EVENT))
    return {"rows": sum(map(len, by_bucket.values()))}


def gather(row: dict[str, Any], out: Folder, buckets: Folder) -> dict[str, Any]:
    """One bucket -> the CORPUS rows of its shoppers and brands."""
    events = (buckets / row["bucket"]).read_table(EVENT).to_pylist()
    # Purchases have no id of their own: without the product, those of one moment would stand as the files do.
    events.sort(
        key=lambda e: (e["key"], e["timestamp"].timestamp() if e["timestamp"] else 0.0, e["id"], e["product_id"] or "")
    )
    rows = []
    for key, some in groupby(events, key=lambda event: str(event["key"])):
        make = _shopper if key.startswith("shopper:") else _brand
        rows.append(make(key, list(some)))
    (out / "corpus").write_table(f"groups-{row['bucket']}.parquet", schema.table(rows, schema.CORPUS))
    return {"kinds": json.dumps(Counter(one["kind"] for one in rows))}


def _events(out: Folder, name: str) -> Iterator[Row]:
    for row in _read(out / "corpus", name):
        if row["kind"] not in ("search", "review") or (row["kind"] == "review" and row["user_id"] is None):
            continue
        # A search of nobody in particular is a history of its own.
        key = f"shopper:{row['user_id'] or row['doc_id']}"
        kept = {k: row[k] for k in ("kind", "language", "text", "product_id", "timestamp")}
        yield {"key": key, "id": row["doc_id"], "name": row["user_id"], **kept}
    for row in _read(out / "interactions", name):
        if row["event"] == "purchase":
            kept = {k: row[k] for k in ("product_id", "timestamp")}
            yield {"key": f"shopper:{row['user_id']}", "kind": "purchase", "id": "", "name": row["user_id"], **kept}
    for row in _read(out / "catalogue", name):
        if row["brand"]:
            kept = {k: row[k] for k in ("language", "product_id", "category")}
            key = f"brand:{row['language']}:{row['brand']}"
            yield {"key": key, "kind": "product", "id": row["product_id"], "name": row["brand"], **kept}


def _shopper(key: str, events: list[Row]) -> Row:
    by_kind: dict[str, list[Row]] = {kind: [] for kind in ("search", "purchase", "review")}
    for event in events:
        by_kind[event["kind"]].append(event)
    latest = {kind: some[-LATEST:] for kind, some in by_kind.items()}
    fields = {
        "searches": [[e["id"], e["text"]] for e in latest["search"]],
        "purchases": [e["product_id"] for e in latest["purchase"]],
        "reviews": [[e["id"], e["product_id"], e["text"]] for e in latest["review"]],
    }
    languages = Counter(event["language"] for event in events if event["language"])
    return {
        "doc_id": key,
        "kind": "shopper",
        "language": min(languages, key=lambda la: (-languages[la], la)) if languages else "en",
        "text": "\n".join(e["text"] for e in latest["search"] + latest["review"]),
        "user_id": events[0]["name"],
        "timestamp": events[-1]["timestamp"],
        "fields": {name: json.dumps(value, ensure_ascii=False) for name, value in fields.items()},
    }


def _brand(key: str, events: list[Row]) -> Row:
    first = events[0]
    categories = list(dict.fromkeys(e["category"] for e in events if e["category"]))
    products = [e["product_id"] for e in events]
    return {
        "doc_id": key,
        "kind": "brand",
        "language": first["language"],
        "text": first["name"],
        "fields": {
            "brand": first["name"],
            "categories": ("、" if first["language"] == "zh" else ", ").join(categories),
            "products": json.dumps(products),
        },
    }


def _read(folder: Folder, name: str) -> Iterator[Row]:
    if folder.exists(name):
        for batch in pads.dataset(f"{folder.path}/{name}", filesystem=folder.fs, format="parquet").to_batches():
            yield from batch.to_pylist()
