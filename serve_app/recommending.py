"""What a shopper may want next: by the trained recommender, by likeness, or by what others take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from serve_app.batching import Vector
from serve_app.loaded import Loaded
from serve_app.problems import Problem
from serve_app.schemas.shoppers import Basis, Brand, Brands, BrandsRequest, Recommended, RecommendRequest
from serve_app.searching import hit
from serve_app.service import Service
from synthrec.recommenders.brands import mean
from synthrec.retrieval.filters import Filters
from synthrec.stores import Event

REMEMBERED = 200  # events of a shopper that are read
RECENT = 3  # products that likeness goes by, each weighing half of the one after it: as it was judged
POOL = 5  # times k: what diversity chooses among
POPULAR = 2_000  # products that popularity ranks
SAMPLE = 1_000  # products that the spread of likeness is estimated from


class Ranked(NamedTuple):
    product_id: str
    score: float


async def recommend(service: Service, request: RecommendRequest) -> Recommended:
    shopper = service.shopper(request.user_id)
    events = await history(service, shopper)
    taken = [event.product_id for event in events] + request.history
    async with service.answering(shopper) as loaded:
        popular = await service.stored(lambda: service.store.popular(POPULAR)) if not taken else []
        return await service.searched(lambda: _recommended(loaded, taken, popular, request))


async def history(service: Service, shopper: str | None) -> list[Event]:
    """What the store knows of a shopper, oldest first."""
    if shopper is None:
        return []
    return await service.stored(lambda: service.store.history(shopper, REMEMBERED))


def _recommended(
    loaded: Loaded, taken: Sequence[str], popular: Sequence[tuple[str, float]], request: RecommendRequest
) -> Recommended:
    viewed = loaded.filters_viewed if request.filter_viewed is None else request.filter_viewed
    filters = request.filters.plain(*(dict.fromkeys(taken) if viewed else ()))
    count = request.k * POOL if request.diversity else request.k
    ranked, basis = _ranked(loaded, taken, popular, filters, count)
    if request.diversity:
        ranked = _diverse(loaded, ranked, request.k, request.diversity)
    made = [hit(loaded.index.product(one.product_id), one.score) for one in ranked[: request.k]]
    return Recommended(hits=made, basis=basis, bundle=loaded.version)


def _ranked(
    loaded: Loaded, taken: Sequence[str], popular: Sequence[tuple[str, float]], filters: Filters, count: int
) -> tuple[list[Ranked], Basis]:
    vector = _recent(loaded, taken)
    if vector is None:
        return _popular(loaded, popular, filters, count)
    alike = [Ranked(one.product_id, one.score) for one in loaded.index.search("", vector, count, filters, 1.0)]
    recommender = loaded.parts.recommender
    known = [place for product in taken if (place := loaded.places.get(product)) is not None]
    scores = recommender.scores(np.array(known)) if recommender is not None and known else None
    if scores is None:
        return alike, "text"
    return _merged(loaded, scores, vector, alike, filters, count), "model"


def _recent(loaded: Loaded, taken: Sequence[str]) -> Vector | None:
    """(width,): the last products taken, by their texts; None where none of them is known."""
    vectors = loaded.of_products(taken[-RECENT:])
    if not len(vectors):
        return None
    return mean(vectors * (0.5 ** np.arange(len(vectors))[::-1, None]).astype(np.float32))


def _merged(
    loaded: Loaded, scores: Vector, vector: Vector, alike: Sequence[Ranked], filters: Filters, count: int
) -> list[Ranked]:
    """The recommender's ranking, and in it those that it does not know: products put since, or that nobody took.

    Both kinds of score are standardised over the catalogue, since they are of different scales.
    """
    finite = np.isfinite(scores)
    own = (scores - scores[finite].mean()) / max(float(scores[finite].std()), 1e-9)
    some = loaded.bundle.hybrid.vectors[:: max(1, len(scores) // SAMPLE)] @ vector
    strangers = [
        Ranked(one.product_id, float((one.score - some.mean()) / max(float(some.std()), 1e-9)))
        for one in alike
        if (place := loaded.places.get(one.product_id)) is None or not finite[place]
    ]
    order = np.argsort(-own[finite], kind="stable")
    places = np.flatnonzero(finite)[order]
    admitted = _admitted(loaded, (Ranked(loaded.ids[i], float(own[i])) for i in places), filters, count)
    return sorted([*admitted, *strangers], key=lambda one: -one.score)[:count]


def _popular(
    loaded: Loaded, popular: Sequence[tuple[str, float]], filters: Filters, count: int
) -> tuple[list[Ranked], Basis]:
    """What is taken most; before anything is, what the catalogue is about."""
    found = _admitted(loaded, (Ranked(*one) for one in popular), filters, count)
    if len(found) >= count:
        return found, "popularity"
    typical = loaded.index.search("", loaded.middle, count + len(found), filters, 1.0)
    already = {one.product_id for one in found}
    rest = [Ranked(one.product_id, 0.0 if found else one.score) for one in typical if one.product_id not in already]
    return [*found, *rest][:count], "popularity" if found else "typical"


def _admitted(loaded: Loaded, ranked: Iterable[Ranked], filters: Filters, count: int) -> list[Ranked]:
    """The first `count` that are still sold and pass the filters."""
    found: list[Ranked] = []
    for one in ranked:
        if len(found) == count:
            break
        try:
            product = loaded.index.product(one.product_id)
        except KeyError:
            continue
        if filters.admit(product):
            found.append(one)
    return found


def _diverse(loaded: Loaded, ranked: Sequence[Ranked], k: int, diversity: float) -> list[Ranked]:
    """Maximal marginal relevance (Carbonell & Goldstein 1998): each is the best of what is unlike those before it.

    Scores are brought to [0, 1] first, so that they weigh against cosines.
    """
    if not ranked:
        return []
    vectors = loaded.of_products([one.product_id for one in ranked])
    scores = np.array([one.score for one in ranked])
    scores = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-9)
    likeness = np.zeros(len(ranked), np.float32)  # to the likest of those chosen
    chosen: list[int] = []
    left = np.ones(len(ranked), bool)
    for _ in range(min(k, len(ranked))):
        worth = np.where(left, (1 - diversity) * scores - diversity * likeness, -np.inf)
        best = int(worth.argmax())
        chosen.append(best)
        left[best] = False
        likeness = np.maximum(likeness, vectors @ vectors[best])
    return [ranked[i] for i in chosen]


async def brands(service: Service, request: BrandsRequest) -> Brands:
    shopper = service.shopper(request.user_id)
    events = await history(service, shopper)
    taken = [event.product_id for event in events] + request.history
    async with service.answering(shopper) as loaded:
        if request.query is not None:
            vector = await loaded.encode(request.query)
        else:
            vectors = loaded.of_products(taken)
            if not len(vectors):
                raise Problem(404, "nothing is known of this shopper", "give a history, or send events first")
            vector = mean(vectors)
        found = await service.searched(lambda: loaded.parts.brands.top(request.query or "", vector, request.k))
        made = [Brand(name=name, score=round(score, 6), about=loaded.parts.brands.about(name)) for name, score in found]
        return Brands(brands=made, bundle=loaded.version)
