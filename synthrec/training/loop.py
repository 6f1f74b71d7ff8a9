"""One training loop for every recommender. It knows of batches, ranks and checkpoints, not of models or Ray."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

Report = Callable[[dict[str, Any], Callable[[Path], None]], None]


@dataclass(frozen=True)
class Plan:
    """How long and how fast. `batch_size` is of one rank; `rows` of the whole training set."""

    rows: int
    batch_size: int
    epochs: int
    warmup: float
    seed: int

    def steps(self, ranks: int) -> int:
        """Steps of one epoch. The last rows that fill no batch on every rank wait for another epoch's shuffle."""
        return max(1, self.rows // (self.batch_size * ranks))

    def batch(self, epoch: int, step: int, rank: int, ranks: int) -> list[int]:
        """Row numbers: a function of its arguments alone, so that a resumed run sees what it would have seen."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        start = (step * ranks + rank) * self.batch_size
        return [int(i) for i in np.take(order, range(start, start + self.batch_size), mode="wrap")]


def train(
    loss: Callable[[list[int]], torch.Tensor],
    model: torch.nn.Module,
    groups: list[dict[str, Any]],
    plan: Plan,
    accelerator: Accelerator,
    report: Report,
    tick: Callable[[int, float], None],
    resume: Path | None = None,
) -> None:
    """Run the plan.

    Args:
        loss: of a batch given by its row numbers, through `model` as the accelerator prepared it.
        groups: the optimizer's parameter groups, each with its `lr`.
        report: called after each epoch with its metrics and a function that saves a checkpoint into a folder. The
            metrics are its number, its mean loss, and the losses of all epochs so far, those before a resume too.
        tick: called after each step with the steps done and the loss.
        resume: a checkpoint's folder.
    """
    ranks, rank = accelerator.num_processes, accelerator.process_index
    steps = plan.steps(ranks)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_then_linear(steps * plan.epochs, plan.warmup))
    losses = _restore(resume, model, optimizer, schedule)
    for epoch in range(len(losses), plan.epochs):
        _seed(plan.seed, epoch, rank)
        model.train()
        total = 0.0
        for step in range(steps):
            value = loss(plan.batch(epoch, step, rank, ranks))
            accelerator.backward(value)
            torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += value.item()
            tick(epoch * steps + step + 1, total / (step + 1))
        mean = accelerator.reduce(torch.tensor(total / steps, device=accelerator.device), "mean").item()
        losses = [*losses, mean]
        save = partial(_save, losses=losses, model=model, optimizer=optimizer, schedule=schedule)
        report({"epoch": epoch, "loss": mean, "losses": losses}, save)


def _warm_then_linear(steps: int, warmup: float) -> Callable[[int], float]:
    warm = max(1, int(steps * warmup))
    return lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))


def _seed(seed: int, epoch: int, rank: int) -> None:
    """Dropout differs by rank and epoch, and is the same in a run that was resumed."""
    number = (seed * 1_000_003 + epoch) * 1_009 + rank
    random.seed(number)
    torch.manual_seed(number)


def _save(folder: Path, losses: list[float], model: torch.nn.Module, optimizer: Any, schedule: Any) -> None:
    state = {"losses": losses, "model": _bare(model).state_dict()}
    state |= {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    torch.save(state, folder / "state.pt")


def _restore(folder: Path | None, model: torch.nn.Module, optimizer: Any, schedule: Any) -> list[float]:
    """Load a checkpoint into place; returns the loss of each epoch that is done."""
    if folder is None:
        return []
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    _bare(model).load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return list(state["losses"])


def _bare(model: torch.nn.Module) -> torch.nn.Module:
    return model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model
