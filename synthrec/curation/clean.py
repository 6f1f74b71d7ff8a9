"""Queries as a shopper would have typed them: normalised, of sensible length, in the product's language, no copies."""

from __future__ import annotations

from synthrec.curation.base import Aids, Outcome, Row, split
from synthrec.retrieval.tokens import words
from synthrec.sources.cleaning import HAN, clean


def tidy(text: str) -> str:
    """One encoding, single spaces, lower case, no closing sign."""
    return clean(text).strip(" .,;:!?。，；：！？、-–\"'").lower()


def normalise(rows: list[Row], aids: Aids) -> Outcome:
    return [row | {"text": tidy(row["text"])} for row in rows], []


def well_formed(rows: list[Row], aids: Aids) -> Outcome:
    """Refuse what is too short, too long, says the same word again and again, or is in the wrong language."""
    settings = aids.config.curate

    def why(row: Row) -> tuple[str, str] | None:
        text = row["text"]
        units = HAN.findall(text) + [w for w in text.split() if not HAN.search(w)]
        if len(units) < settings.min_words:
            return "too short", f"{len(units)} words, fewer than curate.min_words = {settings.min_words}"
        if len(text) > settings.max_chars:
            return "too long", f"{len(text)} characters, more than curate.max_chars = {settings.max_chars}"
        if len(set(units)) < 0.6 * len(units):
            return "repeats itself", f"{len(set(units))} different words of {len(units)}"
        if (row["language"] == "zh") != bool(HAN.search(text)):
            return "wrong language", f"a query in '{row['language']}' was asked for"
        return None

    return split(rows, why)


def copies(rows: list[Row], aids: Aids) -> Outcome:
    """Refuse copies of the title (its words, in its order, and little else) and of the prompt's own words."""
    most = aids.config.curate.max_copy

    def why(row: Row) -> tuple[str, str] | None:
        product = aids.products[row["product_id"]]
        query, title = words(row["text"]), words(product["title"])
        if query and len(query) >= 0.6 * len(title) and _in_order(query, title) > most * len(query):
            return "copy of the title", product["title"]
        if row["text"] == tidy(row["label"]):
            return "copy of the prompt", row["label"]
        return None

    return split(rows, why)


def _in_order(query: list[str], title: list[str]) -> int:
    """Length of the longest common subsequence."""
    best = [0] * (len(title) + 1)
    for word in query:
        before = 0
        for place, other in enumerate(title, 1):
            before, best[place] = best[place], before + 1 if word == other else max(best[place], best[place - 1])
    return best[-1]
