"""Shoppers' documents made less particular until at least k shoppers share each combination (k-anonymity: generalise,
at the end suppress; Sweeney, "k-anonymity: a model for protecting privacy", 2002).

The combination is a document's language and the categories of what the shopper bought or reviewed. Where fewer than k
shoppers share it, only events of the commonest category are kept; where that is still rare, no purchase or review is;
and where that is, the document is refused. Each level is counted among those who reached it. Documents go to buckets by
the hash of their combination, so that no one holds all of them. A search of nobody in particular is no shopper.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from synthrec import schema
from synthrec.storage import Folder

Row = dict[str, Any]
LEVELS = 3
PLACE = pa.schema([pa.field(n, pa.string()) for n in ("combination", "part", "doc_id")])


def scatter(row: Row, out: Folder, work: Folder, level: int, count: int) -> Row:
    """One file of documents -> its shoppers who are rare on all levels before, in the buckets of their combinations."""
    name, category = f"{row['part']}.parquet", _categories(out)
    levels = _levels(work, row["part"], level)
    by_bucket: dict[int, list[Row]] = {}
    for document in _read(out, name):
        if document["kind"] == "shopper" and document["user_id"] and levels.get(document["doc_id"], 0) == level:
            made = json.dumps(combination(document, category, level), ensure_ascii=False)
            place = {"combination": made, "part": row["part"], "doc_id": document["doc_id"]}
            by_bucket.setdefault(int(schema.row_id(made)[:8], 16) % count, []).append(place)
    for number, places in by_bucket.items():
        (work / f"at-{level}" / f"{number:05d}").write_table(name, schema.table(places, PLACE))
    return {"rows": sum(map(len, by_bucket.values()))}


def gather(row: Row, work: Folder, level: int, k: int) -> Row:
    """One bucket -> the places whose combination fewer than k shoppers share."""
    places = (work / f"at-{level}" / row["bucket"]).read_table(PLACE).to_pylist()
    shared = Counter(one["combination"] for one in places)
    rare = [one for one in places if shared[one["combination"]] < k]
    if rare:
        (work / f"rare-{level}").write_table(f"{row['bucket']}.parquet", schema.table(rare, PLACE))
    return {"rare": len(rare)}


def publish(row: Row, out: Folder, work: Folder, k: int) -> Row:
    """One file of documents, each on its level; those on none go to rejects."""
    name, category = f"{row['part']}.parquet", _categories(out)
    levels = _levels(work, row["part"], LEVELS)
    kept, rejects = [], []
    for document in _read(out, name):
        level = levels.get(document["doc_id"], 0)
        if level < LEVELS:
            kept.append(generalised(document, category, level))
        else:
            detail = f"fewer shoppers than privacy.k = {k} are like this one"
            rejects.append(schema.reject("prepare", document["doc_id"], "rare shopper", detail))
    (out / "corpus").write_table(name, schema.table(kept, schema.CORPUS))
    if rejects:
        (out / "rejects").write_table(name, schema.table(rejects, schema.REJECT))
    return {"generalised": sum(0 < one < LEVELS for one in levels.values()), "refused": len(rejects)}


def combination(document: Row, category: dict[str, str], level: int) -> list[Any]:
    """What is compared: the language, and the categories that show on this level."""
    touched = _touched(document, category)
    if level == 1:
        touched = Counter([_main(touched)] if touched else [])
    return [document["language"], sorted(touched) if level < 2 else []]


def generalised(document: Row, category: dict[str, str], level: int) -> Row:
    """The document as it may stand on this level."""
    if level == 0:
        return document
    touched = _touched(document, category)
    main = _main(touched) if level == 1 and touched else None
    fields = {name: json.loads(value) for name, value in schema.strings(document["fields"]).items()}
    fields["purchases"] = [p for p in fields["purchases"] if main is not None and category.get(p, "") == main]
    fields["reviews"] = [r for r in fields["reviews"] if main is not None and category.get(r[1], "") == main]
    text = "\n".join([said for _, said in fields["searches"]] + [said for _, _, said in fields["reviews"]])
    told = {name: json.dumps(value, ensure_ascii=False) for name, value in fields.items()}
    return document | {"fields": told, "text": text}


def _touched(document: Row, category: dict[str, str]) -> Counter[str]:
    fields = schema.strings(document["fields"])
    products = json.loads(fields["purchases"]) + [product for _, product, _ in json.loads(fields["reviews"])]
    return Counter(category.get(product, "") for product in products)


def _main(touched: Counter[str]) -> str:
    return min(touched, key=lambda one: (-touched[one], one))


def _levels(work: Folder, part: str, below: int) -> dict[str, int]:
    """Document -> its level: on how many it was rare."""
    found: Counter[str] = Counter()
    for level in range(below):
        table = (work / f"rare-{level}").read_table(PLACE, ["part", "doc_id"], pads.field("part") == part)
        found.update(table["doc_id"].to_pylist())
    return found


def _categories(out: Folder) -> dict[str, str]:
    table = (out / "catalogue").read_table(schema.CATALOGUE, ["product_id", "category"])
    return {row["product_id"]: row["category"] or "" for row in table.to_pylist()}


def _read(out: Folder, name: str) -> list[Row]:
    with out.fs.open_input_file(f"{out.path}/corpus/{name}") as file:
        return [row | {"fields": schema.strings(row["fields"])} for row in pq.read_table(file).to_pylist()]
