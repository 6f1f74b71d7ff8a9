"""Curation steps, in order. A new one: a file here and a line below."""

from __future__ import annotations

from synthrec.curation.base import Aids, Row, Step
from synthrec.curation.calibrate import batch_calibration
from synthrec.curation.clean import copies, normalise, well_formed
from synthrec.curation.dedup import duplicates, repeated_ids
from synthrec.curation.relevance import scored_relevant
from synthrec.curation.roundtrip import roundtrip

STEPS = (
    Step("repeated ids", "queries", repeated_ids),
    Step("normalise", "queries", normalise),
    Step("well formed", "queries", well_formed),
    Step("copies", "queries", copies),
    Step("duplicates", "queries", duplicates),
    Step("round trip", "queries", roundtrip),
    Step("relevance", "queries", scored_relevant),
    Step("repeated ids", "relevance", repeated_ids),
    Step("normalise", "relevance", normalise),  # as its query was, so that the two are still known to be one
    Step("calibrate", "relevance", batch_calibration),
    Step("repeated ids", "sentiment", repeated_ids),
    Step("calibrate", "sentiment", batch_calibration),
)

__all__ = ["STEPS", "Aids", "Row", "Step"]
