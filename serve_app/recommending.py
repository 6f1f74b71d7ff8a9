"""What a shopper may want next: by the trained recommender, by likeness, or by what others take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np

from serve_app.batching import Vector
from serve_app.loaded import Loaded
from serve_app.problems import Problem
from serve_app.schemas.shoppers import (
    Basis,
    Brand,
    Brands,
    BrandsRequest,
    ProfileRequest,
    Recommended,
    RecommendRequest,
)
from serve_app.searching import Ranked, hits
from serve_app.service import Service
from synthrec.recommenders.brands import mean
from synthrec.retrieval.filters import Filters
from synthrec.retrieval.ranking import diverse
from synthrec.stores import Event

REMEMBERED = 200  # events of a shopper that are read
RECENT = 3  # products that likeness goes by, each weighing half of the one after it: as it was judged
POOL = 5  # times k: what diversity chooses among
SAMPLE = 1_000  # products that the spread of likeness is estimated from


async def recommend(service: Service, request: RecommendRequest) -> Recommended:
    shopper, events, taken = await known(service, request)
    async with service.answering(shopper) as loaded:
        steps = _steps(loaded, events, request.history) or taken
        recent = _recent(loaded, steps)
        popular = await service.popular() if recent is None else []
        return await service.searched(lambda: _recommended(loaded, taken, steps, recent, popular, request))


async def known(
    service: Service, request: RecommendRequest | BrandsRequest | ProfileRequest
) -> tuple[str | None, list[Event], list[str]]:
    """(pseudonym, the store's events, products taken by the store and by the request) of a shopper, oldest first."""
    shopper = service.shopper(request.user_id)
    events = [] if shopper is None else await service.stored(lambda: service.store.history(shopper, REMEMBERED))
    return shopper, events, [event.product_id for event in events] + request.history


def _steps(loaded: Loaded, events: Sequence[Event], history: Sequence[str]) -> list[str]:
    """A shopper's steps, as the recommender learnt them: of its kinds, and once what comes twice in a row."""
    products = [event.product_id for event in events if event.kind in loaded.events]
    return [product for product, _ in groupby([*products, *history])]


def _recommended(
    loaded: Loaded,
    taken: Sequence[str],
    steps: Sequence[str],
    recent: Vector | None,
    popular: Sequence[tuple[str, float]],
    request: RecommendRequest,
) -> Recommended:
    viewed = loaded.filters_viewed if request.filter_viewed is None else request.filter_viewed
    filters = request.filters.plain(*(dict.fromkeys(taken) if viewed else ()))
    count = request.k * POOL if request.diversity else request.k
    if recent is None:
        ranked, basis = _popular(loaded, popular, filters, count)
    else:
        ranked, basis = _ranked(loaded, steps, recent, filters, count)
    if request.diversity:
        ranked = _diverse(loaded, ranked, request.k, request.diversity)
    return Recommended(hits=hits(loaded, ranked[: request.k]), basis=basis, bundle=loaded.version)


def _ranked(
    loaded: Loaded, steps: Sequence[str], vector: Vector, filters: Filters, count: int
) -> tuple[list[Ranked], Basis]:
    alike = [Ranked(one.product_id, one.score) for one in loaded.index.search("", vector, count, filters, 1.0)]
    recommender = loaded.recommender
    known = [place for product in steps if (place := loaded.places.get(product)) is not None]
    scores = recommender.scores(np.array(known)) if recommender is not None and known else None
    if scores is None:
        return alike, "text"
    return _merged(loaded, scores, vector, alike, filters, count), "model"


def _recent(loaded: Loaded, steps: Sequence[str]) -> Vector | None:
    """(width,): the last known products taken, by their texts; None where none is known."""
    vectors = loaded.of_products(steps)[-RECENT:]
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
    scores = {one.product_id: one.score for one in ranked}
    return [Ranked(one, scores[one]) for one in loaded.index.passing(scores, count, filters)]


def _diverse(loaded: Loaded, ranked: Sequence[Ranked], k: int, diversity: float) -> list[Ranked]:
    """Scores are brought to [0, 1] first, so that they weigh against cosines."""
    known, vectors = loaded.index.vectors([one.product_id for one in ranked])
    ranked = [one for one, still in zip(ranked, known, strict=True) if still]  # the others were deleted meanwhile
    if not ranked:
        return []
    scores = np.array([one.score for one in ranked], np.float32)
    scores = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-9)
    return [ranked[i] for i in diverse(vectors, scores, k, diversity)]


async def brands(service: Service, request: BrandsRequest) -> Brands:
    shopper, _, taken = await known(service, request)
    async with service.answering(shopper) as loaded:
        if request.query is not None:
            vector = await loaded.encode(request.query)
        else:
            vectors = loaded.of_products(taken)
            if not len(vectors):
                raise Problem(404, "nothing is known of this shopper", "give a history, or send events first")
            vector = mean(vectors)
        found = await service.searched(lambda: loaded.brands.top(request.query or "", vector, request.k))
        made = [Brand(name=name, score=round(score, 6), about=loaded.brands.about(name)) for name, score in found]
        return Brands(brands=made, bundle=loaded.version)
