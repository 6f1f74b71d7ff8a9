"""Imports go down the table of rooms that docs/architecture.md shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("synthrec", "serve_app", "train_app")


def floors():
    """Room -> its row of the table, the uppermost is 0."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Where things are")[2]
    rows = re.findall(r"^\| (`.*?) \|", text.partition("\n## ")[0], re.MULTILINE)
    names = [re.findall(r"`(?:\.\./)?(\w+)(?:/|\.py)`", row) for row in rows]
    return {name: floor for floor, row in enumerate(names) for name in row}


def room(module):
    """The room of `synthrec.curation.near` is curation, that of `serve_app.app` serve_app."""
    top, *rest = module.split(".")
    return None if top not in TOPS else top if top != "synthrec" else rest[0] if rest else None


def imported(path):
    """The modules that a file imports, with their lines; those that only a type checker reads as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((one.name, node.lineno) for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"synthrec.{one.name}" for one in node.names] if node.module == "synthrec" else [node.module]
            yield from ((name, node.lineno) for name in names)


MODULES = [path for top in TOPS for path in sorted((ROOT / top).rglob("*.py")) if path != ROOT / "synthrec/__init__.py"]


def test_every_room_is_in_the_table_and_nothing_else():
    there = {room(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in MODULES}
    assert floors().keys() == there


@pytest.mark.parametrize("top", TOPS)
def test_imports_go_down(top):
    floor, up = floors(), []
    for path in MODULES:
        name = path.relative_to(ROOT)
        if name.parts[0] == top:
            mine = floor[room(".".join(name.with_suffix("").parts))]
            for module, line in imported(path):
                theirs = floor.get(room(module))
                if theirs is not None and theirs < mine:
                    up.append(f"{name}:{line} imports {module}")
    assert not up
