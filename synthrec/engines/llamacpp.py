"""llama.cpp in this process: any GGUF model, continuous batching over slots, shared prefixes computed once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

from synthrec import models
from synthrec.config import Engine as EngineSettings
from synthrec.engines.base import Answer, Sampling, no_choice, normalised
from synthrec.errors import UserError
from synthrec.schema import row_id

# Added to the logits of the choices, so that they come first whatever else the model would rather say. Equal for all
# of them, it leaves their ratios as they were.
LIFT = 50.0
LONGEST_CHOICE = 256  # tokens
MOST_SUMS = 100_000
LONGEST_TOKEN = 32  # characters; what is longer is never one token, and is not counted


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
        self._single: dict[str, bool] = {}  # choice -> is it one token?
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
            how = self._next_token if all(map(self._is_single, words)) else self._forced
            return self._safe(lambda: how(prompt, words))

        for word in {word for words in choices for word in words}:
            self._is_single(word)  # each counted once, before threads race for it
        return list(self._pool.map(score, prompts, choices))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _next_token(self, prompt: str, words: Sequence[str]) -> Answer:
        """All choices from one pass: the distribution of the next token, restricted to them."""
        body = {
            "n_predict": 1,
            "n_probs": len(words),
            "post_sampling_probs": True,
            "samplers": ["temperature"],
            "temperature": 1.0,
            "logit_bias": [[word, LIFT] for word in words],
        }
        reply = self._ask(prompt, body)
        top = reply["choices"][0]["logprobs"]["content"][0]["top_probs"]
        found = {one["token"]: one["prob"] for one in top}
        weights = [found.get(word, 0.0) for word in words]
        total = sum(weights)
        if total < 0.5:  # the lifted tokens hold nearly all of the mass, or the tokens are not what we think
            return Answer(error=f"the model did not score {list(words)}: {top}"[:500])
        return _answer(reply, logprobs=tuple(math.log(max(w / total, 1e-12)) for w in weights))

    def _forced(self, prompt: str, words: Sequence[str]) -> Answer:
        """Choices of several tokens, one after the other, so that the slot that holds the prompt serves them all."""
        read = written = 0
        sums: list[float] = []
        with self._busy:
            for word in words:
                key = row_id(prompt, word)
                if key not in self._sums:
                    reply = self._write(prompt, word)
                    read, written = reply["usage"]["prompt_tokens"], written + reply["usage"]["completion_tokens"]
                    tokens = reply["choices"][0]["logprobs"]["content"]
                    # Without the end that follows it, which has no bytes.
                    self._sums[key] = sum(one["logprob"] for one in tokens if one["bytes"])
                sums.append(self._sums[key])
        if len(self._sums) > MOST_SUMS:
            self._sums.clear()
        return Answer(logprobs=normalised(sums), prompt_tokens=read, completion_tokens=written)

    def _write(self, prompt: str, word: str) -> Any:
        """A choice, written under a grammar that allows nothing else; the server tells what the model thought of it."""
        body = {"n_predict": LONGEST_CHOICE, "temperature": 0, "n_probs": 1, "grammar": _grammar(word)}
        reply = self._ask(prompt, body)
        if _text(reply) != word:
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

    def _is_single(self, choice: str) -> bool:
        """Whether a choice is one token after text; counted by the model itself."""
        if len(choice) > LONGEST_TOKEN:
            return False
        if choice not in self._single:
            self._single[choice] = self._tokens("Answer:" + choice) - self._tokens("Answer:") == 1
        return self._single[choice]

    def _tokens(self, text: str) -> int:
        reply = self._server.handle_completions({"prompt": text, "n_predict": 1, "temperature": 0})
        return int(reply["usage"]["prompt_tokens"])


def _text(reply: Any) -> str:
    choice = reply["choices"][0]
    return str(choice["message"]["content"] or "" if "message" in choice else choice["text"])


def _answer(reply: Any, **what: Any) -> Answer:
    usage = reply["usage"]
    return Answer(**what, prompt_tokens=usage["prompt_tokens"], completion_tokens=usage["completion_tokens"])


def _grammar(text: str) -> str:
    """A grammar (GBNF) of just this text."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'root ::= "{quoted}"'
