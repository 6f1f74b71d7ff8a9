"""Recommenders by name. A new one: a file here with an `Objective` (see base.py), and a line below."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from synthrec.errors import UserError

if TYPE_CHECKING:
    from synthrec.recommenders.base import Scorer, Startable

NAMES = ("bi_encoder", "cross_encoder", "sequential", "graph", "classifier")
MODULES = {name: f"synthrec.recommenders.{name}" for name in NAMES}


def objective(name: str) -> Startable:
    """The class whose `start` gives what is trained. Its module, and torch with it, is imported here only."""
    if name not in MODULES:
        raise UserError(f"there is no recommender '{name}'", f"there are: {', '.join(MODULES)}")
    found: Startable = import_module(MODULES[name]).Objective
    return found


def scorer(name: str, folder: Path) -> Scorer:
    """A trained recommender of the next product, from the folder that its `save` wrote."""
    found: Scorer = import_module(MODULES[name]).load(folder)
    return found
