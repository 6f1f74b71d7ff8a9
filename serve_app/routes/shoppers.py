"""Shoppers: recommendations, what they did, what is known of them."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter

from serve_app import profiles, recommending
from serve_app.logs import fact
from serve_app.routes.common import Charge, Serving, problems, together
from serve_app.schemas.shoppers import (
    EventsRequest,
    FeedbackRequest,
    Kept,
    Profile,
    ProfileRequest,
    RecommendBatch,
    Recommended,
    RecommendedBatch,
    RecommendRequest,
)
from synthrec.privacy.written import blanked
from synthrec.stores import WEIGHTS, Event

router = APIRouter(prefix="/v1", tags=["shoppers"], responses=problems(404))


@router.post("/recommend")
async def recommend(request: RecommendRequest, service: Serving) -> Recommended:
    """What a shopper may want next. Events count at once; without a shopper, what most people take."""
    return await recommending.recommend(service, request)


@router.post("/recommend/batch")
async def recommend_batch(request: RecommendBatch, service: Serving, charge: Charge) -> RecommendedBatch:
    """For several shoppers in one request. One that is wrong is the whole request's error, which names it."""
    work = [recommending.recommend(service, one) for one in request.shoppers]
    return RecommendedBatch(replies=await together("shoppers", work, charge))


@router.post("/profile")
async def profile(request: ProfileRequest, service: Serving) -> Profile:
    """What is known of a shopper, in fields and in a sentence."""
    return await profiles.profile(service, request)


@router.post("/events")
async def events(request: EventsRequest, service: Serving) -> Kept:
    """What shoppers did. The reply comes when it is safe on disk; the next /v1/recommend knows it."""
    now = datetime.now(UTC)
    rows = [
        Event(
            event_id=one.event_id,
            user_id=str(service.shopper(one.user_id)),
            product_id=one.product_id,
            kind=one.kind,
            at=one.at or now,
            weight=WEIGHTS[one.kind],
        )
        for one in request.events
    ]
    new = await service.stored(lambda: service.store.add_events(rows))
    fact(events=len(rows))
    return Kept(received=len(rows), new=new)


@router.post("/feedback")
async def feedback(request: FeedbackRequest, service: Serving) -> Kept:
    """What a shopper or the staff said of a result: kept for the next training, personal data masked."""
    row = request.model_dump(exclude_none=True) | {"at": datetime.now(UTC).isoformat()}
    row |= {name: blanked(row[name]) for name in ("query", "comment") if name in row}
    if request.user_id is not None:
        row["user_id"] = service.shopper(request.user_id)
    new = await service.stored(lambda: service.store.add_feedback([row]))
    return Kept(received=1, new=new)
