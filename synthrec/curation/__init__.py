"""Curation steps, in order. A new one: a file here and a line below."""

from __future__ import annotations

from synthrec.curation.base import EVERY_TASK, Aids, Row, Step
from synthrec.curation.calibrate import calibrated
from synthrec.curation.clean import copies, normalise, well_formed
from synthrec.curation.dedup import duplicates, repeated_ids
from synthrec.curation.relevance import scored_relevant
from synthrec.curation.roundtrip import roundtrip

STEPS = (
    Step("repeated ids", EVERY_TASK, repeated_ids),
    Step("normalise", "queries", normalise),
    Step("well formed", "queries", well_formed),
    Step("copies", "queries", copies),
    Step("duplicates", "queries", duplicates),
    Step("round trip", "queries", roundtrip),
    Step("relevance", "queries", scored_relevant),
    Step("normalise", "relevance", normalise),  # as its query was, so that the two are still known to be one
    Step("calibrate", "relevance", calibrated),
    Step("calibrate", "sentiment", calibrated),
)

__all__ = ["STEPS", "Aids", "Row", "Step"]
