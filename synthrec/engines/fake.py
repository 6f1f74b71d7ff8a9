"""No language model: answers after a set time, by rule. For measuring and testing the pipeline itself, nothing else.

It writes the last words of the prompt (four, or `options.echo` of them) and prefers a choice by a hash, so that results
can be compared run by run.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from synthrec.config import Engine as EngineSettings
from synthrec.engines.base import Answer, Sampling, normalised
from synthrec.schema import row_id


class Fake:
    """`options`: `seconds` that one answer takes (0), `parallel` answers at once (1), every `long_every`-th prompt
    `long_factor` times longer (never, 20), by a hash of the prompt; `journal`, a folder where each call leaves a file
    with the number of prompts that it was asked."""

    def __init__(self, settings: EngineSettings) -> None:
        options = settings.options
        self._seconds = float(options.get("seconds", 0.0))
        self._slots = ThreadPoolExecutor(int(options.get("parallel", 1)))
        self._journal = options.get("journal")
        self._echo = int(options.get("echo", 4))
        self._long = int(options.get("long_every", 0)), float(options.get("long_factor", 20))

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        self._wait(prompts)
        return [_answer(prompt, text=" ".join(prompt.split()[-self._echo :])) for prompt in prompts]

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Answer]:
        self._wait(prompts)
        return [
            _answer(prompt, logprobs=normalised([-int(row_id(prompt, word)[:4], 16) / 9999 for word in words]))
            for prompt, words in zip(prompts, choices, strict=True)
        ]

    def close(self) -> None:
        pass

    def _wait(self, prompts: Sequence[str]) -> None:
        """As long as the slots take, which all callers share."""
        if self._journal:
            (Path(self._journal) / f"{uuid.uuid4().hex}-{len(prompts)}").touch()
        if self._seconds:
            list(self._slots.map(lambda prompt: time.sleep(self._seconds * self._length(prompt)), prompts))

    def _length(self, prompt: str) -> float:
        every, factor = self._long
        return factor if every and int(row_id(prompt)[:8], 16) % every == 0 else 1.0


def _answer(prompt: str, text: str | None = None, logprobs: tuple[float, ...] | None = None) -> Answer:
    return Answer(text=text, logprobs=logprobs, prompt_tokens=len(prompt.split()), completion_tokens=4 if text else 1)
