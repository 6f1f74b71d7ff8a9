"""privacy.k: a search reaches the corpus only if k distinct shoppers typed it."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrec import schema
from synthrec.cli import run_stages
from synthrec.config import Config
from synthrec.sources import rare
from synthrec.storage import Folder

SEARCHES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["u1", "u2", "u3", None])), max_size=30)


@given(searches=SEARCHES, k=st.integers(2, 4), parts=st.integers(1, 3), count=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_rare_is_by_distinct_shoppers(searches, k, parts, count, tmp_path_factory):
    folder = Folder.open(str(tmp_path_factory.mktemp("rare")))
    expected, users = [], defaultdict(set)
    for query, user in searches:
        users[query] |= {user} - {None}
    for order in range(parts):
        own = searches[order::parts]
        rows = [{"doc_id": str(i), "kind": "search", "language": "en", "text": q, "user_id": u}
                for i, (q, u) in enumerate(own)]  # fmt: skip
        (folder / "corpus").write_table(f"{order}.parquet", schema.table(rows, schema.CORPUS))
        rare.scatter({"part": order, "order": order}, folder / "corpus", folder / "buckets", count)
        expected.append({i for i, (q, _) in enumerate(own) if len(users[q]) < k})
    for number in range(count):
        rare.gather({"bucket": f"{number:05d}"}, folder / "buckets", folder / "found", k)
    assert [rare.of_part(folder / "found", order) for order in range(parts)] == expected


@pytest.mark.parametrize(("one", "other"), [("Red Kettle", " red  kettle"), ("水壶Ａ", "水壶a")])
def test_case_width_and_spaces_do_not_tell_shoppers_apart(one, other):
    assert rare.compared(one) == rare.compared(other)


def test_rare_searches_are_refused_and_their_text_is_gone(tmp_path, ray_session):
    typed = [("Red kettle", "u1"), ("red kettle", "u2"), ("red kettle", None)]
    typed += [("my own street", "u1")] * 5 + [("nobody's own", None)] * 5
    (tmp_path / "p.jsonl").write_text(json.dumps({"product_id": "k1", "title": "Kettle"}) + "\n")
    rows = [{"search_id": f"s{i}", "query": query, "user_id": user} for i, (query, user) in enumerate(typed)]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "name": "rare",
        "run_dir": str(tmp_path / "run"),
        "sources": {"products": {"path": str(tmp_path / "p.jsonl")}, "searches": {"path": str(tmp_path / "s.jsonl")}},
    }
    prepared = partial(lambda k: run_stages(Config.model_validate(settings | {"privacy": {"k": k}}), ["prepare"]))
    for k, kept, refused in ((2, 3, 10), (3, 0, 13), (1, 13, 0)):
        pipeline = prepared(k)
        out = pipeline.folder("prepare")
        corpus = (out / "corpus").read_table(schema.CORPUS).to_pylist()
        assert len([row for row in corpus if row["kind"] == "search"]) == kept
        rejects = (out / "rejects").read_table(schema.REJECT).to_pylist()
        assert [row["reason"] for row in rejects] == ["rare query"] * refused
        assert pipeline.manifest("prepare")["figures"]["rare_queries"] == refused
        assert not any(row["raw"] for row in rejects)
        if k == 2:
            assert len({row["where"] for row in rejects}) == 10
            assert "street" not in json.dumps([corpus, rejects], default=str)
