"""Search every file of a run directory: Parquet cell by cell, JSON and pages unescaped, the rest as bytes."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

WIDE = {ord("0") + i: ord("０") + i for i in range(10)}


def variants(value: str) -> set[str]:
    """Ways to write a value: as it is, in small letters, without spaces and dashes, digits alone, full-width."""
    ways = {value, value.lower(), re.sub(r"[\s-]", "", value)}
    digits = re.sub("[^0-9]", "", value)
    if len(digits) >= 7 and "@" not in value and "," not in value:
        ways.add(digits)
    return ways | {way.translate(WIDE) for way in ways}


def grep(root: Path, values: Iterable[str]) -> dict[str, set[str]]:
    """Value -> files below `root` that hold it, where any does.

    Raises:
        RuntimeError: grep has failed.
    """
    by_way = {way: value for value in values for way in variants(value)}
    with tempfile.TemporaryDirectory() as temporary:
        keys, plain = Path(temporary, "keys"), Path(temporary, "plain")
        keys.write_text("\n".join(by_way), encoding="utf-8")
        plain.mkdir()
        _decode(root, plain)
        command = ["grep", "-raoF", "-f", str(keys), "."]
        found: dict[str, set[str]] = {}
        for folder in (root, plain):
            done = subprocess.run(command, cwd=folder, capture_output=True, env=os.environ | {"LC_ALL": "C"})
            if done.returncode > 1:
                raise RuntimeError(done.stderr.decode())
            for line in done.stdout.decode("utf-8", "replace").splitlines():
                file, _, way = line.partition(":")
                found.setdefault(by_way[way], set()).add(file.removeprefix("./"))
    return found


def _decode(root: Path, into: Path) -> None:
    """Write what encodings hide from grep, file for file; what is sealed stays as it is."""
    for path in (one for one in root.rglob("*") if one.is_file()):
        data = path.read_bytes() if path.suffix in (".parquet", ".json", ".jsonl", ".html", ".md") else b""
        if data.startswith(b"PAR1"):
            text = "\n".join(_cells(pq.read_table(path).to_pylist()))
        else:
            text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), data.decode("utf-8", "replace"))
            text = html.unescape(text)
        copy = into / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8", errors="replace")


def _cells(value: Any) -> Iterator[str]:
    """All that stands in a value: keys and items of maps, elements of lists, texts within JSON."""
    if isinstance(value, dict):
        for pair in value.items():
            yield from _cells(pair)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _cells(one)
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, str):
        yield value
        if "\\" in value:
            with contextlib.suppress(ValueError):
                yield from _cells(json.loads(value))
    elif value is not None and not isinstance(value, float):
        yield str(value)
