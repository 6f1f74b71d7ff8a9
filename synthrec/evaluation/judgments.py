"""Real judgments: queries, and what is right for each. Synthetic rows never come here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthrec import schema
from synthrec.config import NextItem
from synthrec.errors import UserError
from synthrec.sources.cleaning import language, left
from synthrec.storage import filesystem

FORM = 'write rows as {"query": "...", "language": "en", "E": [ids], "S": [], "C": [], "I": []}'
RELEVANT = 1.0  # recall and MRR count Exact alone


@dataclass(frozen=True)
class Query:
    """One judged query. Products that are not in `gains` count as irrelevant; `exclude` are never ranked."""

    query_id: str
    text: str
    language: str
    gains: dict[str, float]
    exclude: tuple[str, ...] = field(default=())


def load_graded(path: str) -> list[Query]:
    """A JSONL file with query, language and lists of product ids under E, S, C, I."""
    fs, where = filesystem(path)
    try:
        with fs.open_input_stream(where) as stream:
            lines = stream.read().decode("utf-8-sig").split("\n")  # JSON texts may hold what splitlines() splits at
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"evaluate.judgments: cannot read {path}: {error}", "give the path of a UTF-8 JSONL file"
        ) from None
    found = [_graded(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UserError(f"evaluate.judgments: {path} holds no judged query", FORM)
    return found


def _graded(path: str, number: int, line: str) -> Query:
    try:
        row = json.loads(line)
        judged = [(product, gain) for grade, gain in schema.GAINS.items() for product in _ids(row.get(grade, []))]
        gains = dict(judged)
        if twice := [product for product, count in Counter(product for product, _ in judged).items() if count > 1]:
            raise ValueError(f"{twice[0]} is judged twice")
        text = row["query"]
        if not isinstance(text, str):
            raise TypeError(f"the query is no text but {text!r}")
        text = left(text)
        tongue = row.get("language") or language(text)
        if not isinstance(tongue, str):
            raise TypeError(f"the language is no text but {tongue!r:.80}")
        return Query(str(row.get("query_id", number)), text, tongue, gains)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}:{number}: not a judgment ({type(error).__name__}: {error})",
            FORM,
        ) from None


def _ids(given: Any) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(one, str | int) for one in given):
        raise TypeError(f"a grade needs a list of product ids, and not {given!r:.80}")
    return [str(one) for one in given]


def load_next_item(
    source: str, settings: NextItem, titles: dict[str, str], most: int | None
) -> tuple[list[Query], int]:
    """Queries from behaviour: the last product of a history stands for the query, the next one bought is the answer.

    Args:
        source: a Parquet file whose rows hold a history and a target, as `settings` names them.
        most: keep so many, by a hash of their place; None: all.

    Returns:
        The queries (a product of the history is never ranked), and how many rows had no product left to ask with, a
        target that the catalogue does not hold, or the same product for both.
    """
    fs, path = filesystem(source)
    try:
        table = pq.read_table(path, filesystem=fs, columns=[settings.history, settings.target])
        if not pa.types.is_nested(table.schema.field(settings.history).type):
            raise TypeError(f"column {settings.history} holds text, not lists of ids")
    except (OSError, pa.ArrowInvalid, TypeError) as error:  # ArrowInvalid: no Parquet file, or not this column
        reason = str(error).splitlines()[0]
        raise UserError(f"evaluate.next_item: cannot read {source}: {reason}", "check path, history, target") from None
    found: list[Query] = []
    for number, row in enumerate(table.to_pylist()):
        history = [str(p) for p in row[settings.history] or () if str(p) != settings.padding and str(p) in titles]
        target = str(row[settings.target])
        if not history or target not in titles or history[-1] == target:  # bought again: asked for by its own name
            continue
        text = titles[history[-1]]
        seen = tuple(p for p in dict.fromkeys(history) if p != target)
        found.append(Query(f"{source.rpartition('/')[2]}:{number}", text, language(text), {target: 1.0}, seen))
    left_out = table.num_rows - len(found)
    if most and len(found) > most:
        found = sorted(found, key=lambda q: schema.row_id(q.query_id))[:most]
    return found, left_out


def split(queries: Iterable[Query], share: float, seed: int) -> tuple[list[Query], list[Query]]:
    """(to tune on, to test on), the same share of each language, by a hash of the query's id."""
    tune: list[Query] = []
    test: list[Query] = []
    groups: dict[str, list[Query]] = {}
    for query in queries:
        groups.setdefault(query.language, []).append(query)
    for group in groups.values():
        ranked = sorted(group, key=lambda q: schema.row_id(seed, q.query_id, q.text))
        cut = round(share * len(ranked))
        tune += ranked[:cut]
        test += ranked[cut:]
    return tune, test


def arrays(queries: list[Query], place: dict[str, int]) -> tuple[list[dict[int, float]], list[Any]]:
    """Gains and exclusions by position in the catalogue. A judged product that is not there can not be found: it is
    kept under a position of its own beyond the catalogue, so that it still counts in the ideal ranking."""
    import numpy as np

    gains: list[dict[int, float]] = []
    excluded: list[Any] = []
    for query in queries:
        lost = iter(range(len(place), len(place) + len(query.gains)))
        gains.append({place[p] if p in place else next(lost): g for p, g in query.gains.items()})
        excluded.append(np.array([place[p] for p in query.exclude if p in place], dtype=np.int64))
    return gains, excluded
