"""The search of run directories finds what is hidden in one, in every way of writing it."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from grep_run import grep

PHONE, PLACE = "+1 212-555-0170", "17 Cooper's Rise, 澄港市"


def test_nothing_is_found_where_nothing_is(tmp_path):
    (tmp_path / "a.json").write_text('{"phone": "555-0170"}')
    assert grep(tmp_path, [PHONE, PLACE]) == {}


@pytest.mark.parametrize("way", [PHONE, "12125550170", "+12125550170", "call 12125550170!", "１２１２５５５０１７０"])
@pytest.mark.parametrize("kind", ["map", "list", "string", "binary", "deep"])
def test_cells_of_parquet(tmp_path, way, kind):
    of = {
        "map": (pa.map_(pa.string(), pa.string()), [("seller", way)]),
        "list": (pa.list_(pa.string()), ["a", way]),
        "string": (pa.string(), way),
        "binary": (pa.binary(), way.encode()),
        "deep": (pa.list_(pa.struct([("t", pa.string())])), [{"t": way}]),
    }
    type_, cell = of[kind]
    (tmp_path / "x").mkdir()
    table = pa.table({"c": pa.array([None, cell], type_)})
    pq.write_table(table, tmp_path / "x" / "t.parquet", compression="zstd")
    assert grep(tmp_path, [PHONE]) == {PHONE: {"x/t.parquet"}}


def test_other_files(tmp_path):
    (tmp_path / "escaped.json").write_text(json.dumps({"a": PLACE}))
    (tmp_path / "page.html").write_text("<p>17 Cooper&#x27;s Rise, 澄港市</p>", encoding="utf-8")
    (tmp_path / "weights.safetensors").write_bytes(b"\0\xff\n" + PLACE.encode() + b"\xfe\0")
    (tmp_path / ".hidden.log").write_text(PLACE, encoding="utf-8")
    pq.write_table(pa.table({"raw": [json.dumps({"a": [PLACE]})]}), tmp_path / "t.parquet")
    names = {"escaped.json", "page.html", "weights.safetensors", ".hidden.log", "t.parquet"}
    assert grep(tmp_path, [PLACE]) == {PLACE: names}
