"""What shoppers did, as sequences of products to learn from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthrec import schema


@dataclass(frozen=True)
class Behaviour:
    """`users` (n,) pseudonyms, ascending; `sequences`: of each the products' places in the catalogue, oldest first;
    `times`: of each step the seconds since 1970."""

    users: list[str]
    sequences: list[NDArray[np.int64]]
    times: list[NDArray[np.float64]]


def behaviour(interactions: pa.Table, products: pa.Array | pa.ChunkedArray, events: Collection[str]) -> Behaviour:
    """Sequences from INTERACTIONS rows.

    What is not in the catalogue, or not one of `events`, is left out; a product that comes again at once (viewed, then
    bought) counts once, at its first time. Of two at one moment the lower place comes first, so that a re-run agrees.
    """
    rows = interactions.filter(pc.is_in(interactions["event"], pa.array(sorted(events), pa.string())))
    place = pc.index_in(
        rows["product_id"], products.combine_chunks() if isinstance(products, pa.ChunkedArray) else products
    )
    rows = rows.append_column("place", place).filter(pc.is_valid(place))
    rows = rows.sort_by([("user_id", "ascending"), ("timestamp", "ascending"), ("place", "ascending")])
    coded = pc.dictionary_encode(rows["user_id"]).combine_chunks()
    user = coded.indices.to_numpy()
    item = rows["place"].to_numpy().astype(np.int64)
    time = rows["timestamp"].cast(pa.int64()).to_numpy() / 1e6
    again = np.zeros(len(item), bool)
    again[1:] = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    user, item, time = user[~again], item[~again], time[~again]
    cuts = np.flatnonzero(np.diff(user)) + 1
    if not len(item):
        return Behaviour([], [], [])
    return Behaviour(coded.dictionary.to_pylist(), np.split(item, cuts), np.split(time, cuts))


def held(sequences: Iterable[NDArray[np.int64]], products: int) -> NDArray[np.bool_]:
    """(products,): which of them some sequence holds."""
    found = np.zeros(products, bool)
    found[np.concatenate([np.zeros(0, np.int64), *sequences])] = True
    return found


def weights(
    real: Iterable[NDArray[np.int64]], synthetic: Iterable[NDArray[np.int64]], most: float
) -> tuple[float, float]:
    """How much a real step is to count, and a synthetic one, with a mean of 1 over all steps.

    A synthetic one counts no more than a real one, and all of them together at most `most` times as much as all real
    ones: an LLM has as many sessions to tell as there are products, however few shoppers there were.
    """
    taken, thought = (sum(max(0, len(one) - 1) for one in some) for some in (real, synthetic))
    share = min(1.0, most * taken / thought) if taken and thought else 1.0
    mean = (taken + share * thought) / max(1, taken + thought)
    return (1 / mean, share / mean) if mean else (1.0, 1.0)


def sessions(labels: Iterable[dict[str, Any]], place: dict[str, int]) -> list[NDArray[np.int64]]:
    """Sequences that the LLM thought plausible, from LABEL rows of the task `session`, each both ways.

    The product that it was asked of comes first, where nothing would lead to it; a cold one is to be led to.
    """
    found = (json.loads(schema.strings(row["fields"])["session"]) for row in labels if row["task"] == "session")
    known = [[place[product] for product in one if product in place] for one in found]
    forth = [np.array(one, np.int64) for one in known if len(one) > 1]
    return [*forth, *(one[::-1].copy() for one in forth)]
