"""llama.cpp in this process: any GGUF model, continuous batching over slots, shared prefixes computed once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from synthrec import models
from synthrec.config import Engine as EngineSettings
from synthrec.engines.base import Answer, Sampling
from synthrec.errors import UserError

# Added to the logits of the choices, so that they come first whatever else the model would rather say. Equal for all
# of them, it leaves their ratios as they were.
LIFT = 50.0


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
        self._server = xllamacpp.Server(params)
        # Twice the slots: the next prompt waits ready while each slot works.
        self._pool = ThreadPoolExecutor(2 * resources.slots, thread_name_prefix="llamacpp")
        self._known: set[tuple[str, ...]] = set()

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        common = {
            "n_predict": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop),
        }
        asks = [{"prompt": p, "seed": s, **common} for p, s in zip(prompts, seeds, strict=True)]
        return self._all(asks, lambda choice: {"text": choice["text"]})

    def choose(self, prompts: Sequence[str], choices: Sequence[str]) -> list[Answer]:
        self._check(tuple(choices))
        common = {
            "n_predict": 1,
            "n_probs": len(choices),
            "post_sampling_probs": True,
            "samplers": ["temperature"],
            "temperature": 1.0,
            "logit_bias": [[choice, LIFT] for choice in choices],
        }
        return self._all([{"prompt": p, **common} for p in prompts], lambda choice: _choice_logprobs(choice, choices))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _all(self, asks: list[dict[str, Any]], read: Callable[[Any], dict[str, Any]]) -> list[Answer]:
        return list(self._pool.map(lambda ask: self._one(ask, read), asks))

    def _one(self, ask: dict[str, Any], read: Callable[[Any], dict[str, Any]]) -> Answer:
        try:
            reply = self._server.handle_completions({**ask, "cache_prompt": True})
            if "choices" not in reply:
                return Answer(error=str(reply.get("error", reply))[:500])
            usage = reply["usage"]
            used = {key: usage[key] for key in ("prompt_tokens", "completion_tokens")}
            return Answer(**read(reply["choices"][0]), **used)
        except Exception as error:  # one prompt's fault must not cost the batch; it is kept with its row
            return Answer(error=f"{type(error).__name__}: {error}"[:500])

    def _check(self, choices: tuple[str, ...]) -> None:
        """Each choice must be one token of its own; counted by the model itself, once."""
        if choices in self._known:
            return
        base = self._tokens("Answer:")
        for choice in choices:
            count = self._tokens("Answer:" + choice) - base
            if count != 1:
                raise UserError(
                    f"choice {choice!r} is {count} tokens of this model, and choose needs one",
                    "pick a shorter word for the label in the task's prompts",
                )
        self._known.add(choices)

    def _tokens(self, text: str) -> int:
        reply = self._server.handle_completions({"prompt": text, "n_predict": 1, "temperature": 0})
        return int(reply["usage"]["prompt_tokens"])


def _choice_logprobs(choice: Any, choices: Sequence[str]) -> dict[str, Any]:
    top = choice["logprobs"]["content"][0]["top_probs"]
    found = {one["token"]: one["prob"] for one in top}
    weights = [found.get(c, 0.0) for c in choices]
    total = sum(weights)
    if total < 0.5:  # the lifted tokens hold nearly all of the mass, or the tokens are not what we think
        return {"error": f"the model did not score {list(choices)}: {top}"[:500]}
    return {"logprobs": tuple(math.log(max(w / total, 1e-12)) for w in weights)}
