"""Any encoder-decoder model of transformers (T5, BART and their kin): the prompt is encoded once, the answer decoded.

Rows are sorted by length; a row leaves the batch when it finishes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from synthrec.config import Engine as EngineSettings
from synthrec.engines.base import Answer, Sampling, no_choice, normalised
from synthrec.engines.hub import BATCH, cut, listed, open_model, sample
from synthrec.errors import UserError


class Seq2Seq:
    def __init__(self, settings: EngineSettings) -> None:
        from transformers import AutoModelForSeq2SeqLM

        self._torch, self._device, self._tokenizer, self._model = open_model(settings, AutoModelForSeq2SeqLM)
        self._context = settings.context
        self._start = _start(self._model.generation_config, settings.model)
        self._lock = threading.Lock()  # one batch at a time fills the cores

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        return self._each(prompts, lambda ids, rows: self._write(ids, sampling, [seeds[row] for row in rows]))

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Answer]:
        def score(ids: list[list[int]], rows: list[int]) -> list[Answer]:
            state, mask = self._encoded(ids)
            found = []
            for place, (own, row) in enumerate(zip(ids, rows, strict=True)):
                # An answer begins with a choice: there is nothing for it to be spaced from.
                tails = [self._tokenizer(w.strip(" "), add_special_tokens=False).input_ids for w in choices[row]]
                if tails and all(tails):
                    sums = self._scores(state, mask, place, tails)
                    found.append(Answer(logprobs=normalised(sums), prompt_tokens=len(own)))
                else:
                    found.append(Answer(error=no_choice(choices[row])))
            return found

        return self._each(prompts, score)

    def close(self) -> None:
        pass

    def _each(self, prompts: Sequence[str], work: Callable[[list[list[int]], list[int]], list[Answer]]) -> list[Answer]:
        ids = list(self._tokenizer(list(prompts)).input_ids) if prompts else []
        answers = [Answer(error=f"the prompt has {len(i)} tokens, the context holds {self._context}") for i in ids]
        fit = [row for row in sorted(range(len(ids)), key=lambda r: len(ids[r])) if 0 < len(ids[row]) < self._context]
        with self._lock, self._torch.inference_mode():
            for start in range(0, len(fit), BATCH):
                rows = fit[start : start + BATCH]
                for row, answer in zip(rows, work([ids[r] for r in rows], rows), strict=True):
                    answers[row] = answer
        return answers

    def _encoded(self, ids: list[list[int]]) -> tuple[Any, Any]:
        """Encoder states of rows padded right, and their mask."""
        width = max(map(len, ids))
        pad = self._tokenizer.pad_token_id or 0
        tokens = self._torch.tensor([row + [pad] * (width - len(row)) for row in ids], device=self._device)
        mask = self._torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=self._device)
        return self._model.get_encoder()(input_ids=tokens, attention_mask=mask).last_hidden_state, mask

    def _scores(self, state: Any, mask: Any, place: int, tails: list[list[int]]) -> list[float]:
        """Sums of the log-probabilities of each choice's tokens, decoded after one row's prompt."""
        torch = self._torch
        width = max(map(len, tails))
        inputs = torch.tensor([[*self._start, *t[:-1], *[0] * (width - len(t))] for t in tails], device=self._device)
        out = self._model(
            encoder_outputs=(state[place : place + 1].expand(len(tails), -1, -1),),
            attention_mask=mask[place : place + 1].expand(len(tails), -1),
            decoder_input_ids=inputs,
        )
        scores = out.logits[:, len(self._start) - 1 :].float().log_softmax(-1)
        return [float(line[range(len(t)), t].sum()) for line, t in zip(scores, tails, strict=True)]

    def _write(self, ids: list[list[int]], sampling: Sampling, seeds: list[int]) -> list[Answer]:
        torch = self._torch
        state, mask = self._encoded(ids)
        dice = [torch.Generator(device=self._device).manual_seed(seed) for seed in seeds]
        written: list[list[int]] = [[] for _ in ids]
        texts = [""] * len(ids)
        alive = list(range(len(ids)))
        ends = set(listed(self._model.generation_config.eos_token_id))
        last = torch.tensor([self._start] * len(ids), device=self._device)
        cache = None
        for _ in range(sampling.max_tokens):
            out = self._model(
                encoder_outputs=(state,),
                attention_mask=mask,
                decoder_input_ids=last,
                past_key_values=cache,
                use_cache=True,
            )
            cache = out.past_key_values
            picks = sample(torch, out.logits[:, -1], sampling, [dice[row] for row in alive])
            keep = []
            for place, (row, token) in enumerate(zip(alive, picks, strict=True)):
                if token in ends:
                    continue
                written[row].append(token)
                texts[row], stopped = cut(
                    str(self._tokenizer.decode(written[row], skip_special_tokens=True)), sampling.stop
                )
                if not stopped:
                    keep.append(place)
            if not keep:
                break
            if len(keep) < len(alive):
                index = torch.tensor(keep, device=self._device)
                cache.batch_select_indices(index)
                state, mask = state[index], mask[index]
                alive = [alive[place] for place in keep]
            last = torch.tensor([[written[row][-1]] for row in alive], device=self._device)
        return [
            Answer(text=text, prompt_tokens=len(own), completion_tokens=len(some))
            for text, own, some in zip(texts, ids, written, strict=True)
        ]


def _start(given: Any, model: str) -> list[int]:
    """The tokens that an answer stands after: the decoder's first, and the one that BART and its kin always write."""
    first = given.decoder_start_token_id if given.decoder_start_token_id is not None else given.bos_token_id
    if first is None:
        raise UserError(f"{model} does not say how its answers begin", "set decoder_start_token_id in its config.json")
    return [*listed(first), *listed(given.forced_bos_token_id)]
