"""Parquet, CSV and JSONL on any pyarrow filesystem, as units of work and rows that know where they stand."""

from __future__ import annotations

import codecs
import csv
import fnmatch
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from synthrec.config import Source
from synthrec.errors import UserError
from synthrec.storage import filesystem

SUFFIXES = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
CHUNK_BYTES = 64 << 20  # JSONL files are cut here; a unit of work is at most this
MAX_LINE = 32 << 20  # a longer line or cell is refused unread


@dataclass(frozen=True)
class Unit:
    """A piece of a file that one task reads: bytes of JSONL, a row group of Parquet, or a whole CSV.

    Attributes:
        start, stop: bytes (jsonl) or row groups (parquet); unused for csv.
    """

    kind: str
    path: str
    format: str
    encoding: str
    columns: dict[str, str]
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Row:
    """One record as found. `error` is set where there is nothing to validate; `lines`: that were lost with it."""

    where: str
    value: dict[str, Any] | None
    error: tuple[str, str] | None = None  # reason, detail
    raw: str = ""
    lines: int = 1


def files(key: str, source: Source) -> tuple[pafs.FileSystem, list[pafs.FileInfo]]:
    """The files of a source, named by its key in the config: one file, all of a folder, or those a glob matches.

    Raises:
        UserError: if there are none.
    """
    fs, path = filesystem(source.path)
    if any(c in path for c in "*?["):
        base = path[: min(path.find(c) for c in "*?[" if c in path)].rpartition("/")[0]
        found = fs.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
        found = [f for f in found if f.is_file and _matches(f.path.split("/"), path.split("/"))]
    else:
        info = fs.get_file_info(path)
        if info.type == pafs.FileType.Directory:
            found = [f for f in fs.get_file_info(pafs.FileSelector(path, recursive=True)) if f.is_file]
            found = [f for f in found if not f.base_name.startswith((".", "_"))]
        else:
            found = [info] if info.is_file else []
    if not found:
        raise UserError(f"{key}: no file at {source.path}", "check the path (it is relative to where you run)")
    return fs, sorted(found, key=lambda f: f.path)


def _matches(path: list[str], pattern: list[str]) -> bool:
    """As a shell's: `*` stays in its folder and finds nothing hidden, `**` is any number of folders."""
    if not path or not pattern:
        return not path and not pattern
    if pattern[0] == "**":
        return _matches(path, pattern[1:]) or _matches(path[1:], pattern)
    hidden = path[0].startswith(".") and not pattern[0].startswith(".")
    return not hidden and fnmatch.fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def stamp(key: str, source: Source) -> list[list[Any]]:
    """Path, size and time of change of each file: what makes a re-run read them again."""
    _, found = files(key, source)
    return [[f.path, f.size, f.mtime_ns] for f in found]


def units(kind: str, source: Source) -> list[Unit]:
    fs, found = files(f"sources.{kind}", source)
    plan: list[Unit] = []
    for file in found:
        form = _format(kind, file.path, source.format)
        if form == "jsonl" and "\n".encode(source.encoding) != b"\n":
            raise UserError(f"sources.{kind}: JSONL is not read in {source.encoding}", "write it in UTF-8")
        one = Unit(kind, file.path, form, source.encoding, dict(source.columns))
        plan += _split(fs, one, file.size)
    return plan


def _format(kind: str, path: str, given: str) -> str:
    if given != "auto":
        return given
    for suffix, form in SUFFIXES.items():
        if path.endswith(suffix):
            return form
    raise UserError(
        f"sources.{kind}: cannot tell the format of {path}", "name it .parquet, .csv or .jsonl, or set format"
    )


def _split(fs: pafs.FileSystem, unit: Unit, size: int) -> list[Unit]:
    def piece(start: int, stop: int) -> Unit:
        return Unit(unit.kind, unit.path, unit.format, unit.encoding, unit.columns, start, stop)

    if size == 0 or unit.format == "csv":  # quoted line breaks make a CSV unsafe to cut
        return [piece(0, size)]
    if unit.format == "jsonl":
        return [piece(a, min(a + CHUNK_BYTES, size)) for a in range(0, size, CHUNK_BYTES)]
    try:
        with fs.open_input_file(unit.path) as file:
            groups = pq.ParquetFile(file).metadata.num_row_groups
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{unit.path} is not a Parquet file: {error}", "write it again, or set the source's format"
        ) from None
    return [piece(g, g + 1) for g in range(groups)]


def read(fs: pafs.FileSystem, unit: Unit) -> Iterator[Row]:
    """The rows of a unit, our column names in place of the file's; never raises for a bad row."""
    if unit.stop == 0:
        yield Row(unit.path, None, ("empty file", f"{unit.path} holds no rows"))
        return
    readers: dict[str, Callable[[pafs.FileSystem, Unit], Iterator[Row]]] = {
        "jsonl": _read_jsonl,
        "csv": _read_csv,
        "parquet": _read_parquet,
    }
    for row in readers[unit.format](fs, unit):
        value = row.value
        if value is None or not unit.columns:
            yield row
            continue
        mapped = {ours: value[theirs] for ours, theirs in unit.columns.items() if theirs in value}
        others = {name: v for name, v in value.items() if name not in unit.columns.values()}
        yield Row(row.where, others | mapped, raw=row.raw)


def _read_jsonl(fs: pafs.FileSystem, unit: Unit) -> Iterator[Row]:
    """Lines that start inside the unit's bytes: one cut by the end is read whole, one cut by the start is skipped."""
    with fs.open_input_file(unit.path) as file:
        file.seek(max(unit.start - 1, 0))
        stream = io.BufferedReader(file, 1 << 20)  # type: ignore[type-var]
        position = max(unit.start - 1, 0)
        if unit.start:
            while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                position += len(rest)
            position += len(rest)
        while position < unit.stop and (line := stream.readline(MAX_LINE)):
            at, position = position, position + len(line)
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                while rest := stream.readline(MAX_LINE):
                    position += len(rest)
                    if rest.endswith(b"\n"):
                        break
                yield Row(f"{unit.path}@{at}", None, ("row too long", f"more than {MAX_LINE} bytes"))
                continue
            if line.strip():
                yield _json_row(f"{unit.path}@{at}", line, unit.encoding)


def _json_row(where: str, line: bytes, encoding: str) -> Row:
    """One line. `where` counts bytes, since a unit does not know how many lines came before it."""
    try:
        text = line.decode(_without_mark(encoding))
    except UnicodeDecodeError as error:
        return Row(
            where, None, ("broken text encoding", f"{error.reason} at byte {error.start} of the row"), repr(line[:200])
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Row(where, None, ("not JSON", str(error)), text)
    if not isinstance(value, dict):
        return Row(where, None, ("not a JSON object", f"it is a {type(value).__name__}"), text)
    return Row(where, value, raw=text)


def _without_mark(encoding: str) -> str:
    """The codec; of UTF-8, by whatever name, the one that leaves out a byte order mark."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _read_csv(fs: pafs.FileSystem, unit: Unit) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE)
    with fs.open_input_stream(unit.path) as file:
        # surrogateescape lets a row with broken bytes through, to be refused alone
        encoding = _without_mark(unit.encoding)
        text = io.TextIOWrapper(file, encoding, "surrogateescape", newline="")  # type: ignore[type-var]
        # Strict: a quote that is never closed would swallow the rows up to the next one, and nobody would know.
        reader = csv.reader(text, strict=True)
        header = next(reader, None) or []
        while True:
            before = reader.line_num
            where = f"{unit.path}:{before + 1}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                why = f"{error}; this takes with it all up to line {reader.line_num}"
                yield Row(where, None, ("not CSV", why), lines=max(1, reader.line_num - before))
                continue
            if cells is None:
                return
            if cells:
                yield _csv_row(where, header, cells)


def _csv_row(where: str, header: list[str], cells: list[str]) -> Row:
    raw = ",".join(cells)
    if any("\udc80" <= c <= "\udcff" for c in raw):
        return Row(where, None, ("broken text encoding", "bytes that are not text in the source's encoding"), raw)
    if len(cells) != len(header):
        return Row(where, None, ("wrong number of cells", f"{len(cells)} cells under {len(header)} columns"), raw)
    return Row(where, dict(zip(header, cells, strict=True)), raw=raw)


def _read_parquet(fs: pafs.FileSystem, unit: Unit) -> Iterator[Row]:
    with fs.open_input_file(unit.path) as file:
        parquet = pq.ParquetFile(file)
        row = sum(parquet.metadata.row_group(g).num_rows for g in range(unit.start))
        for batch in parquet.iter_batches(1024, row_groups=list(range(unit.start, unit.stop))):
            try:
                values = batch.to_pylist()
            except (OverflowError, ValueError):  # broken text; a date that Python has no name for
                values = None
            for index in range(batch.num_rows):
                row += 1
                yield _parquet_row(f"{unit.path}:{row}", values, batch, index)


def _parquet_row(where: str, values: list[dict[str, Any]] | None, batch: pa.RecordBatch, index: int) -> Row:
    try:
        value = values[index] if values is not None else batch.slice(index, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        return Row(where, None, ("broken text encoding", str(error)[:200]))
    except (OverflowError, ValueError) as error:
        return Row(where, None, ("unreadable value", str(error)[:200]))
    return Row(where, value, raw=str(value))


def columns(fs: pafs.FileSystem, unit: Unit) -> list[str] | None:
    """Columns of a CSV or Parquet file under our names; None for JSONL, whose rows each have their own."""
    if unit.format == "jsonl" or unit.stop == 0:
        return None
    if unit.format == "parquet":
        with fs.open_input_file(unit.path) as file:
            names = pq.read_schema(file).names
    else:
        encoding = _without_mark(unit.encoding)
        with fs.open_input_stream(unit.path) as file:
            text = io.TextIOWrapper(file, encoding, "surrogateescape", newline="")  # type: ignore[type-var]
            names = next(csv.reader(text), None) or []
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(f"{unit.path}: column '{twice[0]}' stands there twice", "rename one of the two")
    mapped = [ours for ours, theirs in unit.columns.items() if theirs in names]
    return [*(name for name in names if name not in unit.columns.values()), *mapped]
