"""The circuit breaker: a job whose answers are mostly of no use stops early, and says why."""

from __future__ import annotations

from collections import Counter, deque

from synthrec.errors import UserError

Why = dict[str, tuple[int, str]]  # reason -> how often, and one example of it


class Breaker:
    """Watches the share of refused answers over the last `window` of them, once there are so many.

    Args:
        name: of the task, for the message.
        most: the share above which the job stops.
    """

    def __init__(self, name: str, most: float, window: int) -> None:
        self.name, self.most, self.window = name, most, window
        self._batches: deque[tuple[int, int]] = deque()  # (answers, refused) of each
        self._rows = self._refused = 0
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def see(self, rows: int, refused: int, why: Why) -> None:
        """Count a batch.

        Raises:
            UserError: with the commonest reasons and an example of each, when too many are refused.
        """
        self._batches.append((rows, refused))
        self._rows += rows
        self._refused += refused
        while self._rows - self._batches[0][0] >= self.window:
            gone = self._batches.popleft()
            self._rows -= gone[0]
            self._refused -= gone[1]
        for reason, (count, example) in why.items():
            self._counts[reason] += count
            self._examples.setdefault(reason, example)
        if self._rows >= self.window and self._refused > self.most * self._rows:
            raise UserError(
                f"{self.name}: {self._refused} of the last {self._rows} answers are of no use\n{self._reasons()}",
                "try another model or prompt; answers so far are kept. synthesize.max_failure_rate sets the limit",
            )

    def _reasons(self) -> str:
        lines = []
        for reason, count in self._counts.most_common(3):
            lines.append(f"  {count} x {reason}")
            if example := self._examples[reason]:
                lines.append(f"      such as {example!r:.160}")
        return "\n".join(lines)
