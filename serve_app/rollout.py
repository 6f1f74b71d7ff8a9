"""Which version answers whom: swap, canary, shadow, rollback; and how the two of an A/B test compare.

The plan is a note in the store, which every replica looks at as it looks at changed products. Ray's `user_config` could
carry it, too; but a replica that is being reconfigured gets no requests meanwhile, and bare uvicorn has none.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

NOTE = "rollout"
FIRST = 10  # hits of a page that are compared
REMEMBERED = 5_000  # latencies of an arm, the latest


@dataclass(frozen=True)
class Plan:
    """Attributes:
    bundle: the version that answers.
    previous: where a rollback goes.
    candidate: a version on trial.
    percent: of the shoppers that the candidate answers.
    shadow: the candidate only answers on the side, and nobody sees it.
    """

    bundle: str
    previous: str | None = None
    candidate: str | None = None
    percent: float = 0.0
    shadow: bool = False

    @classmethod
    def read(cls, row: dict[str, Any]) -> Plan:
        return cls(**row)

    def row(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def versions(self) -> tuple[str, ...]:
        """That must be loaded. Not the one before: a rollback loads it while this one answers."""
        return tuple(dict.fromkeys(one for one in (self.bundle, self.candidate) if one))

    def swapped(self, version: str) -> Plan:
        """All get it. It ends a trial, its own, too."""
        return Plan(version, self.previous if version == self.bundle else self.bundle)

    def trial(self, version: str, percent: float, shadow: bool) -> Plan:
        return replace(self, candidate=version, percent=0.0 if shadow else percent, shadow=shadow)

    def back(self) -> Plan | None:
        """Ends a trial; where there is none, the version before answers again."""
        if self.candidate is not None:
            return Plan(self.bundle, self.previous)
        return Plan(self.previous, self.bundle) if self.previous else None

    def version(self, shopper: str | None) -> str:
        """Of an answer to a shopper: always the same while the trial lasts. Who is not known takes no part."""
        if self.candidate is None or shopper is None or self.shadow:
            return self.bundle
        return self.candidate if bucket(self.candidate, shopper) < self.percent else self.bundle


def bucket(trial: str, shopper: str) -> float:
    """A shopper's place in [0, 100), another one in every trial."""
    digest = hashlib.blake2b(f"{trial}\0{shopper}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 * 100


@dataclass
class Arm:
    """What one version has done since the plan was made, on this replica."""

    requests: int = 0
    errors: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def note(self, seconds: float, failed: bool) -> None:
        self.requests += 1
        self.errors += failed
        self.seconds.append(seconds)

    def told(self) -> dict[str, Any]:
        p50, p99 = np.percentile(self.seconds, [50, 99]) * 1000 if self.seconds else (None, None)
        return {"requests": self.requests, "errors": self.errors, "p50_ms": p50, "p99_ms": p99}


@dataclass
class Comparison:
    """Of first pages that both versions gave for the same searches."""

    compared: int = 0
    overlap: float = 0.0
    same_first: int = 0

    def note(self, shown: Sequence[str], other: Sequence[str]) -> None:
        shown, other = shown[:FIRST], other[:FIRST]
        self.compared += 1
        longest = max(len(shown), len(other))
        self.overlap += len(set(shown) & set(other)) / longest if longest else 1.0
        self.same_first += list(shown[:1]) == list(other[:1])

    def told(self) -> dict[str, Any]:
        n = self.compared
        return {
            "compared": n,
            "overlap": self.overlap / n if n else None,
            "same_first": self.same_first / n if n else None,
        }
