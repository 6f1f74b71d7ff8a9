"""The arms: the config's list of steps, the list without each of them, the list with each that is off, and no list."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthrec.curation import STEPS

FULL = "as configured"
# A step that its defaults leave idle is tried with settings under which it does something.
AWAKE: dict[str, dict[str, Any]] = {"relevance": {"min_relevance": 0.5}}
# What a step cannot work without, and nobody can guess.
NEEDS = {"agreement": "second"}


@dataclass(frozen=True)
class Arm:
    """One way to curate.

    Attributes:
        step: what it differs in from the list as configured; empty in that list itself.
        removed: the step is in the list as configured, and not here.
        settings: of `curate`, beside its steps.
    """

    name: str
    steps: tuple[str, ...]
    step: str = ""
    removed: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def overrides(self) -> list[str]:
        wanted = {"steps": list(self.steps)} | self.settings
        return [f"curate.{key}={json.dumps(value)}" for key, value in wanted.items()]


def arms(configured: Sequence[str], given: Callable[[str], bool]) -> list[Arm]:
    """All arms, the list as configured first.

    Args:
        given: whether a setting of `curate` has a value: a step that needs one which is empty is left out.
    """
    listed = tuple(configured)
    found = [Arm(FULL, listed), Arm("no curation", (), "all steps", True)]
    for step in listed:
        found.append(Arm(f"without {step}", tuple(one for one in listed if one != step), step, True))
    for step, settings in AWAKE.items():
        if step in listed:
            told = ", ".join(f"{key} {value}" for key, value in settings.items())
            found.append(Arm(f"{step} ({told})", listed, f"{step} ({told})", settings=settings))
    for step in STEPS:
        if step not in listed and (step not in NEEDS or given(NEEDS[step])):
            found.append(Arm(f"with {step}", _with(listed, step), step, settings=AWAKE.get(step, {})))
    return found


def left_out(configured: Sequence[str], given: Callable[[str], bool]) -> dict[str, str]:
    """Steps that are not tried -> the setting that they would need."""
    return {step: f"curate.{key}" for step, key in NEEDS.items() if step not in configured and not given(key)}


def _with(listed: tuple[str, ...], step: str) -> tuple[str, ...]:
    """The list with one step more, before the first of it that comes later among all steps."""
    order = list(STEPS)
    later = (place for place, one in enumerate(listed) if order.index(one) > order.index(step))
    place = next(later, len(listed))
    return (*listed[:place], step, *listed[place:])
