"""What the LLM reads of replies, kept in a file, and the dialogues that it writes itself.

Before each dialogue it reads exchanges of other dialogues where something like it was asked: examples near the question
teach more than fixed ones (Liu et al. 2022, "What makes good in-context examples for GPT-3?").
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.kept import once
from benchmarks.reply.cases import SHORTEST, Case, Exchange, Exchanges, distinct, known
from synthrec import console
from synthrec.recommenders.likelihood import END, SPEAKERS, Likelihood, Read
from synthrec.schema import row_id
from synthrec.storage import Folder

EXAMPLES = 8  # exchanges in an opening
TURNS = 9  # the last ones of a dialogue that are read
WRITTEN = 32  # tokens of a written question, at most
WARMTH = 0.8  # temperature of writing
BATCH = 16


class Reads:
    """The LLM over this set's dialogues. No candidate stands among the examples before it."""

    def __init__(self, folder: Path, model: str, cases: Sequence[Case], exchanges: Exchanges) -> None:
        self.file, self.name, self.exchanges = folder / "reads.jsonl", model, exchanges
        self.folder = Folder.open(str(folder))
        self._texts = [text for case in cases for text in (*case.turns, *case.replies)]
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
        self.kept = {key: (Read(*given), Read(*alone)) for key, given, alone in map(json.loads, lines)}

    @cached_property
    def model(self) -> Likelihood:
        return Likelihood.load(self.name, [*self._texts, *SPEAKERS])

    def __call__(self, case: Case) -> list[tuple[Read, Read]]:
        """Of each reply: after the dialogue, and alone; both after the examples."""
        near = (one for _, one in self.exchanges.near(case.turns[-1], case.context))
        opening = "".join(map(_shown, reversed(distinct(near, EXAMPLES, case.replies))))
        turns = case.turns[-TURNS:]
        keys = [row_id(self.name, opening, *turns, "\n", reply) for reply in case.replies]
        if any(key not in self.kept for key in keys):
            model = replace(self.model, opening=opening, _caches={})
            pairs = list(zip(model.read(turns, case.replies), model.read([], case.replies), strict=True))
            self.kept |= dict(zip(keys, pairs, strict=True))
            with self.file.open("a", encoding="utf-8") as file:
                for key, (given, alone) in zip(keys, pairs, strict=True):
                    file.write(json.dumps([key, list(asdict(given).values()), list(asdict(alone).values())]) + "\n")
        return [self.kept[key] for key in keys]

    def written(self) -> list[Case]:
        """A case for each reply of an agent's, to a question that the LLM wrote for it: the dialogue is synthetic."""
        everything = distinct(self.exchanges.all, len(self.exchanges.all))
        replies = [one for one in everything if len(one.answered) >= SHORTEST]
        prompts = [self._asking(one) for one in replies]
        questions = once(self.folder, f"written-{row_id(self.name, *prompts)}.json", lambda: self._write(prompts))
        return [
            known(one.context, [question], one.answered, self.exchanges)
            for one, question in zip(replies, questions, strict=True)
            if len(question) >= SHORTEST and question != one.answered
        ]

    def _asking(self, wanted: Exchange) -> str:
        """Replies with what had been asked, those like the wanted one last, and the wanted one without."""
        some = distinct(self.exchanges.alike(wanted.answered, wanted.context), EXAMPLES, {wanted.answered})
        shown = (f"{SPEAKERS[1]}{one.answered}{END}{SPEAKERS[0]}{one.asked}{END}{END}" for one in reversed(some))
        return "".join(shown) + f"{SPEAKERS[1]}{wanted.answered}{END}{SPEAKERS[0]}"

    def _write(self, prompts: Sequence[str]) -> list[str]:
        """A line to follow each prompt, sampled."""
        model, tokenizer = self.model.model, self.model.tokenizer
        end = tokenizer(END, add_special_tokens=False).input_ids
        torch.manual_seed(0)
        lines = []
        with console.meter("write questions", len(prompts), "questions") as meter:
            for start in range(0, len(prompts), BATCH):
                some = tokenizer(prompts[start : start + BATCH], return_tensors="pt", padding=True, padding_side="left")
                told = model.generate(
                    **some,
                    do_sample=True,
                    temperature=WARMTH,
                    max_new_tokens=WRITTEN,
                    eos_token_id=end,
                    pad_token_id=tokenizer.pad_token_id,
                )
                new = tokenizer.batch_decode(told[:, some.input_ids.shape[1] :], skip_special_tokens=True)
                lines += [text.split(END)[0].strip() for text in new]
                meter.advance(len(new))
        return lines


def _shown(one: Exchange) -> str:
    return f"{SPEAKERS[0]}{one.asked}{END}{SPEAKERS[1]}{one.answered}{END}{END}"
