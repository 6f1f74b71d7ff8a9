"""One training loop for every recommender. It knows of batches, ranks and checkpoints, not of models or Ray."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

STATE = "state.pt"
Report = Callable[[dict[str, Any], Callable[[Path], None]], None]


@dataclass(frozen=True)
class Plan:
    """How long and how fast. `batch_size` is of one rank; `rows` of the whole training set.

    `accumulate`: batches of a rank whose gradients are averaged to one step. `decay`: whether the rate falls to nothing
    over the epochs, or stays. `patience`: validations without a better value after which training stops; None: never.
    """

    rows: int
    batch_size: int
    epochs: int
    warmup: float
    seed: int
    accumulate: int = 1
    decay: bool = True
    clip: float = 1.0
    patience: int | None = None

    def steps(self, ranks: int) -> int:
        """Steps of one epoch. The last rows that fill no step of every rank wait for another epoch's shuffle."""
        return max(1, self.rows // (self.batch_size * self.accumulate * ranks))

    def batch(self, epoch: int, number: int, rank: int, ranks: int) -> list[int]:
        """Row numbers: a function of its arguments alone, so that a resumed run sees what it would have seen.

        Args:
            number: of the batch among the epoch's; a step has `accumulate` of them.
        """
        order = _order(self.seed, epoch, self.rows)
        start = (number * ranks + rank) * self.batch_size
        return [int(i) for i in np.take(order, range(start, start + self.batch_size), mode="wrap")]


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(rows)


@dataclass
class Progress:
    """What every epoch so far came to: its mean loss, and its value where there is a validation; higher is better."""

    losses: list[float]
    values: list[float]

    @property
    def best(self) -> int | None:
        """The epoch of the best value, the first of them."""
        return self.values.index(max(self.values)) if self.values else None

    def spent(self, patience: int | None) -> bool:
        return patience is not None and self.best is not None and len(self.values) - 1 - self.best >= patience


def train(
    loss: Callable[[list[int]], torch.Tensor],
    model: torch.nn.Module,
    groups: list[dict[str, Any]],
    plan: Plan,
    accelerator: Accelerator,
    report: Report,
    tick: Callable[[int, float], None],
    resume: Path | None = None,
    validate: Callable[[], float] | None = None,
) -> None:
    """Run the plan.

    Args:
        loss: of a batch given by its row numbers, through `model` as the accelerator prepared it.
        groups: the optimizer's parameter groups, each with its `lr`, and whatever else of AdamW's is its own.
        report: called after each epoch with its metrics and a function that saves a checkpoint into a folder. The
            metrics are its number, its mean loss, and the losses of all epochs so far, those before a resume too; with
            a validation also its value, all values, and the number of the best epoch.
        tick: called after each step with the steps done and the loss.
        resume: a checkpoint's folder.
        validate: called after each epoch, on the first rank, whose value holds for all: on another processor its last
            digit may differ, and with it whether to stop. Higher is better, never NaN.
    """
    ranks, rank = accelerator.num_processes, accelerator.process_index
    steps = plan.steps(ranks)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(steps * plan.epochs, plan.warmup, plan.decay))
    done = _restore(resume, model, optimizer, schedule)
    schedule.last_epoch = len(done.losses) * steps  # ranks, and so an epoch's steps, may have been others before
    for group, base, rate in zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = base * rate(schedule.last_epoch)
    for epoch in range(len(done.losses), plan.epochs):
        if done.spent(plan.patience):
            break
        _seed(plan.seed, epoch, rank)
        model.train()
        total = 0.0
        for step in range(steps):
            for part in range(plan.accumulate):
                number = step * plan.accumulate + part
                with nullcontext() if part == plan.accumulate - 1 else accelerator.no_sync(model):
                    value = loss(plan.batch(epoch, number, rank, ranks)) / plan.accumulate
                    accelerator.backward(value)
                total += value.item()
            torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], plan.clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            tick(epoch * steps + step + 1, total / (step + 1))
        mean = accelerator.reduce(torch.tensor(total / steps, device=accelerator.device), "mean").item()
        done.losses.append(mean)
        metrics = {"epoch": epoch, "loss": mean, "losses": list(done.losses)}
        if validate is not None:
            mine = validate() if accelerator.is_main_process else 0.0
            told = torch.tensor(mine, dtype=torch.float64, device=accelerator.device)
            done.values.append(accelerator.reduce(told, "sum").item())
            metrics |= {"value": done.values[-1], "values": list(done.values), "best_epoch": done.best}
        save = partial(_save, done=done, model=model, optimizer=optimizer, schedule=schedule)
        report(metrics, save)


def _rate(steps: int, warmup: float, decay: bool) -> Callable[[int], float]:
    warm = max(1, int(steps * warmup))
    late = max(1, steps - warm)
    return lambda step: min((step + 1) / warm, max(0.0, (steps - step) / late) if decay else 1.0)


def _seed(seed: int, epoch: int, rank: int) -> None:
    """Dropout differs by rank and epoch, and is the same in a run that was resumed."""
    number = (seed * 1_000_003 + epoch) * 1_009 + rank
    random.seed(number)
    torch.manual_seed(number)


def _save(folder: Path, done: Progress, model: torch.nn.Module, optimizer: Any, schedule: Any) -> None:
    state = {"losses": done.losses, "values": done.values, "model": _bare(model).state_dict()}
    state |= {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    torch.save(state, folder / STATE)


def _restore(folder: Path | None, model: torch.nn.Module, optimizer: Any, schedule: Any) -> Progress:
    """Load a checkpoint into place; returns what the epochs that are done came to."""
    if folder is None:
        return Progress([], [])
    state = read(folder)
    _bare(model).load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return progress(state)


def progress(state: dict[str, Any]) -> Progress:
    """Of a checkpoint."""
    return Progress(list(state["losses"]), list(state["values"]))


def read(folder: Path) -> dict[str, Any]:
    """A checkpoint: `model` (its weights), `optimizer`, `schedule`, `losses` and `values` of the epochs so far."""
    return dict(torch.load(folder / STATE, map_location="cpu", weights_only=True))


def _bare(model: torch.nn.Module) -> torch.nn.Module:
    return model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model
