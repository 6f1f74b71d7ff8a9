"""Searching and what is like it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from serve_app.schemas.common import CLEANED, Count, Filters, Hits, Id, Query, Request, Share, UserId


class SearchRequest(Request):
    query: Query
    k: Count = 10
    page: Annotated[int, Field(ge=1, le=100, description="of k hits each; at most 1,000 hits deep")] = 1
    filters: Filters = Filters()
    weight: Annotated[
        Share | None, Field(description="of meaning over words; null: as tuned for the query's language")
    ] = None
    rerank: Annotated[bool, Field(description="have a cross-encoder order the first hits")] = False
    explain: Annotated[bool, Field(description="say for each hit why it is there")] = False
    user_id: Annotated[UserId | None, Field(description="keeps a shopper with one version in an A/B test")] = None


class SearchBatch(Request):
    searches: Annotated[list[SearchRequest], Field(min_length=1, max_length=64)]


class HitsBatch(BaseModel):
    replies: Annotated[list[Hits], Field(description="in the order of the requests")]


class SimilarRequest(Request):
    product_id: Id
    k: Count = 10
    same_language: Annotated[bool, Field(description="only products of the same storefront")] = True
    filters: Filters = Filters()
    diversity: Annotated[Share, Field(description="0: the nearest; towards 1: less like each other")] = 0.0


class TextRequest(Request):
    text: Annotated[
        str,
        Field(min_length=1, max_length=4096, examples=["The lid leaks, but it keeps tea hot."]),
        CLEANED,
    ]


class LabelScores(BaseModel):
    label: Annotated[str, Field(description="the likeliest")]
    scores: Annotated[dict[str, float], Field(description="probability of each label")]


class Labels(BaseModel):
    tasks: Annotated[dict[str, LabelScores], Field(description="by question that the classifier was trained on")]
    bundle: str


class ReplyRequest(Request):
    turns: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=2048), CLEANED]],
        Field(
            min_length=1,
            max_length=50,
            description="a dialogue, oldest first, the last one the shopper's",
            examples=[["Does the flask leak?"]],
        ),
    ]
    k: Annotated[int, Field(ge=1, le=20)] = 3


class SuggestedReply(BaseModel):
    text: str
    score: float
    source: Annotated[str, Field(description="id of the past reply that it is")]


class Replies(BaseModel):
    replies: list[SuggestedReply]
    bundle: str
