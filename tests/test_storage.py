"""Folders: files whole or not at all, what a manifest says of them, and the lock of a run."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from pyarrow import fs as pafs

from synthrec.errors import UserError
from synthrec.storage import Folder, filesystem

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int64())])


@pytest.fixture
def folder(tmp_path):
    return Folder.open(str(tmp_path / "run"))


@pytest.fixture
def remote(tmp_path):
    """A folder that is not known to be local, as one on an object store."""
    return Folder(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "run").make()


def table(*rows):
    return pa.Table.from_pylist([{"id": i, "n": n} for i, n in rows], schema=SCHEMA)


def mode(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


@pytest.mark.parametrize("kind", ["folder", "remote"])
def test_a_file_is_there_once_written(kind, request):
    folder = request.getfixturevalue(kind)
    folder.write_bytes("one.bin", b"abc")
    assert folder.read_bytes("one.bin") == b"abc"
    assert folder.files() == ["one.bin"]


@pytest.mark.parametrize("kind", ["folder", "remote"])
def test_a_write_that_fails_leaves_nothing_behind(kind, request, tmp_path):
    folder = request.getfixturevalue(kind).make()
    with pytest.raises(RuntimeError, match="half way"), folder.writing("one.bin") as stream:
        stream.write(b"half")
        raise RuntimeError("half way")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "remote"])
def test_a_write_that_fails_leaves_the_file_before_it(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    (tmp_path / "run" / "deep").mkdir(parents=True)
    folder.write_bytes("deep/one.bin", b"whole")
    with pytest.raises(RuntimeError, match="half way"), folder.writing("deep/one.bin") as stream:
        stream.write(b"half")
        raise RuntimeError("half way")
    assert folder.read_bytes("deep/one.bin") == b"whole"
    assert [p.name for p in (tmp_path / "run" / "deep").iterdir()] == ["one.bin"]


def test_a_file_being_written_is_not_listed(folder):
    with folder.writing("one.bin") as stream:
        stream.write(b"half")
        assert folder.files() == []
        assert not folder.exists("one.bin")
    assert folder.files() == ["one.bin"]


def test_files_lists_every_depth_in_order_without_dot_files(folder, tmp_path):
    for name in ("b.json", "a/c.parquet", "a.parquet", "a/.c.parquet.1234", ".lock"):
        folder.write_bytes(name, b"")
    assert (tmp_path / "run" / ".lock").exists()
    assert folder.files() == ["a.parquet", "a/c.parquet", "b.json"]
    assert folder.files(".parquet") == ["a.parquet", "a/c.parquet"]
    assert (folder / "nowhere").files() == []


def test_json_keeps_any_text(folder):
    value = {"b": "港山集 “quoted”\n", "a": [1, 2.5, None, True]}
    folder.write_json("x.json", value)
    assert folder.read_json("x.json") == value


def test_an_empty_folder_reads_as_an_empty_table(folder):
    assert folder.read_table(SCHEMA) == SCHEMA.empty_table()
    assert folder.read_table(SCHEMA, columns=["n"]).schema.names == ["n"]


def test_all_parts_read_as_one_table(folder):
    folder.write_table("part-1.parquet", table(("a", 1), ("b", None)))
    folder.write_table("more/part-2.parquet", table(("c", 3)))
    whole = folder.read_table(SCHEMA)
    assert whole.schema == SCHEMA
    assert sorted(whole["id"].to_pylist()) == ["a", "b", "c"]
    assert folder.read_table(SCHEMA, ["id"], pads.field("n") > 2).to_pylist() == [{"id": "c"}]


def test_describe_is_what_other_tools_say_of_the_files(folder, tmp_path):
    folder.write_table("part.parquet", table(("a", 1), ("b", 2)))
    folder.write_bytes("sub/big.bin", os.urandom(3 << 20))
    listed = {entry["name"]: entry for entry in folder.describe()}
    assert list(listed) == ["part.parquet", "sub/big.bin"]
    for name, entry in listed.items():
        data = (tmp_path / "run" / name).read_bytes()
        assert entry["bytes"] == len(data)
        assert entry["sha256"] == folder.sha256(name) == hashlib.sha256(data).hexdigest()
    assert listed["part.parquet"]["rows"] == pq.read_metadata(tmp_path / "run" / "part.parquet").num_rows == 2
    assert "rows" not in listed["sub/big.bin"]
    assert json.loads(json.dumps(folder.describe())) == folder.describe()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_folders_are_their_owners_alone(folder, tmp_path):
    before = os.umask(0)
    try:
        folder.make()
        folder.write_bytes("sub/one.bin", b"")
    finally:
        os.umask(before)
    assert mode(tmp_path / "run") == 0o700
    assert mode(tmp_path / "run" / "sub") == 0o700


def test_delete_takes_the_whole_folder_and_may_be_repeated(folder):
    folder.write_bytes("sub/one.bin", b"")
    folder.delete()
    folder.delete()
    assert not folder.exists()


HOLD = """
import sys
from synthrec.storage import Folder
with Folder.open(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_has_ended_however_it_ends(folder):
    def hold(**pipes):
        return subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True, **pipes)

    with hold(stdin=subprocess.PIPE) as first:
        assert first.stdout.readline() == "held\n"
        with hold(stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as second:
            out, told = second.communicate(timeout=30)
            assert out == ""
            assert second.returncode != 0
            assert f"another synthrec is working on {folder}" in told
        with pytest.raises(UserError, match="another synthrec"), folder.locked():
            pass
        first.kill()
        first.wait(timeout=30)
    with folder.locked():
        pass
    with folder.locked():  # and it is free again after a block
        pass


def test_paths_and_uris_open_and_an_unknown_scheme_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert filesystem("here/x")[1] == str(tmp_path / "here" / "x")
    assert filesystem(f"file://{tmp_path}/x")[1] == f"{tmp_path}/x"
    with pytest.raises(UserError, match="nosuch://"):
        filesystem("nosuch://bucket/x")


def test_a_step_that_needs_local_files_says_so(folder, remote, tmp_path):
    assert folder.local == tmp_path / "run"
    with pytest.raises(UserError, match="not on a local filesystem"):
        _ = remote.local
