"""What a benchmark keeps in its `--run-dir` as each part of it ends, so that a second call goes on from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthrec.errors import UserError
from synthrec.storage import Folder


def once(folder: Folder, name: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, as JSON, from its file where it has been made. The file appears whole or not at all."""
    if not folder.exists(name):
        folder.write_json(name, make())
    return folder.read_json(name)


def same_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Raises: UserError if the folder holds checkpoints of other settings."""
    folder.mkdir(parents=True, exist_ok=True)
    path, text = folder / "recipe.json", json.dumps(settings)
    if path.exists() and path.read_text() != text:
        raise UserError(f"{folder} was begun with other settings", "give another --run-dir, or delete it")
    path.write_text(text)
