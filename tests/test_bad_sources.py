"""Files that cannot be read, and settings that cannot be meant: the job stops, and says what to do."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthrec.config import Source
from synthrec.errors import UserError
from synthrec.sources import readers
from tests.source_files import ids, products, shop_in


@pytest.fixture
def shop(tmp_path, ray_session):
    return shop_in(tmp_path)


def test_a_file_that_a_quote_swallows_stops_the_job(shop):
    shop.write("p.csv", ('product_id,title\n1,Pan\n2,"Kettle\n' + "".join(f"{i},Pot\n" for i in range(3, 50))).encode())
    with pytest.raises(UserError, match="48 of 49 rows refused"):
        shop.prepare(products="p.csv")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"colour": "farbe"}, "there is no column 'colour'"),
        ({"brand": "marque"}, "no file has a column 'marque', for brand"),
    ],
)
def test_a_mapping_that_can_do_nothing_is_told(shop, columns, told):
    shop.write("p.csv", b"product_id,title,farbe\n1,Kettle,rot\n")
    with pytest.raises(UserError, match=told):
        shop.prepare(products={"path": "p.csv", "columns": columns})


def test_a_column_that_stands_twice_is_told(shop):
    shop.write("p.csv", b"product_id,title,title\n1,Kettle,Pot\n")
    with pytest.raises(UserError, match="column 'title' stands there twice"):
        shop.prepare(products="p.csv")


def test_jsonl_in_an_encoding_without_plain_line_ends_is_told(shop):
    shop.write("p.jsonl", "{}".encode("utf-16"))
    with pytest.raises(UserError, match="JSONL is not read in utf-16"):
        shop.prepare(products={"path": "p.jsonl", "encoding": "utf-16"})


def test_an_encoding_that_is_none_is_told():
    with pytest.raises(ValueError, match="no such text encoding"):
        Source(path="p.csv", encoding="utf-88")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_missing_column_is_told_with_the_mapping_that_would_mend_it(shop, form):
    path = shop.write(f"p.{form}", b"product_id,name\nk1,Kettle\n")
    if form == "parquet":
        pq.write_table(pa.table({"product_id": ["k1"], "name": ["Kettle"]}), path)
    with pytest.raises(UserError) as told:
        shop.prepare(products=f"p.{form}")
    assert told.value.problem == f"{path}: no column 'title' (it has: product_id, name)"
    assert "sources.products.columns: {title: <your column>}" in told.value.hint


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "header.csv", "p.parquet"])
def test_a_source_without_rows_is_told(shop, name):
    path = shop.write(name, b"product_id,title\n" if name == "header.csv" else b"")
    if name == "p.parquet":
        pq.write_table(pa.schema([("product_id", pa.string()), ("title", pa.string())]).empty_table(), path)
    with pytest.raises(UserError) as told:
        shop.prepare(products=name)
    assert path in told.value.problem
    assert "no rows" in told.value.problem
    assert not (shop.run_dir / "prepare" / "manifest.json").exists()


def test_an_empty_file_among_others_is_refused_and_the_others_are_read(shop):
    empty = shop.write("p/0.jsonl", b"")
    shop.write("p/1.jsonl", products("k1", "k2"))
    found = shop.prepare(products="p")
    assert ids(found.catalogue) == ["k1", "k2"]
    assert [(row["where"], row["reason"]) for row in found.rejects] == [(empty, "empty file")]


def test_a_file_that_is_mostly_bad_stops_the_run_with_its_commonest_reasons(shop):
    shop.write("p.jsonl", [*products(*"abcdefghijkl"), *[{"product_id": "x"}] * 8])  # more rejects, but under half
    reviews = [{"review_id": f"r{i}", "product_id": "a", "text": "Fine", "rating": "five"} for i in range(3)]
    reviews += [{"review_id": "r8", "product_id": "a"}, {"review_id": "r9", "product_id": "a", "text": "Fine"}]
    path = shop.write("r.jsonl", reviews)
    with pytest.raises(UserError) as told:
        shop.prepare(products="p.jsonl", reviews="r.jsonl")
    headline, commonest, second, where = told.value.problem.splitlines()
    assert headline == f"{path}: 4 of 5 rows refused"
    assert commonest.startswith("  3 x invalid record: rating: ")
    assert second == "  1 x invalid record: text: Field required"
    assert where == f"  first: {path}@0"
    assert "sources.reviews" in told.value.hint
    assert not (shop.run_dir / "prepare" / "manifest.json").exists()


@pytest.mark.parametrize(("path", "words"), [("none.jsonl", "no file at"), ("none/*.csv", "no file at")])
def test_a_source_that_is_not_there_is_told(tmp_path, path, words):
    with pytest.raises(UserError, match=words):
        readers.units("products", Source(path=str(tmp_path / path)))


def test_a_file_of_no_known_format_is_told(tmp_path):
    (tmp_path / "p.xlsx").write_bytes(b"x")
    with pytest.raises(UserError, match="cannot tell the format"):
        readers.units("products", Source(path=str(tmp_path / "p.xlsx")))


def test_a_parquet_file_that_is_none_is_told(tmp_path):
    (tmp_path / "p.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(UserError, match="is not a Parquet file"):
        readers.units("products", Source(path=str(tmp_path / "p.parquet")))
