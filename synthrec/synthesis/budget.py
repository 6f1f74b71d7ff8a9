"""What synthesis may spend, and what it has spent."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from synthrec.config import Budget, Prices

MILLION = 1_000_000


@dataclass
class Purse:
    """Counts answers, tokens, money and time against limits.

    Of earlier runs the answers count that are still asked for, and the tokens and money of all.
    """

    budget: Budget
    prices: Prices | None = None
    rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    start: float = field(default_factory=time.monotonic)

    def blind(self, answers: int, tokens: int) -> bool:
        """Whether such answers cannot be counted, and have to be."""
        return answers > 0 and not tokens and (self.budget.tokens is not None or self.budget.money is not None)

    def pay(self, rows: int, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        self.rows += rows
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def money(self) -> float | None:
        """In the currency of the prices; None where there are none: never a guess."""
        return cost(self.prices, self.prompt_tokens, self.completion_tokens)

    @property
    def rows_left(self) -> int | None:
        """Answers that may still be asked for; None: any number."""
        return None if self.budget.rows is None else max(0, self.budget.rows - self.rows)

    def reached(self) -> str | None:
        """The limit that is reached, in words; None while there is none."""
        spent = {
            "rows": self.rows,
            "tokens": self.tokens,
            "seconds": time.monotonic() - self.start,
            "money": self.money or 0.0,
        }
        for name, value in spent.items():
            limit = getattr(self.budget, name)
            if limit is not None and value >= limit:
                return f"synthesize.budget.{name} = {limit:g}"
        return None


def cost(prices: Prices | None, prompt_tokens: int, completion_tokens: int) -> float | None:
    if prices is None:
        return None
    return (prices.prompt * prompt_tokens + prices.completion * completion_tokens) / MILLION
