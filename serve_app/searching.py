"""Answers to searches, and to products: what is like them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from serve_app.loaded import Loaded
from serve_app.logs import fact
from serve_app.problems import Problem, absent
from serve_app.schemas.common import Hit, Hits, Why
from serve_app.schemas.search import LabelScores, Replies, SearchRequest, SimilarRequest, SuggestedReply
from serve_app.service import Service
from synthrec.live.index import Found
from synthrec.retrieval.tokens import words

if TYPE_CHECKING:
    from synthrec.recommenders.cross_encoder import CrossEncoder

SHOWN = ("title", "brand", "category", "price", "language")
HIT = ("product_id", *SHOWN)
LEARNT = 3  # queries of the LLM that a hit shows
Searched = Callable[[Callable[[], list[Hit]]], Awaitable[list[Hit]]]
DEEPEST = 1_000  # hits; deeper pages are for crawlers, who should read the catalogue


class Ranked(NamedTuple):
    """A product of a ranking that another than the index made."""

    product_id: str
    score: float


async def search(service: Service, request: SearchRequest) -> Hits:
    fact(chars=len(request.query), **({"query": request.query} if service.settings.log_queries else {}))
    if request.page * request.k > DEEPEST:
        raise Problem(422, f"#/page: a search goes {DEEPEST} hits deep", "narrow it by filters")
    async with service.answering(service.shopper(request.user_id)) as loaded:
        found = await _found(service, loaded, request)

    async def again(other: Loaded) -> list[str]:
        return [hit.product_id for hit in (await _found(service, other, request, service.aside)).hits]

    if request.page == 1:
        service.shadow(again, [hit.product_id for hit in found.hits])
    return found


async def _found(service: Service, loaded: Loaded, request: SearchRequest, searched: Searched | None = None) -> Hits:
    """Args:
    searched: where the index is searched; None: where all are.
    """
    vector = await loaded.encode(request.query) if loaded.wants_vector(request.query, request.weight) else None
    reranker = loaded.bundle.reranker
    if request.rerank and reranker is None:
        raise absent("a reranker", "train one: add cross_encoder to train.models, and package again")
    first, last = (request.page - 1) * request.k, request.page * request.k
    depth = max(request.k, service.settings.rerank_depth)  # the same for every page: none repeats another's

    def found(start: int, count: int) -> list[Found]:
        filters = request.filters.plain()
        return loaded.index.search(request.query, vector, count, filters, request.weight, start, request.explain)

    def work() -> list[Hit]:
        if not request.rerank or reranker is None or first >= depth:
            return hits(loaded, found(first, request.k), request.query if request.explain else None)
        some = found(0, max(depth, last))
        reranked = _reranked(loaded, reranker, request, some[:depth])
        rest = hits(loaded, some[depth:], request.query if request.explain else None)
        return [*reranked, *rest][first:last]

    return Hits(hits=await (searched or service.searched)(work), bundle=loaded.version)


def _reranked(loaded: Loaded, reranker: CrossEncoder, request: SearchRequest, found: Sequence[Found]) -> list[Hit]:
    """The found as the cross-encoder orders them, by its scores; what was deleted since is left out."""
    there = []
    for one in found:
        with suppress(KeyError):
            there.append((one, loaded.index.product(one.product_id)))
    made = []
    for place, score in reranker.rerank(request.query, [row["text"] for _, row in there]):
        one, row = there[place]
        made.append(hit(row, score, _why(loaded, one, request.query, reranked=True) if request.explain else None))
    return made


def hits(loaded: Loaded, found: Iterable[Found | Ranked], explained: str | None = None) -> list[Hit]:
    """With what a shop page shows; a product that was deleted since is left out.

    Args:
        explained: the query that each hit should say why it answers.
    """
    made = []
    for one in found:
        try:
            row = loaded.index.product(one.product_id, HIT)
        except KeyError:
            continue
        why = _why(loaded, one, explained) if explained is not None and isinstance(one, Found) else None
        made.append(hit(row, one.score, why))
    return made


def _why(loaded: Loaded, one: Found, query: str, reranked: bool = False) -> Why:
    terms = set(words(query))
    asked = sorted(loaded.bundle.asked.get(one.product_id, ()), key=lambda text: -len(terms & set(words(text))))
    return Why(
        lexical=one.lexical,
        semantic=one.semantic,
        matched=list(one.matched),
        learnt=asked[:LEARNT],
        reranked=reranked,
    )


def hit(row: dict[str, Any], score: float, why: Why | None = None) -> Hit:
    # Its fields come from a table of these types: to check them again costs a third of a search's time.
    return Hit.model_construct(
        product_id=row["product_id"], score=round(float(score), 6), why=why, **{name: row[name] for name in SHOWN}
    )


async def similar(service: Service, request: SimilarRequest) -> Hits:
    async with service.answering() as loaded:

        def work() -> list[Hit]:
            try:
                product = loaded.index.product(request.product_id, ("language",))
                filters = request.filters
                if request.same_language and not filters.language:
                    filters = filters.model_copy(update={"language": [product["language"]]})
                found = loaded.index.similar(request.product_id, request.k, filters.plain(), request.diversity)
            except KeyError:
                raise unknown(request.product_id) from None
            return hits(loaded, found)

        return Hits(hits=await service.searched(work), bundle=loaded.version)


def unknown(product_id: str) -> Problem:
    return Problem(404, f"there is no product {product_id!r}", "`POST /v1/products` adds one")


async def labels(service: Service, text: str, about: str) -> tuple[dict[str, LabelScores], str]:
    """What the classifier says of a text, on the questions of one task, and the version that says it."""
    async with service.answering() as loaded:
        classifier = loaded.bundle.classifier
        tasks = [name for name in classifier.tasks if name.partition(".")[0] == about] if classifier else []
        if classifier is None or not tasks:
            raise absent(
                f"a classifier of {about}", f"have the LLM label it (synthesize.tasks.{about}), and package again"
            )
        found = await service.searched(partial(classifier.of_texts, [text]))
        made = {}
        for name in tasks:
            scores = dict(zip(classifier.tasks[name], map(float, found[name][0]), strict=True))
            made[name] = LabelScores(label=max(scores, key=scores.__getitem__), scores=scores)
        return made, loaded.version


async def replies(service: Service, turns: list[str], k: int) -> Replies:
    async with service.answering() as loaded:
        past = loaded.bundle.replies
        if past is None:
            raise absent("past replies", "give sources.dialogues, and package again")
        vector = await loaded.encode(turns[-1])
        found = await service.searched(lambda: past.top(turns, k, encode=lambda texts: vector[None]))
        made = [SuggestedReply(text=loaded.said[one], score=score, source=one) for one, score in found]
        return Replies(replies=made, bundle=loaded.version)
