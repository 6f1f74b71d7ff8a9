"""What people decided about rows: appended line by line, so that a kill loses nothing that was answered for.

A reviewer has a file, `review/decisions/<reviewer>.jsonl` of the run directory, outside of every fingerprint: label
ids are hashes of what made the label, so a decision finds its row again after curation was redone. Nothing can be
appended to a sealed file: in an encrypted run each decision has its own, `<reviewer>/<time>.jsonl`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from synthrec import console
from synthrec.errors import UserError
from synthrec.storage import Folder

Verdict = Literal["accept", "correct", "reject", "undo"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
REVIEWER = re.compile(r"\w[\w.@-]{0,63}")


@dataclass(frozen=True)
class Decision:
    """One answer of one person."""

    id: str  # of the label
    task: str
    facet: str
    language: str
    text: str
    seen: str  # the label that was shown
    verdict: Verdict
    gold: str | None  # the right label; null where the row was rejected or the answer taken back
    reviewer: str
    made: str  # time, ISO 8601
    chosen: bool = True  # false where the LLM wrote the text: there is no other label to choose
    sources: Sequence[str] = ()  # ids of the records that the label was made of


class Ledger:
    """A reviewer's file, open for appending. Needs a local run directory."""

    def __init__(self, root: Folder, reviewer: str) -> None:
        if not REVIEWER.fullmatch(reviewer):
            raise UserError(f"--reviewer {reviewer!r} is no file's name", "use letters, digits, '.', '-', '_' and '@'")
        self._place, self._reviewer = _place(root).make(), reviewer
        folder = self._place.local
        self._folder = os.open(folder, os.O_RDONLY)
        fcntl.flock(self._folder, fcntl.LOCK_SH)  # `forget` replaces files, which must not be open for appending then
        self._file: int | None = None
        if root.plain.fs is not root.fs:
            return
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        self._file = os.open(folder / f"{reviewer}.jsonl", flags, 0o600)
        end = os.lseek(self._file, 0, os.SEEK_END)
        if end and os.pread(self._file, 1, end - 1) != b"\n":  # a write was cut short: the next starts its own line
            os.write(self._file, b"\n")
        os.fsync(self._folder)  # the file's name, too

    def append(self, decision: Decision) -> None:
        """Write a decision; it is on the disk when this returns."""
        data = (json.dumps(asdict(decision), ensure_ascii=True) + "\n").encode()
        if self._file is None:
            name = f"{self._reviewer}/{time.time_ns():020d}.jsonl"  # names in the order of time
            self._place.write_bytes(name, data)
            with (self._place.local / name).open("rb") as file:
                os.fsync(file.fileno())
            return
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        os.close(self._folder)


def read(root: Folder) -> list[Decision]:
    """The last decision of each reviewer about each row, oldest first; those taken back are left out."""
    last: dict[tuple[str, str], Decision] = {}
    place = _place(root)
    for name in place.files(".jsonl"):
        broken = 0
        for line in _lines(place, name):
            one = _decision(line)
            if one is None:
                broken += 1
                continue
            last.pop((one.reviewer, one.id), None)
            last[one.reviewer, one.id] = one
        if broken:
            console.say(f"{place}/{name}: {broken} lines were cut short and are left out")
    return sorted((one for one in last.values() if one.verdict != "undo"), key=lambda one: (one.made, one.id))


def gold(decisions: Iterable[Decision]) -> dict[str, Decision]:
    """By label id, the latest decision that says what is right: of several reviewers, the last one's word."""
    return {one.id: one for one in decisions if one.gold is not None}


def about(root: Folder, theirs: Callable[[Decision], bool]) -> dict[str, int]:
    """File, from the run directory -> how many of its lines, undone ones too, are somebody's."""
    place = _place(root)
    found = {
        name: sum(one is not None and theirs(one) for one in map(_decision, _lines(place, name)))
        for name in place.files(".jsonl")
    }
    return {f"review/decisions/{name}": lines for name, lines in found.items() if lines}


def forget(root: Folder, theirs: Callable[[Decision], bool]) -> dict[str, int]:
    """Take out all that is somebody's, and lines that were cut short, which might be.

    Returns:
        File, from the run directory -> how many lines of theirs were removed.

    Raises:
        UserError: where somebody is reviewing, whose next answer would be lost.
    """
    place, mine = _place(root), about(root, theirs)
    if not place.files(".jsonl"):
        return {}
    with _nobody_reviews(place):
        for name in place.files(".jsonl"):
            lines = _lines(place, name)
            kept = [line for line in lines if (one := _decision(line)) is not None and not theirs(one)]
            if len(kept) < len(lines):
                place.write_bytes(name, b"".join(line + b"\n" for line in kept))
    return mine


@contextmanager
def _nobody_reviews(place: Folder) -> Iterator[None]:
    folder = os.open(place.local, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(
            "a review of this run directory is going on", "stop `synthrec review`, then try again"
        ) from None
    finally:
        os.close(folder)


def _lines(place: Folder, name: str) -> list[bytes]:
    return [line for line in place.read_bytes(name).split(b"\n") if line]


def _decision(line: bytes) -> Decision | None:
    """None where the line was cut short."""
    try:
        return Decision(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _place(root: Folder) -> Folder:
    return root / "review" / "decisions"
