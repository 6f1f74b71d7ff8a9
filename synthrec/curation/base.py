"""What a curation step is: rows of one task in, the rows kept and the rows refused with reasons out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from synthrec.config import Config
from synthrec.console import Meter

Row = dict[str, Any]  # a LABEL row
EVERY_TASK = "*"
Refused = tuple[Row, str, str]  # the row, a reason to count by, its particulars


@dataclass(frozen=True)
class Aids:
    """What steps may look things up in."""

    config: Config
    products: dict[str, dict[str, Any]]  # CATALOGUE rows by id, in order of id
    relevance: dict[tuple[str, str], float]  # (query, product id) -> probability that the product fits
    meter: Meter


@dataclass(frozen=True)
class Step:
    """A step names the task whose rows it works on, or EVERY_TASK; `run` loses no row: it is kept or it is refused."""

    name: str
    task: str
    run: Callable[[list[Row], Aids], tuple[list[Row], list[Refused]]]


def split(rows: list[Row], why: Callable[[Row], tuple[str, str] | None]) -> tuple[list[Row], list[Refused]]:
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
