"""Recommenders by name. A new one: a file here with an `Objective` (see base.py), and its name below."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthrec.errors import UserError

if TYPE_CHECKING:
    from synthrec.recommenders.base import Scorer, Startable

NAMES = ("bi_encoder", "cross_encoder", "sequential", "graph", "classifier")
MODULES = {name: f"synthrec.recommenders.{name}" for name in NAMES}


def objective(name: str) -> Startable:
    """The class whose `start` gives what is trained. Its module, and torch with it, is imported here only."""
    found: Startable = _module(name).Objective
    return found


def scorer(name: str, folder: Path) -> Scorer:
    """A trained recommender of the next product, from the folder that its `save` wrote."""
    found: Scorer = _module(name).load(folder)
    return found


def _module(name: str) -> Any:
    """Of one of MODULES, or of your own: then its name is that of a module that every worker can import."""
    path = MODULES.get(name, name)
    try:
        return import_module(path)
    except ModuleNotFoundError as error:
        if not f"{path}.".startswith(f"{error.name}."):  # it is there, and misses something else
            raise
        told = f"there are: {', '.join(MODULES)}; or give the name of a module that every worker can import"
        raise UserError(f"there is no recommender '{name}'", told) from None
