"""What an LLM back end must do. It knows nothing of shops, tasks or Ray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True)
class Sampling:
    """How to write. Temperature 0 is greedy; with a seed the rest repeats, but for rounding that differs by batch."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 32
    stop: tuple[str, ...] = ("\n",)
    schema: str | None = None  # a JSON schema, as text, that the answer must obey; None: plain text


@dataclass(frozen=True)
class Answer:
    """One prompt's outcome: `text` from generate, `logprobs` from choose, or the `error` that took their place."""

    text: str | None = None
    logprobs: tuple[float, ...] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None


def with_tokens(answer: Answer, other: Answer) -> Answer:
    """The answer, as dear as both."""
    prompt, completion = (getattr(answer, n) + getattr(other, n) for n in ("prompt_tokens", "completion_tokens"))
    return replace(answer, prompt_tokens=prompt, completion_tokens=completion)


def normalised(logprobs: Sequence[float]) -> tuple[float, ...]:
    """Log-probabilities brought to a sum of one over the choices."""
    top = max(logprobs)
    total = top + math.log(sum(math.exp(value - top) for value in logprobs))
    return tuple(value - total for value in logprobs)


def no_choice(choices: Sequence[str]) -> str:
    """What is wrong with choices of which one has no tokens, or which are not there."""
    return f"there must be choices, and none of them empty: {list(choices)}"[:500]


class Engine(Protocol):
    """One bad prompt gives an Answer with an error; an engine that cannot work at all raises.

    Two threads may call at once, so that one batch's slow end is the next one's beginning.
    """

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        """Continue each prompt until a stop string, without it.

        With a `schema`, engines that can decode under it; a caller checks the answer all the same.
        """
        ...

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Answer]:
        """Log-probabilities of each prompt's own choices as what comes next, normalised over its choices.

        A choice has its leading space where the language wants one, and any number of tokens; its score is the sum of
        their log-probabilities.
        """
        ...

    def close(self) -> None: ...
