"""Any causal model of transformers, from a hub or a folder (for an encoder-decoder, `engines/seq2seq.py`).

Prompts of one batch are sorted by length and share their longest common prefix, whose keys and values are computed
once and reused by every batch. Rows leave the batch when they finish.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

from synthrec.config import Engine as EngineSettings
from synthrec.engines.base import Answer, Sampling, no_choice, normalised
from synthrec.engines.hub import BATCH, chat_ids, cut, listed, open_model, sample

LEAD = 8  # tokens by which rows are told to begin alike
LEAST_ALIKE = 8  # rows that are worth a prefix of their own
PREFIXES = 4  # kept

# Rows of tokens, how many of them all rows begin with, which rows they are -> their answers.
Work = Callable[[list[list[int]], int, list[int]], list[Answer]]


class Transformers:
    def __init__(self, settings: EngineSettings) -> None:
        from transformers import AutoModelForCausalLM

        self._torch, self._device, self._tokenizer, model = open_model(settings, AutoModelForCausalLM)
        self._context, self._chat = settings.context, settings.chat
        self._model = model
        self._lock = threading.Lock()  # one batch at a time fills the cores
        self._window = getattr(model.config.get_text_config(), "sliding_window", None) or math.inf
        self._prefixes: dict[tuple[int, ...], Any] = {}  # the last prefixes' tokens -> their keys and values

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        def write(ids: list[list[int]], prefix: int, rows: list[int]) -> list[Answer]:
            return self._write(ids, prefix, sampling, [seeds[r] for r in rows])

        with self._lock:
            return self._each(self._ids(prompts), write, sampling.max_tokens)

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Answer]:
        heads = self._ids(prompts)
        tails = [[self._continued(word) for word in words] for words in choices]
        fit = [row for row, some in enumerate(tails) if some and all(some)]
        short = [row for row in fit if all(len(tail) == 1 for tail in tails[row])]
        long = sorted({*fit} - {*short})
        answers = [Answer(error=no_choice(words)) for words in choices]
        with self._lock:
            for rows, how in ((short, self._next_token), (long, self._whole)):
                got = how([heads[r] for r in rows], [tails[r] for r in rows]) if rows else []
                for row, answer in zip(rows, got, strict=True):
                    answers[row] = answer
        return answers

    def close(self) -> None:
        self._prefixes.clear()

    def _ids(self, prompts: Sequence[str]) -> list[list[int]]:
        if not prompts:
            return []
        if self._chat:
            return [chat_ids(self._tokenizer, prompt) for prompt in prompts]
        return list(self._tokenizer(list(prompts)).input_ids)

    def _continued(self, choice: str) -> list[int]:
        """The tokens of `choice` where it follows text."""
        if self._chat:  # after a turn's opening there is nothing to be spaced from
            return list(self._tokenizer(choice.lstrip(" "), add_special_tokens=False).input_ids)
        base = self._tokenizer("Answer:", add_special_tokens=False).input_ids
        ids = self._tokenizer("Answer:" + choice, add_special_tokens=False).input_ids
        if ids[: len(base)] != base:  # it melts into the text before it; taken alone it does not
            ids = base + self._tokenizer(choice, add_special_tokens=False).input_ids
        return list(ids[len(base) :])

    def _next_token(self, heads: list[list[int]], tails: list[list[list[int]]]) -> list[Answer]:
        """Rows whose choices are one token each: one pass a row gives all of them."""

        def score(ids: list[list[int]], prefix: int, rows: list[int]) -> list[Answer]:
            logits, _, _ = self._forward(ids, prefix)
            return [
                Answer(
                    logprobs=tuple(line[[tail[0] for tail in tails[row]]].float().log_softmax(-1).tolist()),
                    prompt_tokens=len(own),
                )
                for line, own, row in zip(logits[:, -1], ids, rows, strict=True)
            ]

        return self._each(heads, score, 0)

    def _whole(self, heads: list[list[int]], tails: list[list[list[int]]]) -> list[Answer]:
        """Rows with choices of several tokens: each is read after its prompt, and its tokens' scores are summed."""
        pairs = [(row, tail) for row, some in enumerate(tails) for tail in some]
        longest = max(len(tail) for _, tail in pairs)

        def score(ids: list[list[int]], prefix: int, rows: list[int]) -> list[Answer]:
            # Of a large vocabulary this is most of the work: no more places than these rows need.
            logits, _, _ = self._forward(ids, prefix, keep=max(len(pairs[row][1]) for row in rows) + 1)
            found = []
            for line, row in zip(logits, rows, strict=True):
                tail = pairs[row][1]
                own = line[-len(tail) - 1 : -1].float()
                scores = own[range(len(tail)), tail] - own.logsumexp(-1)
                found.append(Answer(logprobs=(float(scores.sum()),)))
            return found

        # The last `longest` tokens of a row are not taken for a shared prefix: their scores are wanted.
        # An empty prompt stays empty, and is told: the first token after nothing has no score.
        got = iter(self._each([heads[row] and heads[row] + tail for row, tail in pairs], score, 0, spare=longest))
        answers = []
        for head, some in zip(heads, tails, strict=True):
            parts = [next(got) for _ in some]
            wrong = next((one.error for one in parts if one.error), None)
            sums = [one.logprobs[0] for one in parts if one.logprobs]
            answers.append(Answer(error=wrong) if wrong else Answer(logprobs=normalised(sums), prompt_tokens=len(head)))
        return answers

    def _each(self, ids: list[list[int]], work: Work, room: int, spare: int = 0) -> list[Answer]:
        """Answers of rows in batches of those that begin alike, sorted by length; `work(ids, prefix, rows)` is told how
        many tokens all of a batch begin with.

        Args:
            room: tokens that will be written.
            spare: last tokens of each row that must not become part of the shared prefix.
        """
        answers = [Answer(error=f"the prompt has {len(i)} tokens, the context holds {self._context}") for i in ids]
        fit = [row for row in sorted(range(len(ids)), key=lambda r: len(ids[r])) if 0 < len(ids[row]) < self._context]
        for some in _begun_alike(ids, fit):
            # Padding stands between a shared prefix and a row's own tokens, where it would use up a sliding window.
            slides = len(ids[some[-1]]) + room > self._window
            prefix = 0 if slides else _common_prefix([ids[r][: max(1, len(ids[r]) - spare)] for r in some])
            for start in range(0, len(some), BATCH):
                rows = some[start : start + BATCH]
                with self._torch.inference_mode():
                    for row, answer in zip(rows, work([ids[r] for r in rows], prefix, rows), strict=True):
                        answers[row] = answer
        return answers

    def _forward(self, ids: list[list[int]], prefix: int, keep: int = 1) -> tuple[Any, Any, Any]:
        """Logits after each row's last `keep` tokens, the keys and values, and the attention mask.

        Rows are padded left.
        """
        torch = self._torch
        cache = self._prefix_cache(ids[0][:prefix], len(ids))
        tails = [row[prefix:] for row in ids]
        width = max(map(len, tails))
        pad = self._tokenizer.pad_token_id or 0
        tokens = torch.tensor([[pad] * (width - len(t)) + t for t in tails], device=self._device)
        mask = torch.tensor([[1] * prefix + [0] * (width - len(t)) + [1] * len(t) for t in tails], device=self._device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, prefix:]
        out = self._model(
            tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        return out.logits, out.past_key_values, mask

    def _prefix_cache(self, prefix: list[int], rows: int) -> Any:
        import copy

        from transformers import DynamicCache

        if not prefix:
            return DynamicCache(config=self._model.config)
        key = tuple(prefix)
        if key not in self._prefixes:
            tokens = self._torch.tensor([prefix], device=self._device)
            cache = DynamicCache(config=self._model.config)
            self._model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            while len(self._prefixes) >= PREFIXES:
                del self._prefixes[next(iter(self._prefixes))]
            self._prefixes[key] = cache
        cache = copy.deepcopy(self._prefixes[key])
        cache.batch_repeat_interleave(rows)
        return cache

    def _write(self, ids: list[list[int]], prefix: int, sampling: Sampling, seeds: list[int]) -> list[Answer]:
        torch = self._torch
        logits, cache, mask = self._forward(ids, prefix)
        logits = logits[:, -1]
        dice = [torch.Generator(device=self._device).manual_seed(seed) for seed in seeds]
        written: list[list[int]] = [[] for _ in ids]
        texts: list[str] = [""] * len(ids)
        alive = list(range(len(ids)))
        ends = set(listed(self._model.generation_config.eos_token_id))
        for step in range(sampling.max_tokens):
            picks = sample(torch, logits, sampling, [dice[r] for r in alive])
            keep = []
            for place, (row, token) in enumerate(zip(alive, picks, strict=True)):
                if token in ends:
                    continue
                written[row].append(token)
                text = str(self._tokenizer.decode(written[row], skip_special_tokens=True))
                texts[row], stopped = cut(text, sampling.stop)
                if not stopped:
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


def _begun_alike(ids: list[list[int]], rows: list[int]) -> list[list[int]]:
    """Rows by their first tokens: mixed tasks and languages share nothing. What is too little stays together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row in rows:
        groups.setdefault(tuple(ids[row][:LEAD]), []).append(row)
    large = [some for some in groups.values() if len(some) >= LEAST_ALIKE]
    apart = {row for some in large for row in some}
    return [*large, *filter(None, [[row for row in rows if row not in apart]])]


def _common_prefix(rows: list[list[int]]) -> int:
    """Tokens that all rows start with, leaving each at least one of its own."""
    if not rows:
        return 0
    low, high = min(rows), max(rows)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return min(same, min(map(len, rows)) - 1)
