"""Shoppers: what they did, what is known of them, what they may want."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, model_validator

from serve_app.schemas.common import Count, Filters, Hit, Hits, Id, Query, Request, Share, UserId

Kind = Literal["view", "cart", "purchase"]
Basis = Literal["model", "text", "popularity", "typical"]


class RecommendRequest(Request):
    """With a shopper, with products taken, with both or with neither."""

    user_id: UserId | None = None
    history: Annotated[
        list[Id], Field(max_length=200, description="products taken, oldest first; after what is known of the shopper")
    ] = []
    k: Count = 10
    filters: Filters = Filters()
    filter_viewed: Annotated[
        bool | None,
        Field(
            description="leave out what the shopper has taken, of the last 200 events; null: as the model was judged"
        ),
    ] = None
    diversity: Annotated[Share, Field(description="0: the best; towards 1: less like each other (MMR)")] = 0.0


class RecommendBatch(Request):
    shoppers: Annotated[list[RecommendRequest], Field(min_length=1, max_length=64)]


class Recommended(Hits):
    basis: Annotated[
        Basis,
        Field(
            description="model: the trained recommender; text: likeness to what was taken; "
            "popularity: nothing is known of the shopper; typical: nor has anybody taken anything yet"
        ),
    ]


class RecommendedBatch(BaseModel):
    replies: Annotated[list[Recommended], Field(description="in the order of the requests")]


class BrandsRequest(Request):
    """For a query, or for a shopper by id, history or both; not for a query and a shopper."""

    query: Query | None = None
    user_id: UserId | None = None
    history: Annotated[list[Id], Field(max_length=200)] = []
    k: Count = 5

    @model_validator(mode="after")
    def _something(self) -> BrandsRequest:
        if (self.query is None) == (self.user_id is None and not self.history):
            raise ValueError("give either a query, or a shopper by user_id or history")
        return self


class Brand(BaseModel):
    name: str
    score: float
    about: Annotated[str | None, Field(description="a sentence on it, where the bundle has one")] = None


class Brands(BaseModel):
    brands: list[Brand]
    bundle: str


def _been(at: datetime | None) -> datetime | None:
    """Clocks differ; but who is a day ahead would be the shopper's latest for as long."""
    try:
        if at is not None and at.astimezone(UTC) > datetime.now(UTC) + timedelta(days=1):
            raise ValueError("that is yet to come")
    except OverflowError:
        raise ValueError("no such time in UTC") from None
    return at


class Event(Request):
    event_id: Annotated[Id, Field(description="the sender's own; one that is sent twice counts once")]
    user_id: UserId
    product_id: Id
    kind: Kind
    at: Annotated[
        AwareDatetime | None,
        Field(description="with a time zone, at most a day ahead; null: now"),
        AfterValidator(_been),
    ] = None


class EventsRequest(Request):
    events: Annotated[list[Event], Field(min_length=1, max_length=1000)]


class Kept(BaseModel):
    """Given after it is safe on disk."""

    received: int
    new: Annotated[int, Field(description="less those that were known already")]


class FeedbackRequest(Request):
    """What a shopper or the staff said of a result."""

    about: Literal["search", "recommend", "similar", "brands", "reply"]
    verdict: Literal["good", "bad"]
    request_id: Annotated[str | None, Field(max_length=64, description="the reply's X-Request-ID")] = None
    query: Query | None = None
    product_id: Id | None = None
    user_id: UserId | None = None
    comment: Annotated[str | None, Field(max_length=2000, description="personal data in it is masked")] = None


class ProfileRequest(Request):
    """By id, history or both."""

    user_id: UserId | None = None
    history: Annotated[list[Id], Field(max_length=200)] = []

    @model_validator(mode="after")
    def _somebody(self) -> ProfileRequest:
        if self.user_id is None and not self.history:
            raise ValueError("give user_id, history or both")
        return self


class Taste(BaseModel):
    name: str
    share: Annotated[float, Field(description="of what the shopper took; later counts more")]


class PriceRange(BaseModel):
    least: float
    median: float
    most: float


class Profile(BaseModel):
    """What is known of a shopper, by the last 200 events."""

    words: Annotated[str, Field(description="the same in a sentence, in the language of most products taken")]
    events: Annotated[dict[Kind, int], Field(description="how often which")]
    categories: list[Taste]
    brands: list[Taste]
    languages: list[Taste]
    price: PriceRange | None
    first: datetime | None
    last: datetime | None
    latest: Annotated[list[Hit], Field(description="products taken last, latest first; score is 0")]
    bundle: str


class ForgetRequest(Request):
    user_id: UserId


class Forgotten(BaseModel):
    rows: Annotated[int, Field(description="events and feedback erased")]
