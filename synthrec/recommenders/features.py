"""What classifiers read: a frozen language model's hidden states, and hashed character n-grams.

A small causal model that answers badly may still know the answer: a probe of its inner layers reads more out of it than
its own next token says (Alain and Bengio 2016, Understanding Intermediate Layers Using Linear Classifier Probes). One
forward pass gives both, the scores of the label's words and the states.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from synthrec import models
from synthrec.errors import UserError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """Of n prompts: `states` (n, width) and `logits` (n, choices) of what comes next, both float32."""

    states: Floats
    logits: Floats


@dataclass(frozen=True)
class Features:
    """Of n texts: `states` (n, width), `ngrams` (n, buckets), or one of the two."""

    states: Floats | None = None
    ngrams: csr_matrix | None = None

    def __len__(self) -> int:
        one = self.states if self.states is not None else self.ngrams
        return 0 if one is None else int(one.shape[0])

    def take(self, rows: Any) -> Features:
        return Features(*(None if one is None else one[rows] for one in (self.states, self.ngrams)))

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """What a classifier reads of these rows: their states, and of each the numbers of its n-grams' buckets."""
        made: dict[str, Any] = {} if self.states is None else {"states": self.states[list(rows)]}
        if self.ngrams is not None:
            begin, ids = self.ngrams.indptr, self.ngrams.indices
            made["ngrams"] = [ids[begin[row] : begin[row + 1]] for row in rows]
        return made


class HiddenStates:
    """A causal model that is read, not trained.

    A prompt's features are the states of some `layers` at its last token, and the mean of layer `mean` over the tokens
    that it does not share with the others. Layer 0 is the embedding.
    """

    def __init__(self, model: Any, tokenizer: Any, layers: Sequence[int], mean: int, batch_size: int = 32) -> None:
        depth = model.config.get_text_config().num_hidden_layers
        if wrong := [one for one in (*layers, mean) if not 0 <= one <= depth]:
            raise UserError(f"the model has no layer {wrong[0]}", f"its layers are 0 (the embedding) to {depth}")
        self._model, self._tokenizer = model.eval(), tokenizer
        self._layers, self._mean, self._batch = tuple(layers), mean, batch_size
        self._window = getattr(model.config.get_text_config(), "sliding_window", None) or math.inf

    @classmethod
    def load(cls, name: str, layers: Sequence[int], mean: int, batch_size: int = 32) -> HiddenStates:
        """From a folder or a hub name, in the fastest type that the processor computes in."""
        where = models.check_local(name, "a language model")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = getattr(torch, models.fast_dtype(device))
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(where, dtype=dtype)
            tokenizer = AutoTokenizer.from_pretrained(where)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot load {name}: {str(error).splitlines()[0]}", "check the name") from None
        return cls(model.to(device), tokenizer, layers, mean, batch_size)

    @property
    def width(self) -> int:
        return (len(self._layers) + 1) * int(self._model.config.get_text_config().hidden_size)

    def read(
        self, prompts: Sequence[str], choices: Sequence[str] = (), tick: Callable[[int], object] = lambda done: None
    ) -> Reading:
        """States, and the logits of `choices`, each of which must be one token.

        What all prompts begin with is computed once. Prompts of like length go together, to pad less.
        """
        words = [self._word(one) for one in choices]
        ids = [list(row) for row in self._tokenizer(list(prompts)).input_ids] if prompts else []
        out = Reading(np.zeros((len(ids), self.width), np.float32), np.zeros((len(ids), len(words)), np.float32))
        if not ids:
            return out
        # Padding stands between the prefix and a row's own tokens, where it would use up a sliding window.
        prefix = 0 if max(map(len, ids)) > self._window else shared(ids)
        with torch.inference_mode():
            begun = self._begin(ids[0][:prefix])
            for rows in self._batches(ids):
                states, logits = self._forward([ids[row][prefix:] for row in rows], prefix, begun)
                out.states[rows] = states.float().cpu().numpy()
                out.logits[rows] = logits[:, words].float().cpu().numpy()
                tick(len(rows))
        return out

    def _word(self, choice: str) -> int:
        ids = self._tokenizer(choice, add_special_tokens=False).input_ids
        if len(ids) != 1:
            raise UserError(f"'{choice}' is {len(ids)} tokens", "choose among words that are one token each")
        return int(ids[0])

    def _batches(self, ids: list[list[int]]) -> Iterator[list[int]]:
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        for start in range(0, len(order), self._batch):
            yield order[start : start + self._batch]

    def _begin(self, prefix: list[int]) -> DynamicCache:
        cache = DynamicCache(config=self._model.config)
        if prefix:
            tokens = torch.tensor([prefix], device=self._model.device)
            self._model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

    def _forward(self, tails: list[list[int]], prefix: int, begun: DynamicCache) -> tuple[Tensor, Tensor]:
        """Features (rows, width) and next-token logits (rows, vocabulary). Rows are padded left."""
        cache = copy.deepcopy(begun)
        if prefix:
            cache.batch_repeat_interleave(len(tails))
        width, pad, device = max(map(len, tails)), self._tokenizer.pad_token_id or 0, self._model.device
        tokens = torch.tensor([[pad] * (width - len(t)) + t for t in tails], device=device)
        own = torch.tensor([[0] * (width - len(t)) + [1] * len(t) for t in tails], device=device)
        mask = torch.cat([own.new_ones(len(tails), prefix), own], dim=1)
        out = self._model(
            tokens,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, prefix:],
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=True,
            logits_to_keep=1,
        )
        last = [out.hidden_states[layer][:, -1] for layer in self._layers]
        weight = (own / own.sum(1, keepdim=True)).unsqueeze(-1)
        return torch.cat([*last, (out.hidden_states[self._mean].float() * weight).sum(1)], dim=1), out.logits[:, -1]


def shared(ids: Sequence[list[int]]) -> int:
    """How many tokens all rows begin with, leaving each at least one of its own."""
    low, high = min(ids), max(ids)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return max(0, min(same, min(map(len, ids)) - 1))


def ngrams(texts: Sequence[str], longest: int = 3, buckets: int = 2**18) -> csr_matrix:
    """Hashed character n-grams of 1 to `longest`, (n, buckets), each row of length 1 (Weinberger et al. 2009, Feature
    Hashing). They need no vocabulary and no word boundaries, so Chinese is read as it is. An n-gram counts once."""
    if not texts:
        return csr_matrix((0, buckets), dtype=np.float32)
    hashed = HashingVectorizer(
        analyzer="char",
        ngram_range=(1, longest),
        n_features=buckets,
        binary=True,
        alternate_sign=False,
        dtype=np.float32,
    )
    return csr_matrix(hashed.transform(list(texts)))
