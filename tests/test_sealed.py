"""Encrypted folders: what is written is read again with the key and nothing else, and never when it was changed."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pyarrow.dataset as pads
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthrec import sealed
from synthrec.errors import UserError
from synthrec.storage import Folder

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64())])
EDGES = [0, 1, sealed.CHUNK - 1, sealed.CHUNK, sealed.CHUNK + 1, 3 * sealed.CHUNK, 3 * sealed.CHUNK + 7]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("A_KEY", "ab" * 32)
    monkeypatch.setenv("ANOTHER_KEY", "cd" * 32)
    sealed.key.cache_clear()
    yield Folder.open(str(tmp_path / "run"), "env:A_KEY")
    sealed.key.cache_clear()


@pytest.mark.parametrize("size", EDGES)
def test_bytes_come_back_and_do_not_stand_on_the_disk(folder, size):
    data = bytes(i % 251 for i in range(size))
    folder.write_bytes("a", data)
    assert folder.read_bytes("a") == data
    raw = folder.plain.fs.open_input_file(f"{folder.path}/a").read()
    assert size < 16 or data[:16] not in raw


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spans=st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 150_000)), max_size=6))
def test_any_stretch_is_read(folder, spans):
    data = bytes(range(256)) * 700
    folder.write_bytes("a", data)
    with folder.fs.open_input_file(f"{folder.path}/a") as file:
        for start, size in spans:
            file.seek(start)
            assert file.read(size) == data[start : start + size]


def test_tables_are_read_by_column_filter_and_dataset(folder):
    table = pa.table({"id": [f"row {i}" for i in range(100_000)], "n": range(100_000)}, schema=SCHEMA)
    folder.write_table("t.parquet", table)
    assert folder.read_table(SCHEMA, ["n"], pads.field("n") > 99_997)["n"].to_pylist() == [99_998, 99_999]
    data = pads.dataset(f"{folder.path}/t.parquet", filesystem=folder.fs, format="parquet")
    assert data.count_rows() == 100_000
    assert folder.describe()[0]["rows"] == 100_000


@pytest.mark.parametrize("size", [10, sealed.CHUNK, 3 * sealed.CHUNK + 5])
def test_what_was_changed_does_not_open(folder, tmp_path, size):
    folder.write_bytes("a", bytes(size))
    path = tmp_path / "run" / "a"
    whole = path.read_bytes()
    step = sealed.CHUNK + sealed.TAG
    bad = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in (20, sealed.HEADER, len(whole) - 1)]
    bad += [whole[:-1], whole[: sealed.HEADER], whole + b"\0"]
    if size > sealed.CHUNK:
        body = [whole[i : i + step] for i in range(sealed.HEADER, len(whole), step)]
        head = whole[: sealed.HEADER]
        bad += [head + b"".join(one) for one in (body[:1], body[:-1], [body[1], body[0], *body[2:]], [*body, body[-1]])]
    for one in bad:
        path.write_bytes(one)
        with pytest.raises(UserError, match="damaged or was tampered"):
            folder.read_bytes("a")


def test_another_key_is_told(folder):
    folder.write_table("t.parquet", pa.table({"id": ["a"], "n": [1]}, schema=SCHEMA))
    other = Folder.open(folder.path, "env:ANOTHER_KEY")
    with pytest.raises(UserError, match=r"another key than that of env:ANOTHER_KEY"):
        other.read_table(SCHEMA)


def test_plain_and_sealed_are_told_apart(folder):
    folder.write_bytes("sealed", b"x")
    folder.plain.write_bytes("plain", b"x")
    with pytest.raises(UserError, match="is encrypted"):
        folder.plain.read_bytes("sealed")
    with pytest.raises(UserError, match="is not encrypted"):
        folder.read_bytes("plain")


def test_a_pickle_holds_where_the_key_is_and_not_the_key(folder):
    folder.write_bytes("a", b"text")
    made = pickle.dumps(folder)
    assert b"env:A_KEY" in made and bytes.fromhex("ab" * 32) not in made and b"abababab" not in made
    assert pickle.loads(made).read_bytes("a") == b"text"
    assert "abab" not in repr(sealed.key("env:A_KEY"))
    with pytest.raises(TypeError):
        pickle.dumps(sealed.key("env:A_KEY"))


def test_keys_come_from_a_file_and_a_hook(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("ab" * 32 + "\n")
    (tmp_path / "our_kms.py").write_text("def key():\n    return bytes.fromhex('ab' * 32)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    one, two = (sealed.key(source) for source in (f"file:{tmp_path / 'key'}", "hook:our_kms:key"))
    assert one.id == two.id
    for source in ("env:NOT_SET_ANYWHERE", f"file:{tmp_path / 'none'}", "hook:our_kms:none", "hook:no_such:key"):
        with pytest.raises(UserError):
            sealed.key(source)


def test_a_local_copy_is_made_and_goes_away(folder):
    folder.write_bytes("model/weights", b"w")
    with (folder / "model").fetched() as path:
        assert (path / "weights").read_bytes() == b"w"
    assert not path.exists()
