"""Search, what is like it, and what a text says."""

from __future__ import annotations

from fastapi import APIRouter

from serve_app import recommending, searching
from serve_app.routes.common import Charge, Serving, problems, together
from serve_app.schemas.common import Hits
from serve_app.schemas.search import (
    HitsBatch,
    Labels,
    Replies,
    ReplyRequest,
    SearchBatch,
    SearchRequest,
    SimilarRequest,
    TextRequest,
)
from serve_app.schemas.shoppers import Brands, BrandsRequest

router = APIRouter(prefix="/v1", tags=["search"], responses=problems(404))


@router.post("/search")
async def search(request: SearchRequest, service: Serving) -> Hits:
    """The products that best fit a query, by words and by meaning, in either language."""
    return await searching.search(service, request)


@router.post("/search/batch")
async def search_batch(request: SearchBatch, service: Serving, charge: Charge) -> HitsBatch:
    """Several searches in one request; each is answered as if it came alone. One that is wrong is the whole request's
    error, which names it."""
    work = [searching.search(service, one) for one in request.searches]
    return HitsBatch(replies=await together("searches", work, charge))


@router.post("/similar")
async def similar(request: SimilarRequest, service: Serving) -> Hits:
    """Products like a given one, by what their texts mean."""
    return await searching.similar(service, request)


@router.post("/brands")
async def brands(request: BrandsRequest, service: Serving) -> Brands:
    """Brands for a query, or for a shopper."""
    return await recommending.brands(service, request)


@router.post("/intent")
async def intent(request: TextRequest, service: Serving) -> Labels:
    """What a shopper is after, as the bundle's classifier reads it."""
    tasks, version = await searching.labels(service, request.text, "intent")
    return Labels(tasks=tasks, bundle=version)


@router.post("/sentiment")
async def sentiment(request: TextRequest, service: Serving) -> Labels:
    """How a review judges, as the bundle's classifier reads it."""
    tasks, version = await searching.labels(service, request.text, "sentiment")
    return Labels(tasks=tasks, bundle=version)


@router.post("/reply")
async def reply(request: ReplyRequest, service: Serving) -> Replies:
    """Past replies that would answer a dialogue, best first."""
    return await searching.replies(service, request.turns, request.k)
