"""Processes known by an environment variable, which whatever a run starts inherits: orphans, too."""

from __future__ import annotations

import psutil


def marked(variable: str, value: str) -> list[psutil.Process]:
    """All processes here whose environment has the variable with this value."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                found.append(process)
        except psutil.Error:  # gone meanwhile, or another user's
            continue
    return found
