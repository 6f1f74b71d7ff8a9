"""A shop's files and their rows, good and bad, through the readers and the prepare stage on a real Ray."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthrec import schema
from synthrec.errors import UserError
from tests.source_files import ids, lines, products, shop_in


@pytest.fixture
def shop(tmp_path, ray_session):
    return shop_in(tmp_path)


# Good files.


def test_every_format_gives_the_same_rows(shop):
    text = 'Boils, "fast"\nand well'
    good = [{"review_id": f"r{i}", "product_id": "k1", "rating": 4, "text": f"{text} {i}"} for i in range(4)]
    shop.write("reviews/a.jsonl", good[:2])
    with (shop.files / "reviews" / "b.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, list(good[0]))
        table.writeheader()
        table.writerow(good[2])
    pq.write_table(pa.Table.from_pylist(good[3:]), shop.files / "reviews" / "c.parquet")
    shop.write("products.jsonl", products("k1"))
    found = shop.prepare(products="products.jsonl", reviews="reviews")

    reviews = sorted((row for row in found.corpus if row["kind"] == "review"), key=lambda row: row["doc_id"])
    assert [row["doc_id"] for row in reviews] == ["review:r0", "review:r1", "review:r2", "review:r3"]
    assert [row["text"] for row in reviews] == [f'Boils, "fast" and well {i}' for i in range(4)]
    assert {(row["product_id"], row["language"], schema.strings(row["fields"])["rating"]) for row in reviews} == {
        ("k1", "en", "4")
    }
    assert found.figures["sources"]["reviews"] == {"rows": 4, "rejected": 0}
    assert found.rejects == []
    assert [entry["rows"] for entry in found.manifest["files"] if "catalogue" in entry["name"]] == [1]


def test_columns_are_mapped_for_each_source_by_itself(shop):
    shop.write("p.csv", b"sku,name,title,text\nk1,Red kettle,ignored,Holds a litre\n")
    shop.write("r.jsonl", [{"id": "r1", "sku": "k1", "body": "Fine"}])
    found = shop.prepare(
        products={"path": "p.csv", "columns": {"product_id": "sku", "title": "name", "description": "text"}},
        reviews={"path": "r.jsonl", "columns": {"review_id": "id", "product_id": "sku", "text": "body"}},
    )
    (kettle,) = found.catalogue
    assert (kettle["product_id"], kettle["title"], kettle["description"]) == ("k1", "Red kettle", "Holds a litre")
    assert {row["doc_id"]: row["text"] for row in found.corpus}["review:r1"] == "Fine"


def test_one_column_can_serve_twice(shop):
    shop.write("p.csv", b"sku,name\nk1,Red kettle\n")
    columns = {"product_id": "sku", "title": "name", "description": "name"}
    (kettle,) = shop.prepare(products={"path": "p.csv", "columns": columns}).catalogue
    assert (kettle["title"], kettle["description"]) == ("Red kettle", "Red kettle")


def test_a_second_run_does_nothing_until_a_file_or_setting_changes(shop, capsys):
    shop.write("p.jsonl", products("k1"))
    first = shop.prepare(products="p.jsonl").manifest
    capsys.readouterr()
    assert shop.prepare(products="p.jsonl").manifest == first
    assert "prepare is up to date" in capsys.readouterr().err
    assert not (shop.run_dir / "prepare" / "parts" / first["fingerprint"]).exists()

    shop.write("p.jsonl", products("k1", "k2"))
    second = shop.prepare(products="p.jsonl")
    assert second.manifest["fingerprint"] != first["fingerprint"]
    assert ids(second.catalogue) == ["k1", "k2"]


def test_documents_of_shoppers_and_brands_are_published_without_what_was_refused(shop):
    shop.write("p/1.jsonl", products("k1", "k2"))
    shop.write("p/2.jsonl", [{"product_id": "k1", "title": "A double", "brand": "Oakrun"}])
    searches = [{"search_id": f"s{n}", "query": f"kettle {n}", "user_id": "c-1"} for n in range(3)]
    shop.write("s.jsonl", [*searches, searches[0], {"search_id": "s9", "query": "coat"}])
    bought = {"user_id": "c-1", "product_id": "k2", "event": "purchase", "timestamp": "2025-01-01T00:00:00Z"}
    shop.write("i.jsonl", [bought])
    found = shop.prepare(products="p", searches="s.jsonl", interactions="i.jsonl")
    (user,) = {row["user_id"] for row in found.interactions}
    made = {row["doc_id"]: schema.strings(row["fields"]) for row in found.corpus if row["kind"] in ("shopper", "brand")}
    assert set(made) == {f"shopper:{user}", "shopper:search:s9", "brand:en:Tarrow"}
    assert made["brand:en:Tarrow"]["products"] == '["k1", "k2"]'
    history = json.loads(made[f"shopper:{user}"]["searches"])
    assert history == [[f"search:s{n}", f"kettle {n}"] for n in range(3)]
    assert json.loads(made[f"shopper:{user}"]["purchases"]) == ["k2"]
    assert found.figures["grouped"] == {"shopper": 2, "brand": 1}
    assert not (shop.run_dir / "prepare" / "parts" / found.manifest["fingerprint"]).exists()


# Bad rows: refused one by one, counted, and told.


def test_bad_rows_are_refused_alone_with_place_and_reason(shop):
    untitled, listed = {"product_id": "k2"}, {"product_id": "k4", "title": ["no"]}
    rows = [*products("k1"), untitled, *products("k3"), listed, *products("k5")]
    data = lines(rows) + b"{broken\n" + b"[1]\n" + b'{"product_id": "k6", "title": "caf\xe9"}\n' + lines(products("k7"))
    path = shop.write("p.jsonl", data)
    found = shop.prepare({"max_reject_rate": 0.6}, products="p.jsonl")
    assert ids(found.catalogue) == ["k1", "k3", "k5", "k7"]
    assert found.figures["sources"]["products"] == {"rows": 9, "rejected": 5}
    told = {row["where"]: (row["reason"], row["detail"]) for row in found.rejects}

    def at(start):
        return told[f"{path}@{data.index(start)}"]

    assert at(lines([untitled])) == ("invalid record", "title: Field required")
    assert at(lines([listed])) == ("invalid record", "title: Input should be a valid string (it is ['no'])")
    assert at(b"{broken")[0] == "not JSON"
    assert at(b"[1]") == ("not a JSON object", "it is a list")
    assert at(b'{"product_id": "k6"')[0] == "broken text encoding"


def test_what_may_be_missing_may_be_null_or_blank(shop):
    blanks = dict.fromkeys(["description", "brand", "category", "attributes", "price", "language"])
    shop.write("p/1.jsonl", [products("k1")[0] | blanks])
    shop.write("p/2.csv", b"product_id,title,price,attributes,brand\nk2,Kettle,,,\n")
    none = dict.fromkeys(["rating", "user_id", "timestamp", "language"])
    shop.write("r/1.jsonl", [{"review_id": "r1", "product_id": "k1", "text": "Fine"} | none])
    shop.write("r/2.csv", b"review_id,product_id,text,rating,user_id,timestamp\nr2,k1,Fine,,,\n")
    shop.write("s.jsonl", [{"search_id": "s1", "query": "kettle", "clicks": None, "user_id": None, "timestamp": None}])
    found = shop.prepare(products="p", reviews="r", searches="s.jsonl")
    assert found.rejects == []
    assert ids(found.catalogue) == ["k1", "k2"]
    assert {row["price"] for row in found.catalogue} == {None}
    assert len(found.corpus) == 6  # the search is a shopper's history too


def test_csv_rows_are_refused_alone_with_their_line(shop):
    path = shop.write(
        "p.csv",
        b"product_id,title,price\n"
        b'k1,"Two\nlines",1\n'  # lines 2 and 3
        b"k2,Kettle,cheap\n"
        b"k3,Caf\xe9,1\n"
        b"k4,Kettle\n"
        b"k5,Kettle,\n"
        b"k6,\xe6\xb8\xaf,2\n",
    )
    found = shop.prepare(products="p.csv")
    assert ids(found.catalogue) == ["k1", "k5", "k6"]
    assert {row["where"]: row["reason"] for row in found.rejects} == {
        f"{path}:4": "invalid record",
        f"{path}:5": "broken text encoding",
        f"{path}:6": "wrong number of cells",
    }
    (wrong,) = (row for row in found.rejects if row["reason"] == "invalid record")
    assert wrong["detail"].startswith("price: ")
    assert wrong["detail"].endswith("(it is 'cheap')")


def test_a_quote_that_is_never_closed_takes_no_row_in_silence(shop):
    path = shop.write("p.csv", b'product_id,title\n1,"12"" pan\n2,Kettle\n3,Pot\n4,"Lid"\n5,Cup\n')
    found = shop.prepare({"max_reject_rate": 1.0}, products="p.csv")
    assert ids(found.catalogue) == ["5"]
    assert found.figures["sources"]["products"] == {"rows": 5, "rejected": 4}, "each lost line is counted"
    (refused,) = found.rejects
    assert (refused["where"], refused["reason"]) == (f"{path}:2", "not CSV")
    assert "up to line 5" in refused["detail"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf8", "UTF_8"])
def test_a_byte_order_mark_is_no_part_of_a_columns_name(shop, encoding):
    shop.write("p.csv", "\ufeffproduct_id,title\n1,Kettle\n".encode())
    assert ids(shop.prepare(products={"path": "p.csv", "encoding": encoding}).catalogue) == ["1"]


def test_a_star_stays_in_its_folder(shop):
    for name in ("ev/a.jsonl", "ev/old/b.jsonl", "ev/.c.jsonl"):
        shop.write(name, products(name))
    assert ids(shop.prepare(products="ev/*.jsonl").catalogue) == ["ev/a.jsonl"]
    assert ids(shop.prepare(products="ev/**/*.jsonl").catalogue) == ["ev/a.jsonl", "ev/old/b.jsonl"]


def test_a_column_may_be_missing_from_some_files(shop):
    shop.write("p/a.csv", b"product_id,title\n1,Kettle\n")
    shop.write("p/b.csv", b"product_id,title,marque\n2,Pot,Tarrow\n")
    found = shop.prepare(products={"path": "p", "columns": {"brand": "marque"}})
    assert sorted((row["product_id"], row["brand"]) for row in found.catalogue) == [("1", None), ("2", "Tarrow")]


def test_a_date_that_python_has_no_name_for_costs_its_row_alone(shop):
    shop.write("p.jsonl", products("k1"))
    row = {"review_id": "r1", "product_id": "k1", "text": "good", "timestamp": "0001-01-01T00:00:00+08:00"}
    shop.write("r/a.jsonl", [row, row | {"review_id": "r2", "timestamp": "2026-01-01T00:00:00+08:00"}])
    times = pa.array([253402300800 * 10**6, 0], pa.timestamp("us"))  # the year 10000, and 1970
    table = {"review_id": ["r3", "r4"], "product_id": ["k1"] * 2, "text": ["good"] * 2, "timestamp": times}
    pq.write_table(pa.table(table), shop.files / "r" / "b.parquet")
    found = shop.prepare(products="p.jsonl", reviews="r")
    assert sorted(row["doc_id"] for row in found.corpus if row["kind"] == "review") == ["review:r2", "review:r4"]
    assert sorted(row["reason"] for row in found.rejects) == ["invalid record", "unreadable value"]


def test_parquet_rows_are_refused_alone_with_their_number(shop):
    data = pa.array([b"Kettle", None, b"Caf\xe9", b"Pan"], pa.binary())
    titles = pa.Array.from_buffers(pa.string(), len(data), data.buffers())  # as writers do that do not check
    shop.write("p.parquet", b"")
    path = shop.files / "p.parquet"
    pq.write_table(pa.table({"product_id": ["k1", "k2", "k3", "k4"], "title": titles}), path, row_group_size=2)
    found = shop.prepare(products="p.parquet")
    assert ids(found.catalogue) == ["k1", "k4"]
    assert {row["where"]: row["reason"] for row in found.rejects} == {
        f"{path}:2": "invalid record",
        f"{path}:3": "broken text encoding",
    }


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_cell_of_10_mb_is_refused_and_its_neighbours_kept(shop, form):
    huge = "x" * (10 << 20)
    if form == "jsonl":
        rows = products("k1", "k2", "k3", "k4", "k5")
        rows[1]["description"] = huge
        rows[3]["attributes"]["manual"] = huge
        shop.write("p.jsonl", rows)
        bad = {"description", "attributes"}
    else:
        shop.write("p.csv", f"product_id,title,brand,page\nk1,a,,{huge}\nk2,a,{huge},\nk3,b,,\nk5,c,,\n".encode())
        bad = {"brand"}  # `page` is no column of ours, so its length does not matter
    found = shop.prepare(products=f"p.{form}")
    assert ids(found.catalogue) == ["k1", "k3", "k5"]
    assert {row["reason"] for row in found.rejects} == {"field too long"}
    assert {row["detail"].split()[0] for row in found.rejects} == bad
    assert all(f"{10 << 20} characters" in row["detail"] for row in found.rejects)
    assert max(len(row["raw"]) for row in found.rejects) <= schema.RAW_LIMIT


def test_of_a_repeated_id_the_first_is_kept_and_both_places_told(shop):
    first = shop.write("p/1.jsonl", products("k1", "k2"))
    second = shop.write("p/2.jsonl", [{"product_id": "k2", "title": "Another"}, *products("k3")])
    found = shop.prepare(products="p")
    assert ids(found.catalogue) == ["k1", "k2", "k3"]
    assert {row["product_id"]: row["title"] for row in found.catalogue}["k2"] == "Kettle k2"
    assert len(found.corpus) == 4  # with the brand
    (double,) = found.rejects
    assert double["reason"] == "duplicate id"
    assert double["where"] == f"{second}@0"
    assert f"{first}@{len(lines(products('k1')))}" in double["detail"]
    assert found.figures["duplicates"] == 1


# Personal data.


def everything_in(folder):
    """All that the folder's files say: their bytes, and the values of Parquet files, which are packed."""
    for path in (p for p in Path(folder).rglob("*") if p.is_file()):
        yield path, path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            yield path, json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False, default=str)


@pytest.mark.parametrize("finished", [True, False])
def test_neither_user_ids_nor_personal_data_reach_the_run_directory(shop, finished):
    secrets = {"cust-77001", "cust-77002", "cust-77003", "cust-77004", "cust-77005", "cust-77006", "cust-77007"}
    secrets |= {"jane.doe@mail.example", "13812345678", "Jane Q. Roe", "望潮街21号"}
    mail, phone, address = "jane.doe@mail.example", "13812345678", "泊安市新港区望潮街21号5单元302室"
    reviews = [
        {"review_id": "r1", "product_id": "k1", "user_id": "cust-77001", "text": f"Write to {mail}"},
        {"review_id": "r1", "product_id": "k1", "user_id": "cust-77001", "text": f"Again: {mail}"},  # a double
        {"review_id": "r2", "product_id": "k1", "user_id": "cust-77002", "rating": f"打我{phone}", "text": "x"},
        {"review_id": "r3", "product_id": "k1", "user_id": ["cust-77003"], "text": f"送到{address}"},
        {"review_id": "r4", "product_id": "k1", "user_id": "cust-77004", "name": "Jane Q. Roe", "rating": 9},
        {"review_id": "r5", "product_id": "k1", "user_id": "cust-77005", "text": mail + " " + "x" * 30_000},
        {"review_id": "r6", "product_id": "k1", "user_id": "cust-77001", "text": "Fine", "name": "Jane Q. Roe"},
    ]
    broken = b'{"user_id": "cust-77006", "text": "caf\xe9 jane.doe@mail.example"}\n{"user_id": "cust-77006",\n'
    escaped = json.dumps({"review_id": "r8", "user_id": "cust-77005", "text": None, "product_id": address}).encode()
    shop.write("r.jsonl", lines(reviews) + broken + escaped)
    shop.write("p.jsonl", products("k1"))
    shop.write("s.csv", b"search_id,user_id,query\ns1,cust-77007,kettle\ns2,cust-77007\n")
    event = {"product_id": "k1", "event": "view", "timestamp": "2025-01-01T00:00:00Z"}
    shop.write("i.jsonl", [event | {"user_id": "cust-77001"}, event | {"user_id": "cust-77002", "event": "stare"}])
    turns = [{"role": "shopper", "text": f"Call {phone}"}, {"role": "agent", "text": "Yes"}]
    dialogues = [{"dialogue_id": f"d{i}", "user_id": "cust-77001", "turns": turns} for i in range(2)]
    dialogues[1]["turns"] = [{"role": "boss", "text": f"Call {phone}"}]
    shop.write("d.jsonl", dialogues)
    sources = {"products": "p.jsonl", "reviews": "r.jsonl", "searches": "s.csv"}
    sources |= {"interactions": "i.jsonl", "dialogues": "d.jsonl"}

    if finished:
        found = shop.prepare({"max_reject_rate": 1.0}, **sources)
        assert len(found.rejects) == 11
        assert len(found.interactions) == 1
        (seen,) = {row["user_id"] for row in found.interactions}
        assert {row["user_id"] for row in found.corpus if row["kind"] in ("review", "dialogue")} == {seen}
        assert "<EMAIL_" in next(row["text"] for row in found.corpus if row["doc_id"] == "review:r1")
        assert found.figures["personal_data"]["phone"] == 1
    else:  # stopped half way: what is left for the next run holds none either
        with pytest.raises(UserError) as told:
            shop.prepare({"max_reject_rate": 0.1}, **sources)
        assert not [secret for secret in secrets if secret in str(told.value)]
    looked = 0
    for path, text in everything_in(shop.run_dir):
        looked += 1
        assert not [secret for secret in secrets if secret in text], path
    assert looked > 5
