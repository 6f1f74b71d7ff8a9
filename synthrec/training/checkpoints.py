"""Checkpoints of a run in one process, on a local disk: the last, to go on from, and the best, to keep."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthrec.training import loop


class Checkpoints:
    """What `loop.train` reports to. A kill at any moment leaves the last whole checkpoint and the best one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, metrics: dict[str, Any], save: Callable[[Path], None]) -> None:
        draft = self.folder / "draft"
        if draft.exists():
            _delete(draft)
        draft.mkdir()
        save(draft)
        epoch = metrics["epoch"]
        draft.rename(self.path(epoch))
        keep = {self.path(epoch), self.path(metrics.get("best_epoch", epoch))}
        for old in set(self._whole()) - keep:
            old.rename(draft)  # so that a deletion cut short leaves no half checkpoint
            _delete(draft)

    def path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04d}"

    @property
    def last(self) -> Path | None:
        """None where nothing was saved yet."""
        return max(self._whole(), default=None)

    @property
    def best(self) -> Path | None:
        """By validation; the last where there was none."""
        best = self.progress().best
        return self.last if best is None else self.path(best)

    def progress(self) -> loop.Progress:
        """Of the epochs that are done."""
        return loop.Progress([], []) if self.last is None else loop.progress(loop.read(self.last))

    def _whole(self) -> list[Path]:
        return list(self.folder.glob("epoch-*"))


def _delete(folder: Path) -> None:
    shutil.rmtree(folder)
