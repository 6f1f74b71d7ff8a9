"""JSONL files that are read in pieces, as prepare reads them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs as pafs

from synthrec.config import Source
from synthrec.sources import readers

LOCAL = pafs.LocalFileSystem()


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def read_all(path, encoding="utf-8"):
    """(units, rows) of a JSONL file as prepare would read it."""
    units = readers.units("products", Source(path=str(path), encoding=encoding))
    return units, [row for unit in units for row in readers.read(LOCAL, unit)]


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=30),
    chunk=st.integers(1, 80),
    end=st.sampled_from([b"\n", b"\r\n"]),
    closed=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_no_line_is_lost_or_doubled_where_a_file_is_cut(lengths, chunk, end, closed):
    made = [json.dumps({"n": n, "text": "é" * length}, ensure_ascii=False).encode() for n, length in enumerate(lengths)]
    data = end.join(made) + (end if closed else b"")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "CHUNK_BYTES", chunk)
        path = Path(folder) / "p.jsonl"
        path.write_bytes(data)
        units, rows = read_all(path)
    assert len(units) == -(-len(data) // chunk)
    assert [row.value["n"] for row in rows] == list(range(len(lengths)))
    assert [len(row.value["text"]) for row in rows] == lengths
    starts = [int(row.where.rpartition("@")[2]) for row in rows]
    assert [data[at : at + len(line)] for at, line in zip(starts, made, strict=True)] == made


@pytest.mark.parametrize("chunk", [7, 50, 1000])
def test_a_line_beyond_the_limit_is_refused_once_and_the_next_is_read(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(readers, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(readers, "MAX_LINE", 40)
    path = tmp_path / "p.jsonl"
    path.write_bytes(lines([{"n": 0}, {"n": "x" * 300}, {"n": 2}, {"n": "y" * 100}]))
    _, rows = read_all(path)
    assert [row.value and row.value["n"] for row in rows] == [0, None, 2, None]
    assert [row.error[0] for row in rows if row.error] == ["row too long"] * 2


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"n": 0}\n\n  \r\n{"n": 1}\n\n')
    assert [row.value for row in read_all(path)[1]] == [{"n": 0}, {"n": 1}]


def test_another_encoding_is_read_as_the_source_says(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes('{"title": "港山集"}\n'.encode("gb18030"))
    assert [row.value for row in read_all(path, "gb18030")[1]] == [{"title": "港山集"}]
    assert read_all(path)[1][0].error[0] == "broken text encoding"
