"""privacy.k on shoppers' documents: no combination of language and categories is left that fewer than k share."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from synthrec import schema
from synthrec.sources import common
from synthrec.storage import Folder

PRODUCTS = {"p1": "pans", "p2": "pans", "p3": "coats", "p4": "chairs"}
SHOPPERS = st.lists(
    st.tuples(st.sampled_from(["en", "zh"]), st.lists(st.sampled_from(sorted(PRODUCTS)), max_size=3)), max_size=14
)


def document(number, language, bought, user="u"):
    fields = {
        "searches": [[f"search:{number}", "kettle"]],
        "purchases": bought[1:],
        "reviews": [[f"review:{number}", product, f"fine {product}"] for product in bought[:1]],
    }
    return {
        "doc_id": f"shopper:{number}",
        "kind": "shopper",
        "language": language,
        "text": "\n".join(["kettle", *(f"fine {product}" for product in bought[:1])]),
        "user_id": user and f"{user}{number}",
        "fields": {name: json.dumps(value) for name, value in fields.items()},
    }


def run(out, documents, k, files=2, buckets=3):
    """Through all steps; returns what stands in the corpus, and the rejects."""
    catalogue = [{"product_id": p, "language": "en", "title": p, "text": p, "category": c} for p, c in PRODUCTS.items()]
    (out / "catalogue").write_table("c.parquet", schema.table(catalogue, schema.CATALOGUE))
    parts = [{"part": f"groups-{number}"} for number in range(files)]
    for number, part in enumerate(parts):
        table = schema.table(documents[number::files], schema.CORPUS)
        (out / "corpus").write_table(f"{part['part']}.parquet", table)
    for level in range(common.LEVELS):
        for part in parts:
            common.scatter(part, out, out / "work", level, buckets)
        for number in range(buckets):
            common.gather({"bucket": f"{number:05d}"}, out / "work", level, k)
    for part in parts:
        common.publish(part, out, out / "work", k)
    rows = (out / "corpus").read_table(schema.CORPUS).to_pylist()
    return rows, (out / "rejects").read_table(schema.REJECT).to_pylist()


def shown(row):
    return json.dumps(common.combination(row | {"fields": schema.strings(row["fields"])}, PRODUCTS, 0))


@given(shoppers=SHOPPERS, k=st.integers(2, 4))
@settings(max_examples=25, deadline=None)
def test_each_combination_is_shared_by_k_shoppers(shoppers, k, tmp_path_factory):
    out = Folder.open(str(tmp_path_factory.mktemp("common")))
    rows, rejects = run(out, [document(i, *one) for i, one in enumerate(shoppers)], k)
    assert min(Counter(map(shown, rows)).values(), default=k) >= k
    assert sorted([row["doc_id"] for row in rows] + [row["where"] for row in rejects]) == sorted(
        f"shopper:{i}" for i in range(len(shoppers))
    )
    given_ = Counter(shown(document(i, *one)) for i, one in enumerate(shoppers))
    for row in rows:
        i = int(row["doc_id"].partition(":")[2])
        if given_[shown(document(i, *shoppers[i]))] >= k:  # common from the start: left as it was
            assert schema.strings(row["fields"]) == document(i, *shoppers[i])["fields"]


def test_rare_values_go_first_and_their_words_with_them(tmp_path):
    pans = [["p1"], ["p1", "p2"], ["p1", "p2", "p3"], ["p1", "p2", "p4"]]
    rows, rejects = run(Folder.open(str(tmp_path)), [document(i, "en", one) for i, one in enumerate(pans)], k=2)
    assert rejects == [] and all(json.loads(shown(row)) == ["en", ["pans"]] for row in rows)

    lonely = [document(0, "en", ["p3"]), document(1, "en", ["p4"]), document(2, "zh", []), document(3, "en", [], None)]
    rows, rejects = run(Folder.open(str(tmp_path / "2")), lonely, k=2)
    assert {row["doc_id"] for row in rows} == {"shopper:0", "shopper:1", "shopper:3"}
    assert all(row["text"] == "kettle" for row in rows)
    assert [(row["where"], row["reason"], row["raw"]) for row in rejects] == [("shopper:2", "rare shopper", "")]
