"""Any causal model of transformers, from a hub or a folder.

Prompts of one batch are sorted by length and share their longest common prefix, whose keys and values are computed
once and reused by every batch. Rows leave the batch when they finish.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from synthrec import models
from synthrec.config import Engine as EngineSettings
from synthrec.engines.base import Answer, Sampling
from synthrec.errors import UserError

BATCH = 32


class Transformers:
    def __init__(self, settings: EngineSettings) -> None:
        if settings.model == "embedded":
            raise UserError(
                "engine transformers has no embedded model (the packaged one is a GGUF file, for llamacpp)",
                "set synthesize.engine.model to a hub name or a folder, or kind: llamacpp",
            )
        where = models.check_local(settings.model, "a causal language model")
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self._context = settings.context
        self._device = "cuda" if settings.resources.gpus and torch.cuda.is_available() else "cpu"
        if self._device == "cpu":
            torch.set_num_threads(settings.resources.threads or os.cpu_count() or 1)
        dtype = models.fast_dtype(self._device) if settings.dtype == "auto" else settings.dtype
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(where)
            model = AutoModelForCausalLM.from_pretrained(where, dtype=getattr(torch, dtype))
        except (OSError, ValueError) as error:  # not there, or there and no model
            raise UserError(f"cannot load {settings.model}: {str(error).splitlines()[0]}", "check the name") from None
        self._model = model.eval().to(self._device)
        self._window = getattr(model.config.get_text_config(), "sliding_window", None) or math.inf
        self._prefix: tuple[list[int], Any] | None = None  # the last prefix's tokens and their keys and values

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        def write(ids: list[list[int]], prefix: int, rows: list[int]) -> list[Answer]:
            return self._write(ids, prefix, sampling, [seeds[r] for r in rows])

        return self._each(prompts, write, sampling.max_tokens)

    def choose(self, prompts: Sequence[str], choices: Sequence[str]) -> list[Answer]:
        wanted = [self._token(choice) for choice in choices]

        def score(ids: list[list[int]], prefix: int, rows: list[int]) -> list[Answer]:
            logits, _, _ = self._forward(ids, prefix)
            picked = logits[:, wanted].float().log_softmax(-1).tolist()
            return [Answer(logprobs=tuple(p), prompt_tokens=len(i)) for p, i in zip(picked, ids, strict=True)]

        return self._each(prompts, score, 0)

    def close(self) -> None:
        self._prefix = None

    def _token(self, choice: str) -> int:
        """The one token that `choice` is when it follows text."""
        base = self._tokenizer("Answer:", add_special_tokens=False).input_ids
        ids = self._tokenizer("Answer:" + choice, add_special_tokens=False).input_ids
        if len(ids) != len(base) + 1 or ids[: len(base)] != base:
            raise UserError(
                f"choice {choice!r} is not one token of this model, and choose needs one",
                "pick a shorter word for the label in the task's prompts",
            )
        return int(ids[-1])

    def _each(self, prompts: Sequence[str], work: Any, room: int) -> list[Answer]:
        ids = self._tokenizer(list(prompts)).input_ids if prompts else []
        answers = [Answer(error=f"the prompt has {len(i)} tokens, the context holds {self._context}") for i in ids]
        fit = [row for row in sorted(range(len(ids)), key=lambda r: len(ids[r])) if 0 < len(ids[row]) < self._context]
        # Padding stands between a shared prefix and a row's own tokens, where it would use up a sliding window.
        slides = bool(fit) and len(ids[fit[-1]]) + room > self._window
        prefix = 0 if slides else _common_prefix([ids[r] for r in fit])
        for start in range(0, len(fit), BATCH):
            rows = fit[start : start + BATCH]
            with self._torch.inference_mode():
                for row, answer in zip(rows, work([ids[r] for r in rows], prefix, rows), strict=True):
                    answers[row] = answer
        return answers

    def _forward(self, ids: list[list[int]], prefix: int) -> tuple[Any, Any, Any]:
        """Logits after each row's last token, the keys and values, and the attention mask. Rows are padded left."""
        torch = self._torch
        cache = self._prefix_cache(ids[0][:prefix], len(ids))
        tails = [row[prefix:] for row in ids]
        width = max(map(len, tails))
        pad = self._tokenizer.pad_token_id or 0
        tokens = torch.tensor([[pad] * (width - len(t)) + t for t in tails], device=self._device)
        mask = torch.tensor([[1] * prefix + [0] * (width - len(t)) + [1] * len(t) for t in tails], device=self._device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, prefix:]
        out = self._model(
            tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return out.logits[:, -1], out.past_key_values, mask

    def _prefix_cache(self, prefix: list[int], rows: int) -> Any:
        import copy

        from transformers import DynamicCache

        if not prefix:
            return DynamicCache(config=self._model.config)
        if self._prefix is None or self._prefix[0] != prefix:
            tokens = self._torch.tensor([prefix], device=self._device)
            cache = DynamicCache(config=self._model.config)
            self._model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self._prefix = (prefix, cache)
        cache = copy.deepcopy(self._prefix[1])
        cache.batch_repeat_interleave(rows)
        return cache

    def _write(self, ids: list[list[int]], prefix: int, sampling: Sampling, seeds: list[int]) -> list[Answer]:
        torch = self._torch
        logits, cache, mask = self._forward(ids, prefix)
        dice = [torch.Generator(device=self._device).manual_seed(seed) for seed in seeds]
        written: list[list[int]] = [[] for _ in ids]
        texts: list[str] = [""] * len(ids)
        alive = list(range(len(ids)))
        ends = set(_listed(self._model.generation_config.eos_token_id))
        for step in range(sampling.max_tokens):
            picks = _sample(torch, logits, sampling, [dice[r] for r in alive])
            keep = []
            for place, (row, token) in enumerate(zip(alive, picks, strict=True)):
                if token in ends:
                    continue
                written[row].append(token)
                text = str(self._tokenizer.decode(written[row], skip_special_tokens=True))
                at = min((p for s in sampling.stop if (p := text.find(s)) >= 0), default=-1)
                texts[row] = text[:at] if at >= 0 else text
                if at < 0:
                    keep.append(place)
            if not keep or step == sampling.max_tokens - 1:
                break
            if len(keep) < len(alive):
                index = torch.tensor(keep, device=self._device)
                cache.batch_select_indices(index)
                mask = mask[index]
                alive = [alive[place] for place in keep]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            last = torch.tensor([[written[row][-1]] for row in alive], device=self._device)
            positions = mask.sum(-1, keepdim=True) - 1
            out = self._model(last, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
            logits, cache = out.logits[:, -1], out.past_key_values
        return [
            Answer(text=text, prompt_tokens=len(i), completion_tokens=len(w))
            for text, i, w in zip(texts, ids, written, strict=True)
        ]


def _common_prefix(rows: list[list[int]]) -> int:
    """Tokens that all rows start with, leaving each at least one of its own."""
    if not rows:
        return 0
    low, high = min(rows), max(rows)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return min(same, min(map(len, rows)) - 1)


def _sample(torch: Any, logits: Any, sampling: Sampling, dice: list[Any]) -> list[int]:
    if sampling.temperature == 0:
        return [int(t) for t in logits.argmax(-1)]
    probs = (logits.float() / sampling.temperature).softmax(-1)
    ranked, order = probs.sort(-1, descending=True)
    ranked[ranked.cumsum(-1) - ranked > sampling.top_p] = 0  # nucleus: the fewest tokens that hold top_p
    picks = [torch.multinomial(row, 1, generator=die) for row, die in zip(ranked, dice, strict=True)]
    return [int(o[p]) for o, p in zip(order, picks, strict=True)]


def _listed(value: Any) -> list[int]:
    return [] if value is None else value if isinstance(value, list) else [value]
