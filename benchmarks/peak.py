"""The highest memory while a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psutil


class Peak:
    """The highest of what `measure` says, in MB, while the block runs; `before` is what it was at its start."""

    def __init__(self, measure: Callable[[], float], seconds: float = 0.05) -> None:
        self._measure, self._seconds = measure, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self.before = self.mb = self._measure()
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            self.mb = max(self.mb, self._measure())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def own() -> float:
    """Resident memory of this process, in MB."""
    return float(psutil.Process().memory_info().rss / 1e6)


def of_all() -> float:
    """Memory of this process and its children together, shared pages once, in MB."""
    total = 0
    for one in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e6
