"""docs/api.md is what the code says."""

from __future__ import annotations

from pathlib import Path

from serve_app import describe
from serve_app.api import routes

ROOT = Path(__file__).parents[1]


def test_the_api_is_described_as_it_is():
    told = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert told == describe.described(), "run: python -m serve_app.describe > docs/api.md"


def test_every_link_within_leads_somewhere():
    told = describe.described()
    schemas = {name.lower() for name in routes().openapi()["components"]["schemas"]}
    links = {part.partition(")")[0] for part in told.split("](#")[1:]}
    assert links
    assert links <= schemas
