"""What synthesis does, as Prometheus metrics: Ray's agents export them on every node, and its dashboard draws them."""

from __future__ import annotations

from typing import Any


class Metrics:
    """Counters by task, named ray_synthrec_* where Ray exports them."""

    def __init__(self, model: str) -> None:
        from ray.util.metrics import Counter

        self._model = model
        self._rows = Counter("synthrec_answers", "answers of the LLM", ("task", "model", "outcome"))
        self._tokens = Counter("synthrec_tokens", "tokens read and written by the LLM", ("task", "model", "direction"))

    def count(self, account: dict[str, Any]) -> None:
        tags = {"task": account["task"], "model": self._model}
        refused = account["refused"]
        for outcome, number in (("accepted", account["rows"] - refused), ("refused", refused)):
            if number:
                self._rows.inc(number, {**tags, "outcome": outcome})
        for direction, key in (("read", "prompt_tokens"), ("written", "completion_tokens")):
            if account[key]:
                self._tokens.inc(account[key], {**tags, "direction": direction})
