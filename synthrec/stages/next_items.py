"""What the stages that recommend share: the shop's behaviour, how it is split, and the products' vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.dataset as pads
from numpy.typing import NDArray

from synthrec import console, schema
from synthrec.config import Config
from synthrec.errors import UserError
from synthrec.evaluation.splits import Split, leave_one_out, reachable, temporal
from synthrec.pipeline import Context
from synthrec.training.behaviour import behaviour, sessions, weights

SESSIONS = pads.field("task") == "session"


@dataclass(frozen=True)
class Shop:
    """`products` and `texts` in order of place; `users` by number; `synthetic`: sequences that the LLM thought of;
    `weights`: how much a real step counts, and a synthetic one."""

    products: list[str]
    texts: list[str]
    users: list[str]
    split: Split
    synthetic: list[NDArray[np.int64]]
    weights: tuple[float, float] = (1.0, 1.0)


def settings(config: Config) -> list[Any]:
    """What of the config changes the split."""
    own = config.recommend
    return [own.events, own.split, own.temporal_shares, own.filter_viewed]


def read(context: Context) -> Shop:
    """Raises UserError where the shop has too little behaviour to learn from and to test on."""
    own, prepared = context.config.recommend, context.inputs["prepare"]
    catalogue = (prepared / "catalogue").read_table(schema.CATALOGUE, ["product_id", "text"]).sort_by("product_id")
    rows = (prepared / "interactions").read_table(schema.INTERACTIONS)
    found = behaviour(rows, catalogue["product_id"], own.events)
    if own.split == "temporal":
        split = temporal(found.sequences, found.times, own.temporal_shares) if found.users else None
    else:
        split = leave_one_out(found.sequences)
    if split is not None and own.filter_viewed:
        before = len(split.test)
        split = Split(split.train, reachable(split.validation), reachable(split.test))
        console.say(f"    {before - len(split.test)} of {before} test cases are of shoppers who came back: left out")
    if split is None or not len(split.test) or not len(split.validation):
        raise UserError(
            f"{len(found.users)} shoppers have too few interactions to learn from and to test on",
            "give sources.interactions with longer histories, widen recommend.events, or empty recommend.models",
        )
    split = Split(split.train, split.validation.unnamed(), split.test.unnamed())
    place = {product: i for i, product in enumerate(catalogue["product_id"].to_pylist())}
    labels = (
        (context.inputs["curate"] / "labels").read_table(schema.LABEL, where=SESSIONS).to_pylist()
        if own.sessions
        else []
    )
    thought = sessions(labels, place)
    counts = weights(split.train, thought, own.sessions_weight)
    return Shop(list(place), catalogue["text"].to_pylist(), found.users, split, thought, counts)


def vectors(context: Context, texts: list[str]) -> NDArray[np.float32]:
    """(products, width), unit length, of the fine-tuned encoder."""
    from synthrec.recommenders.bi_encoder import BiEncoder

    with (context.inputs["train"] / "model").fetched() as model:
        return BiEncoder.load(str(model)).encode(texts)
