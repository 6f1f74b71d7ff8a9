"""Engines: the pipeline over the bare engine, over a loop, over transformers' own pipeline; choosing over writing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.synthesis.runs import Run, answers, only
from synthrec import cluster, models
from synthrec.config import Engine as EngineSettings
from synthrec.engines import Engine, Sampling, load
from synthrec.synthesis.worker import seed

LITTLE = only(queries={"per_product": 1, "max_products": 8}, sentiment={"max_reviews": 16})
Row = dict[str, Any]


def llamacpp(folder: Path, model: str) -> dict[str, Any]:
    return _over_engine(folder, {"kind": "llamacpp"}, queries=150, reviews=400)


def vllm(folder: Path, model: str) -> dict[str, Any]:
    engine = {"kind": "vllm", "model": model, "resources": {"slots": 32}}
    return _over_engine(folder, engine, queries=260, reviews=840, per_product=3)


def transformers(folder: Path, model: str) -> dict[str, Any]:
    settings = {"kind": "transformers", "model": model}
    result = _over_engine(folder, settings, queries=100, reviews=400)
    rows = _run(folder, settings).asked(_tasks(100, 400))
    result["pipeline_choose_per_s"] = _pipeline_choose(folder, settings)
    write, score = ([row for row in rows if (row["choices"] is None) == wanted] for wanted in (True, False))
    engine = load(EngineSettings.model_validate(settings))
    result["choose_per_s"] = _rate(lambda some: _bare(engine, some), score)
    label = Sampling(max_tokens=4)
    result["generate_label_per_s"] = _rate(
        lambda some: engine.generate([r["asked"] for r in some], label, [0] * len(some)), score[:200]
    )
    result["generate_per_s"] = _rate(lambda some: _bare(engine, some), write)
    engine.close()
    return result | _peers(model, write, score)


def _over_engine(folder: Path, engine: Row, queries: int, reviews: int, per_product: int = 1) -> dict[str, Any]:
    """Answers a second of the whole stage and of the engine alone, on the same prompts.

    The stage's fixed costs (starting Ray's actors and the engine) are taken off by a run of a few rows.
    """
    cluster.start()
    run, tasks = _run(folder, engine), _tasks(queries, reviews, per_product)
    little, few = run.seconds(LITTLE)
    whole, many = run.seconds(tasks)
    rows = run.asked(tasks)
    import ray

    ray.shutdown()  # what follows has the cores to itself
    bare = load(EngineSettings.model_validate(engine))
    _bare(bare, rows[:8] + rows[-8:])
    start = time.monotonic()
    _bare(bare, rows)
    alone = time.monotonic() - start
    bare.close()
    pipeline = (answers(many) - answers(few)) / (whole - little)
    return {
        "answers": len(rows),
        "pipeline_per_s": pipeline,
        "engine_per_s": len(rows) / alone,
        "pipeline_over_engine": pipeline * alone / len(rows),
        "start_s": little,
    }


def _pipeline_choose(folder: Path, engine: Row) -> float:
    """Labels scored a second by the whole stage, its fixed costs taken off."""
    cluster.start()
    run = _run(folder, engine | {"resources": {"batch_size": 256}})  # more rows that share a prefix in each
    little, few = run.seconds(only(sentiment={"max_reviews": 16}))
    whole, many = run.seconds(only(sentiment={}))
    import ray

    ray.shutdown()
    return (answers(many) - answers(few)) / (whole - little)


def _run(folder: Path, engine: Row) -> Run:
    return Run(folder / str(engine["kind"]), (f"synthesize.engine={json.dumps(engine)}",))


def _tasks(queries: int, reviews: int, per_product: int = 1) -> str:
    return only(queries={"per_product": per_product, "max_products": queries}, sentiment={"max_reviews": reviews})


def _bare(engine: Engine, rows: Sequence[Row]) -> None:
    """All of the rows in two calls: as fast as the engine can be used."""
    score = [row for row in rows if row["choices"] is not None]
    write = [row for row in rows if row["choices"] is None]
    if score:
        engine.choose([row["asked"] for row in score], [row["choices"] for row in score])
    if write:
        engine.generate([row["asked"] for row in write], _sampling(), [seed(row) for row in write])


def _sampling() -> Sampling:
    from synthrec.config import QueriesTask
    from synthrec.tasks.queries import Queries

    return Queries(QueriesTask()).sampling("")


def _rate(work: Callable[[Sequence[Row]], Any], rows: Sequence[Row]) -> float:
    work(rows[:16])
    start = time.monotonic()
    work(rows)
    return len(rows) / (time.monotonic() - start)


def _peers(model: str, write: Sequence[Row], score: Sequence[Row]) -> dict[str, Any]:
    """The ways that a team would write itself: a loop, and transformers' own text-generation pipeline."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    net = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, models.fast_dtype("cpu"))).eval()
    stop = _sampling()
    how: dict[str, Any] = {
        "max_new_tokens": stop.max_tokens,
        "do_sample": True,
        "temperature": stop.temperature,
        "top_p": stop.top_p,
        "stop_strings": list(stop.stop),
        "tokenizer": tokenizer,
    }

    def loop(rows: Sequence[Row]) -> None:
        for row in rows:
            with torch.inference_mode():
                net.generate(**tokenizer(row["asked"], return_tensors="pt"), **how)

    def loop_scores(rows: Sequence[Row]) -> None:
        for row in rows:
            with torch.inference_mode():
                net(**tokenizer(row["asked"], return_tensors="pt")).logits[0, -1].log_softmax(-1)

    words = pipeline("text-generation", model=net, tokenizer=tokenizer)

    def batched(rows: Sequence[Row], settings: dict[str, Any]) -> dict[str, float]:
        """By size of the batch: as a user of that pipeline would try them."""

        def write_all(some: Sequence[Row], size: int) -> None:
            list(words([row["asked"] for row in some], batch_size=size, return_full_text=False, **settings))

        return {str(size): _rate(partial(write_all, size=size), rows) for size in (1, 8, 32)}

    label = {"max_new_tokens": 4, "do_sample": False, "stop_strings": ["\n"], "tokenizer": tokenizer}
    return {
        "naive_loop_per_s": _rate(loop, write[:24]),
        "naive_scores_per_s": _rate(loop_scores, score[:40]),
        "hf_pipeline_per_s": batched(write[:64], how),
        "hf_pipeline_label_per_s": batched(score[:64], label),
    }
