"""llama.cpp in this process: any GGUF model, continuous batching over slots, shared prefixes computed once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

import httpx

from synthrec import models
from synthrec.config import Engine as EngineSettings
from synthrec.engines.base import Answer, Sampling, no_choice, normalised
from synthrec.errors import UserError
from synthrec.schema import row_id

# Added to the logits of the choices, so that they come first whatever else the model would rather say. Equal for all
# of them, it leaves their ratios as they were.
LIFT = 50.0
MOST_SUMS = 100_000


class LlamaCpp:
    def __init__(self, settings: EngineSettings) -> None:
        if not models.installed("xllamacpp"):
            raise UserError("engine llamacpp is not installed", "pip install 'synthrec[llamacpp]'")
        import xllamacpp

        resources = settings.resources
        threads = resources.threads or os.cpu_count() or 1
        params = xllamacpp.CommonParams()
        params.model.path = models.gguf(settings.model)
        params.n_parallel = resources.slots
        params.n_ctx = resources.slots * settings.context
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        # Between two batches threads sleep: spinning, they would take the cores that Ray's own tasks need.
        params.cpuparams.poll = params.cpuparams_batch.poll = 0
        params.n_gpu_layers = -1 if resources.gpus else 0
        params.swa_full = True  # without it a sliding-window model (Gemma) cannot reuse a prefix
        params.warmup = False
        params.verbosity = -1
        self._chat = settings.chat
        self._server = xllamacpp.Server(params)
        # Twice the slots: the next prompt waits ready while each slot works.
        self._pool = ThreadPoolExecutor(2 * resources.slots, thread_name_prefix="llamacpp")
        self._busy = BoundedSemaphore(resources.slots)  # a slot for each prompt whose choices are forced
        self._tails: dict[str, list[int]] = {}  # choice -> its tokens
        self._sums: dict[str, float] = {}  # hash of prompt and choice -> score; empty prompts come again and again

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        common: dict[str, Any] = {
            "n_predict": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop),
        }
        if sampling.schema is not None:  # it says where the answer ends, which may be some lines on
            common |= {"json_schema": json.loads(sampling.schema), "stop": []}

        def write(prompt: str, seed: int) -> Answer:
            return self._safe(lambda: _answer(reply := self._ask(prompt, common | {"seed": seed}), text=_text(reply)))

        return list(self._pool.map(write, prompts, seeds))

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Answer]:
        def score(prompt: str, words: Sequence[str]) -> Answer:
            words = [word.lstrip(" ") for word in words] if self._chat else words
            if not words or not all(words):
                return Answer(error=no_choice(words))
            how = self._next_token if all(len(self._tail(word)) == 1 for word in words) else self._forced
            return self._safe(lambda: how(prompt, words))

        return list(self._pool.map(score, prompts, choices))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _next_token(self, prompt: str, words: Sequence[str]) -> Answer:
        """All choices from one pass: the distribution of the next token, restricted to them."""
        tokens = [self._tail(word)[0] for word in words]
        body = {
            "n_predict": 1,
            "n_probs": len(words),
            "post_sampling_probs": True,
            "samplers": ["temperature"],
            "temperature": 1.0,
            "logit_bias": [[token, LIFT] for token in tokens],
        }
        reply = self._ask(prompt, body)
        top = reply["choices"][0]["logprobs"]["content"][0]["top_probs"]
        found = {one["id"]: one["prob"] for one in top}
        weights = [found.get(token, 0.0) for token in tokens]
        total = sum(weights)
        if total < 0.5:  # the lifted tokens hold nearly all of the mass, or the tokens are not what we think
            return Answer(error=f"the model did not score {list(words)}: {top}"[:500])
        return _answer(reply, logprobs=tuple(math.log(max(w / total, 1e-12)) for w in weights))

    def _forced(self, prompt: str, words: Sequence[str]) -> Answer:
        """Choices of several tokens, one after the other, so that the slot that holds the prompt serves them all."""
        if len(self._sums) > MOST_SUMS:
            self._sums = {}  # a thread that is reading the old one keeps it
        read = written = 0
        sums: list[float] = []
        known = self._sums
        with self._busy:
            for word in words:
                key = row_id(prompt, word)
                if key not in known:
                    reply = self._write(prompt, word)
                    read, written = reply["usage"]["prompt_tokens"], written + reply["usage"]["completion_tokens"]
                    known[key] = sum(one["logprob"] for one in _logprobs(reply)[: len(self._tail(word))])
                sums.append(known[key])
        return Answer(logprobs=normalised(sums), prompt_tokens=read, completion_tokens=written)

    def _write(self, prompt: str, word: str) -> Any:
        """A choice, written under a grammar that allows nothing else; the server tells what the model thought of it.

        The grammar is of tokens: one of text would let the model spell it in other pieces, which it never saw.
        """
        tail = self._tail(word)
        grammar = "root ::= " + " ".join(f"<[{token}]>" for token in tail)
        reply = self._ask(prompt, {"n_predict": len(tail), "temperature": 0, "n_probs": 1, "grammar": grammar})
        if [one["id"] for one in _logprobs(reply)][: len(tail)] != tail:
            raise RuntimeError(f"the model could not write the choice {word!r} ({_text(reply)!r})")
        return reply

    def _ask(self, prompt: str, body: dict[str, Any]) -> Any:
        """The server's reply, a chat's brought to the form of a completion's. Raises RuntimeError if it refuses."""
        if self._chat:
            turns = [{"role": "user", "content": prompt}]
            chat = {"messages": turns, **body, "cache_prompt": True}
            if "n_probs" in body:
                chat |= {"logprobs": True, "top_logprobs": body["n_probs"]}
            reply = self._server.handle_chat_completions(chat)
        else:
            reply = self._server.handle_completions({"prompt": prompt, **body, "cache_prompt": True})
        if "choices" not in reply:
            raise RuntimeError(str(reply.get("error", reply)))
        return reply

    def _safe(self, work: Callable[[], Answer]) -> Answer:
        try:
            return work()
        except Exception as error:  # one prompt's fault must not cost the batch; it is kept with its row
            return Answer(error=f"{type(error).__name__}: {error}"[:500])

    def _tail(self, choice: str) -> list[int]:
        """The tokens of a choice where it follows text."""
        if choice not in self._tails:
            before = "\n" if self._chat else "Answer:"
            base, both = self._tokens(before), self._tokens(before + choice)
            # Where it melts into the text before it, it is taken alone.
            self._tails[choice] = both[len(base) :] if both[: len(base)] == base else self._tokens(choice)
        return self._tails[choice]

    def _tokens(self, text: str) -> list[int]:
        """Asked of the server's own address on this machine: the package has no call for it."""
        ask = {"content": text, "add_special": False, "parse_special": False}
        reply = httpx.post(f"{self._server.listening_address}/tokenize", json=ask, timeout=60, trust_env=False)
        return list(reply.raise_for_status().json()["tokens"])


def _logprobs(reply: Any) -> list[Any]:
    """Of each token that was written."""
    return list(reply["choices"][0]["logprobs"]["content"])


def _text(reply: Any) -> str:
    choice = reply["choices"][0]
    return str(choice["message"]["content"] or "" if "message" in choice else choice["text"])


def _answer(reply: Any, **what: Any) -> Answer:
    usage = reply["usage"]
    return Answer(**what, prompt_tokens=usage["prompt_tokens"], completion_tokens=usage["completion_tokens"])
