"""Pseudonyms turned back: with the key alone, on record, and not after the shopper was forgotten."""

from __future__ import annotations

import json
import os

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from synthrec import audit, config, custody
from synthrec.cli import app, run_stages
from synthrec.errors import UserError
from synthrec.privacy import Pseudonymiser, load_key, vault

PHONE, ANN = "13812345678", "ann-4711"


@pytest.fixture
def shop(tmp_path, ray_session):
    (tmp_path / "p.jsonl").write_text(json.dumps({"product_id": "k1", "title": "Kettle"}) + "\n")
    texts = [f"call {PHONE}", "call 138-1234-5678", "fine"]
    rows = [{"review_id": f"r{i}", "product_id": "k1", "text": t, "user_id": ANN} for i, t in enumerate(texts)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "name": "vault",
        "run_dir": str(tmp_path / "run"),
        "privacy": {"reversible": True},
        "sources": {kind: {"path": str(tmp_path / f"{kind[0]}.jsonl")} for kind in ("products", "reviews")},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "c.yaml"


def test_a_pseudonym_is_revealed_with_the_key_and_on_record(shop):
    pipeline = run_stages(config.load(shop), ["prepare"])
    ann = custody.pseudonym(ANN)
    phone = Pseudonymiser(load_key()).text(PHONE)[0]
    assert CliRunner().invoke(app, ["reveal", ann, "-c", str(shop)]).stdout.split() == [ANN]
    assert CliRunner().invoke(app, ["reveal", phone, "-c", str(shop)]).stdout.split() == ["138-1234-5678", PHONE]
    last = audit.entries(pipeline.root)[-1]
    assert (last["what"], last["pseudonym"]) == ("reveal", phone) and last["who"]

    folder = pipeline.folder("prepare") / "vault"
    for name in folder.files():
        raw = str(pq.read_table(f"{folder}/{name}").to_pylist())
        assert PHONE not in raw and ANN not in raw
    with pytest.raises(UserError, match="does not open"):
        vault.reveal(folder, ann, b"another key of some length")
    with pytest.raises(UserError, match="no u_0000"):
        vault.reveal(folder, "u_0000000000000000", load_key())

    custody.forget(pipeline.root, ann)
    for one in (ann, phone):
        with pytest.raises(UserError, match="run with it"):
            vault.reveal(folder, one, load_key())


def test_there_is_no_vault_by_default(shop):
    pipeline = run_stages(config.load(shop, ["privacy.reversible=false"]), ["prepare"])
    assert not (pipeline.folder("prepare") / "vault").exists()


def test_a_value_cannot_be_moved_to_another_pseudonym(tmp_path):
    from synthrec import schema
    from synthrec.storage import Folder

    key = os.urandom(32)
    one, two = vault.rows({"u_1": "ann", "u_2": "bob"}, None, key)
    folder = Folder.open(str(tmp_path / "vault"))
    folder.write_table("v.parquet", schema.table([one | {"value": two["value"]}], schema.VAULT))
    with pytest.raises(UserError, match="does not open"):
        vault.reveal(folder, "u_1", key)
