"""What a curation step is: rows of one task in, the rows kept and the rows refused with reasons out.

Rows come in parts. All rows about one product are in one part, so most steps need no more than the part in hand; one
that needs to have seen all rows first (a mean, duplicates anywhere) learns from all parts, then works on each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from synthrec import schema
from synthrec.config import Config
from synthrec.curation.gold import Gold
from synthrec.storage import Folder

Row = dict[str, Any]  # a LABEL row
Refused = tuple[Row, str, str]  # the row, a reason to count by, its particulars
Outcome = tuple[list[Row], list[Refused]]
Relevance = dict[tuple[str, str], float]  # (query, product id) -> probability that the product fits


@dataclass(frozen=True)
class Aids:
    """What steps may look things up in; read when it is first asked for."""

    config: Config
    catalogue: Callable[[], dict[str, Row]]  # CATALOGUE rows by id, in order of id
    scored: Callable[[Collection[str]], Relevance]  # of these products
    labels: Folder  # of the stage before, all tasks
    work: Folder  # where a step may keep what it learnt
    gold: Callable[[], list[Gold]] = list  # right labels, from people

    @cached_property
    def products(self) -> dict[str, Row]:
        return self.catalogue()


@dataclass(frozen=True)
class Parts:
    """All rows of a task, a part at a time, each as the steps before have left it."""

    folder: Folder

    def __iter__(self) -> Iterator[list[Row]]:
        for name in self.names:
            yield self.read(name)

    @property
    def names(self) -> list[str]:
        return self.folder.files(".parquet")

    def read(self, name: str) -> list[Row]:
        rows = self.folder.read_file(name, schema.LABEL).to_pylist()
        return [row | {"fields": schema.strings(row["fields"])} for row in rows]


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: in the config's list, and of its refusals in the figures.
        tasks: whose rows it works on; of every task where it names none.
        run: (rows, aids) -> kept and refused; it loses no row. Where it learns: (rows, aids, what it learnt).
        learn: (all parts, aids) -> something that can be pickled.
        cpus: that one part takes.
    """

    name: str
    tasks: tuple[str, ...]
    run: Callable[..., Outcome]
    learn: Callable[[Iterable[list[Row]], Aids], Any] | None = None
    cpus: float = 0.5

    def concerns(self, task: str) -> bool:
        return not self.tasks or task in self.tasks

    def apply(self, rows: list[Row], aids: Aids, learnt: Any = None) -> Outcome:
        out: Outcome = self.run(rows, aids, learnt) if self.learn else self.run(rows, aids)
        return out


def split(rows: list[Row], why: Callable[[Row], tuple[str, str] | None]) -> Outcome:
    """Keep the rows for which `why` finds nothing to say."""
    kept: list[Row] = []
    refused: list[Refused] = []
    for row in rows:
        reason = why(row)
        if reason is None:
            kept.append(row)
        else:
            refused.append((row, *reason))
    return kept, refused
