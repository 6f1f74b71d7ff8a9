"""Popularity kept up as events come, where counting them anew would cost a fetch of them all."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from synthrec.stores.base import LATELY, Row


class Popular:
    """Products by the weight of events among the latest `LATELY` numbers.

    Attributes:
        last: the number up to which events were taken.
        erasures: how often shoppers had been forgotten when it was begun: after one more it is to be begun anew.
    """

    def __init__(self, last: int, erasures: int) -> None:
        self.last, self.erasures = max(0, last - LATELY), erasures
        self._window: deque[tuple[int, str, float]] = deque()
        self._weights: dict[str, float] = {}
        self._counts: Counter[str] = Counter()  # what rounding leaves of a weight is no sign of an event

    def take(self, events: Iterable[tuple[int, Row]], last: int) -> None:
        """More events, ascending by number, up to `last`."""
        for number, row in events:
            product, weight = row["product_id"], row["weight"]
            self._window.append((number, product, weight))
            self._weights[product] = self._weights.get(product, 0.0) + weight
            self._counts[product] += 1
        self.last = last
        while self._window and self._window[0][0] <= last - LATELY:
            _, product, weight = self._window.popleft()
            self._weights[product] -= weight
            self._counts[product] -= 1
            if not self._counts[product]:
                del self._counts[product], self._weights[product]

    def best(self, limit: int) -> list[tuple[str, float]]:
        return sorted(self._weights.items(), key=lambda one: (-one[1], one[0]))[:limit]
