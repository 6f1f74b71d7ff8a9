"""How well a reply fits a dialogue, read from a causal language model that was trained on no labels of the task.

The fit is pointwise mutual information: log p(reply | dialogue) - weight * log p(reply). A reply that is common
everywhere ("okay") is likely after anything, which the second term takes back (Holtzman et al. 2021, domain-conditional
PMI; Li et al. 2016, maximum mutual information).

Two economies make it fast enough for a processor: what prompts share is computed once, and the softmax runs over the
tokens of the shop's own texts instead of a vocabulary of 262,144 (a shortlist: Jean et al. 2015). The second changes
the values, equally for all replies: the model is told that what comes is written in the shop's tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthrec import models

SPEAKERS = ("顾客：", "客服：")  # who opens, who answers
END = "\n"
BATCH = 5  # replies at once, of like length: a long one would pad all others


@dataclass(frozen=True)
class Read:
    """A reply's log-probability, in nats, and how many of its tokens were read, its end among them."""

    total: float
    tokens: int


@dataclass
class Likelihood:
    """A model and what stands before every dialogue.

    Attributes:
        opening: dialogues of the kind that is to come, one turn a line: examples, from which the model learns the
            manner without training. It ends with an empty line.
        shortlist: ids of the tokens among which the softmax runs, sorted.
        longest: tokens of a reply that are read: its beginning says what it is about.
    """

    model: Any
    tokenizer: Any
    opening: str
    shortlist: Tensor
    longest: int = 24
    _caches: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str, texts: Sequence[str], opening: str = "") -> Likelihood:
        """From 'embedded', a folder or a hub name.

        Args:
            texts: whatever may be scored; their tokens are the shortlist.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        where = str(models.convert(models.cache_dir() / "gemma-3-270m")) if name == "embedded" else name
        tokenizer = AutoTokenizer.from_pretrained(where)
        model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32).eval()
        return cls(model, tokenizer, opening, shortlist(tokenizer, texts))

    def __call__(self, turns: Sequence[str], replies: Sequence[str], weight: float = 1.0) -> NDArray[np.float32]:
        """Fit of each reply to the dialogue, shape (len(replies),), in nats a token: replies differ in length."""
        given, alone = self.read(turns, replies), self.read([], replies)
        return np.array(
            [(a.total - weight * b.total) / a.tokens for a, b in zip(given, alone, strict=True)], np.float32
        )

    def read(self, turns: Sequence[str], replies: Sequence[str]) -> list[Read]:
        """Each reply after the dialogue, or after the opening alone where there are no turns.

        Args:
            turns: oldest first, the last one the shopper's; shopper and agent take turns.
        """
        tails = [self._tokens(reply + END)[: self.longest] for reply in replies]
        order = sorted(range(len(tails)), key=lambda i: len(tails[i]))
        found: dict[int, Read] = {}
        with torch.inference_mode():
            cache, last = self._after(shown(turns) + SPEAKERS[1])
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                found |= zip(rows, self._batch(copy.deepcopy(cache), last, [tails[i] for i in rows]), strict=True)
        return [found[i] for i in range(len(tails))]

    def _batch(self, cache: Any, last: Tensor, tails: list[list[int]]) -> list[Read]:
        """Replies of like length after one prompt, whose keys, values and last hidden state are given."""
        cache.batch_repeat_interleave(len(tails))
        width = max(map(len, tails))
        # Padding stands right of a row's own tokens, which never look there.
        rows = torch.tensor([tail + [0] * (width - len(tail)) for tail in tails], device=self.model.device)
        first = last.expand(len(tails), 1, -1)
        rest = [self.model.base_model(rows[:, :-1], past_key_values=cache).last_hidden_state] if width > 1 else []
        scores = self._scores(torch.cat([first, *rest], 1), rows)
        return [Read(float(line[: len(t)].sum()), len(t)) for line, t in zip(scores, tails, strict=True)]

    def _after(self, prompt: str) -> tuple[Any, Tensor]:
        """Keys and values of opening and prompt, and the last hidden state, shape (1, 1, width)."""
        cache = copy.deepcopy(self._opened())
        ids = torch.tensor([self._tokens(prompt)], device=self.model.device)
        hidden = self.model.base_model(ids, past_key_values=cache).last_hidden_state
        return cache, hidden[:, -1:]

    def _opened(self) -> Any:
        """Keys and values of the opening, read once."""
        if self.opening not in self._caches:
            from transformers import DynamicCache

            cache = DynamicCache(config=self.model.config)
            ids = torch.tensor([self.tokenizer(self.opening).input_ids], dtype=torch.long, device=self.model.device)
            if ids.numel():  # no opening, and no token that stands before every text
                self.model.base_model(ids, past_key_values=cache)
            self._caches = {**self._caches, self.opening: cache}
        return self._caches[self.opening]

    def _scores(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Log-probability of each token of `rows` within the shortlist, shape as rows."""
        logits = hidden @ self.model.get_output_embeddings().weight[self.shortlist].T
        places = torch.searchsorted(self.shortlist, rows).clamp(max=len(self.shortlist) - 1)
        return logits.float().log_softmax(-1).gather(-1, places.unsqueeze(-1)).squeeze(-1)

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)


def shown(turns: Sequence[str]) -> str:
    """A dialogue whose last turn is the shopper's, one turn a line."""
    speakers = [SPEAKERS[(len(turns) - 1 - place) % 2] for place in range(len(turns))]
    return "".join(f"{who}{turn}{END}" for who, turn in zip(speakers, turns, strict=True))


def shortlist(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Ids of all tokens of the texts and of a turn's end, sorted."""
    ids = {one for text in texts for one in tokenizer(text + END, add_special_tokens=False).input_ids}
    return torch.tensor(sorted(ids))
