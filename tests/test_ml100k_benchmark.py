"""The ml-100k benchmark: what has ended is kept, and a second call runs only what is new."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from benchmarks.ml100k import __main__ as bench

USERS, ITEMS = 24, 30


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, one_thread):
    """`run("--seeds", 0)` -> the JSON that the command prints."""
    dice = np.random.default_rng(0)
    taken = [(user, item, 3, at) for user in range(USERS) for at, item in enumerate(dice.permutation(ITEMS)[:12])]
    lines = "".join(f"{user + 1}\t{item + 1}\t{rating}\t{at}\n" for user, item, rating, at in taken)
    (tmp_path / "ml-100k.inter").write_text(f"user_id\titem_id\trating\ttimestamp\n{lines}")
    monkeypatch.setitem(bench.GRAPH_PLAN, "epochs", 2)
    monkeypatch.setattr(bench, "SEQUENTIAL_EPOCHS", 1)
    common = [
        "--data",
        str(tmp_path),
        "--run-dir",
        str(tmp_path / "run"),
        "--recbole=none",
        "--rectools=none",
        "--json",
    ]

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["ml100k", *common, *map(str, words)])
        bench.main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return call


def test_a_second_call_goes_on_from_what_is_kept(run, monkeypatch):
    trained = []
    train, fit = bench.train_graph, bench.fit
    monkeypatch.setattr(
        bench, "train_graph", lambda rows, items, seed: trained.append(seed) or train(rows, items, seed)
    )

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        run("--seeds", 0, 1)
    monkeypatch.setattr(bench, "fit", fit)
    found = run("--seeds", 0, 1)
    assert trained == [0, 1], "neither seed of the graph model was trained again"
    assert found["graph"]["LightGCN"]["seconds"] == run("--seeds", 0, 1)["graph"]["LightGCN"]["seconds"]
    assert found["graph"]["RecBole's"] is None
    assert len(found["sequential"]["EASE"]["by_seed"]["hr@10"]) == 1, "it knows no seed"
    run("--seeds", 0, 1, 2, "--parts", "graph")
    assert trained == [0, 1, 2]
    monkeypatch.setitem(bench.GRAPH, "width", 16)
    run("--seeds", 0, "--parts", "graph", "--systems", "ours")
    assert trained == [0, 1, 2, 0], "other settings are another run"


def test_parts_and_systems_are_left_out_by_name(run):
    found = run("--seeds", 0, "--parts", "graph", "--systems", "baselines")
    assert {"benchmark", "machine", "data", "seen_items", "seeds", "threads", "graph", "sequential"} == found.keys()
    assert found["sequential"] is None
    assert found["graph"]["LightGCN"] is None and found["graph"]["more"] is None
    assert 0 < found["graph"]["popularity"]["recall@10"] <= 1
