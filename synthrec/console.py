"""What a person sees: one line a step, a bar with rate and ETA on a terminal, a line now and then in a log file."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

console = Console(stderr=True, highlight=False, soft_wrap=True)
if not console.is_terminal:  # a log file has no edge to wrap at
    console.width = 140


@contextmanager
def hushed(log: Path) -> Iterator[None]:
    """Send all that frameworks write to the terminal, from Python or C++, to a log file; only `console` is seen.

    Raises whatever the block raises, with the terminal given back first.
    """
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    flush()
    saved = [os.dup(1), os.dup(2)]
    with log.open("ab") as file, os.fdopen(os.dup(2), "w", encoding="utf-8") as screen:
        console.file = screen
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            flush()
            console.file = None  # type: ignore[assignment]  # whatever is standard error then, as before
            for descriptor, real in zip((1, 2), saved, strict=True):
                os.dup2(real, descriptor)
                os.close(real)


LOG_SECONDS = 15.0


def say(text: str, lead: str = "", style: str = "bold") -> None:
    """One line, and before it a word or two in a style. Brackets in either are text, as in `synthrec[openai]`."""
    console.print(Text.assemble((lead, style), " " if lead and text else "", text))


def rule(title: str) -> None:
    console.rule(Text(title), align="left", style="dim")


def warn(text: str) -> None:
    say(text, "!", "yellow")


def clock(seconds: float) -> str:
    """Seconds as 42s, 3m07s or 2h05m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


class Meter:
    """Progress of one step: `advance` as work comes in; a note (accepted %, loss, tokens/s) rides along."""

    def __init__(self, name: str, total: int | None, unit: str, bar: Progress | None) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done, self.note = 0, ""
        self._start = self._last = time.monotonic()
        self._end: float | None = None
        self._bar = bar
        self._task = bar.add_task(name, total=total, rate="", note="") if bar else None

    def begin(self, at: float) -> None:
        """Count time from `at` (of `time.monotonic`): until then another's work was done."""
        if not self.done:
            self._start = at

    @property
    def seconds(self) -> float:
        return max((self._end or time.monotonic()) - self._start, 1e-9)

    def end(self) -> None:
        """Count no more time."""
        self._end = time.monotonic()

    @property
    def rate(self) -> float:
        return self.done / self.seconds

    def advance(self, count: int = 1, note: str | None = None) -> None:
        self.done += count
        self.note = self.note if note is None else note
        if self._bar is not None and self._task is not None:
            rate = f"{self.rate:.1f} {self.unit}/s"
            self._bar.update(self._task, completed=self.done, rate=rate, note=self.note)
        elif time.monotonic() - self._last >= LOG_SECONDS:
            self._last = time.monotonic()
            say(f"    {self.line()}")

    def line(self) -> str:
        of = f"/{self.total}" if self.total else ""
        left = clock((self.total - self.done) / self.rate) if self.total and self.done else "?"
        note = f"  {self.note}" if self.note else ""
        return f"{self.name}: {self.done}{of} {self.unit}, {self.rate:.1f}/s, ETA {left}{note}"


@contextmanager
def meter(name: str, total: int | None, unit: str = "rows") -> Iterator[Meter]:
    """A meter for the time of a `with` block; leaves one line behind."""
    with meters({name: total}, unit) as found:
        yield found[name]


@contextmanager
def meters(totals: dict[str, Any], unit: str = "rows") -> Iterator[dict[str, Meter]]:
    """A meter for each name, for the time of a `with` block; each leaves one line behind."""
    if not console.is_terminal:
        made = {name: Meter(name, total, unit, None) for name, total in totals.items()}
        yield made
    else:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            made = {name: Meter(name, total, unit, bar) for name, total in totals.items()}
            yield made
    for one in made.values():
        note = f"  {one.note}" if one.note else ""
        if one.done or one.total != 0:
            say(f"    {one.name}: {one.done} {unit} in {clock(one.seconds)} ({one.rate:.1f}/s){note}")


def flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


@contextmanager
def each_second(show: Callable[[], None]) -> Iterator[None]:
    """Call it about once a second for the time of the block, from a thread, and once more at its end."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            show()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        show()
