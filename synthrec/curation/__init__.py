"""Curation steps by name. A new one: a file here, a line below, and its name in the config's `curate.steps`."""

from __future__ import annotations

from synthrec.curation.agreement import agreed, ahead, opinions
from synthrec.curation.augment import more
from synthrec.curation.balance import balanced, shares
from synthrec.curation.base import Aids, Outcome, Parts, Refused, Row, Step
from synthrec.curation.calibrate import TASKS, calibrated, learn
from synthrec.curation.clean import copies, normalise, well_formed
from synthrec.curation.dedup import duplicates
from synthrec.curation.near import copies_of, near_duplicates
from synthrec.curation.noise import suspects, unsuspected
from synthrec.curation.relevance import scored_relevant
from synthrec.curation.roundtrip import index, roundtrip
from synthrec.curation.semantic import semantic_duplicates
from synthrec.curation.written import usable
from synthrec.errors import UserError

QUERIES = ("queries",)
STEPS = {
    step.name: step
    for step in (
        Step("normalise", ("queries", "relevance"), normalise),  # both alike: they are still known to be one
        Step("well_formed", QUERIES, well_formed),
        Step("usable", (), usable),
        Step("copies", QUERIES, copies),
        Step("duplicates", QUERIES, duplicates),
        Step("near_duplicates", QUERIES, near_duplicates, copies_of),
        Step("semantic_duplicates", QUERIES, semantic_duplicates, cpus=1),
        Step("round_trip", QUERIES, roundtrip, index, cpus=1),
        Step("relevance", QUERIES, scored_relevant),
        Step("calibrate", TASKS, calibrated, learn),
        Step("augment", QUERIES, more),
        Step("margin", (), ahead),
        Step("agreement", (), agreed, opinions),
        Step("noise", (), unsuspected, suspects),
        Step("balance", (), balanced, shares),
    )
}


def chosen(names: tuple[str, ...]) -> list[Step]:
    """The steps of these names, in their order. Raises UserError for a name that is none."""
    if unknown := [name for name in names if name not in STEPS]:
        raise UserError(f"curate.steps: no step '{unknown[0]}'", f"there are: {', '.join(STEPS)}")
    return [STEPS[name] for name in names]


__all__ = ["STEPS", "Aids", "Outcome", "Parts", "Refused", "Row", "Step", "chosen"]
