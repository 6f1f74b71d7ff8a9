"""One process's part of a training: model, rows and validation through the loop. Ray Train and Ray Tune both run it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from synthrec.recommenders.base import Cases
from synthrec.training.loop import Plan, Report

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Lesson:
    """What is learnt.

    Attributes:
        objective: a module and an `Objective`.
        precision: float32, bfloat16, or auto: bfloat16 where it is fast.
        cases: shoppers that decide when it is best: NDCG@10 of the full ranking, without what the shopper has taken if
            `filter_viewed`. None: no validation.
    """

    objective: Any
    rows: pa.Table
    plan: Plan
    use_gpu: bool
    precision: str
    cases: Cases | None = None
    filter_viewed: bool = True


def learn(lesson: Lesson, report: Report, tick: Callable[[int, float], None], resume: Path | None = None) -> None:
    """Train to the end; see `loop.train`. The metrics also say which `precision` it was."""
    import torch
    from accelerate import Accelerator, DistributedDataParallelKwargs

    from synthrec import models
    from synthrec.training import loop

    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    precision = lesson.precision
    if precision == "auto":  # float16 would need its gradients scaled: where bfloat16 is slow, float32 it is
        fast = models.fast_dtype("cuda" if lesson.use_gpu else "cpu")
        precision = "bfloat16" if fast == "bfloat16" else "float32"
    accelerator = Accelerator(
        cpu=not lesson.use_gpu,
        mixed_precision="bf16" if precision == "bfloat16" else "no",
        # Buffers are a graph, or items' features: the same everywhere from the start. By default each step sends them.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    groups = lesson.objective.parameter_groups()
    model: Any = accelerator.prepare_model(lesson.objective.to(accelerator.device))

    def loss(rows: list[int]) -> Tensor:
        return model(lesson.rows.take(rows).to_pydict())  # type: ignore[no-any-return]

    def told(metrics: dict[str, Any], save: Callable[[Path], None]) -> None:
        report(metrics | {"precision": precision}, save)

    validate = None if lesson.cases is None else _validation(lesson.objective, lesson.cases, lesson.filter_viewed)
    loop.train(loss, model, groups, lesson.plan, accelerator, told, tick, resume, validate)


def _validation(objective: Any, cases: Cases, filter_viewed: bool) -> Callable[[], float]:
    """NDCG@10 of what the objective recommends."""
    from synthrec.evaluation.recommendation import judge

    def validate() -> float:
        return float(judge(objective.scorer, cases, [], filter_viewed, (10,)).by_case["ndcg@10"].mean())

    return validate
