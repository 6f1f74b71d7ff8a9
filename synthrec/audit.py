"""The run directory's own record: who did what, when, from what. An entry is a file, never edited."""

from __future__ import annotations

import os
import pwd
import uuid
from datetime import UTC, datetime
from typing import Any

from synthrec.storage import Folder


def who() -> str:
    """The operating system's name of the user, which an environment variable cannot change."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return f"uid {os.getuid()}"


def note(root: Folder, what: str, **facts: Any) -> None:
    """Add an entry. `facts` are JSON-able and hold no personal data: pseudonyms, counts, fingerprints."""
    now = datetime.now(UTC).isoformat()
    entry = {"when": now, "who": who(), "what": what, **facts}
    (root / "audit").write_json(f"{now.replace(':', '')}-{uuid.uuid4().hex[:8]}.json", entry)


def entries(root: Folder) -> list[dict[str, Any]]:
    """All entries, oldest first."""
    folder = root / "audit"
    return sorted((folder.read_json(name) for name in folder.files(".json")), key=lambda one: str(one["when"]))
