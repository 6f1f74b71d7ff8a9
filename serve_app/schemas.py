"""Requests and replies of the API, as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, le=100, description="how many products to return")]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class SearchRequest(Request):
    query: Annotated[str, Field(min_length=1, max_length=512, examples=["something to keep soup hot on a hike"])]
    k: Count = 10
    language: Annotated[
        str | None, Field(max_length=16, description="only this storefront's products", examples=["en"])
    ] = None


class SimilarRequest(Request):
    product_id: Annotated[str, Field(min_length=1, max_length=512)]
    k: Count = 10
    same_language: Annotated[bool, Field(description="only products of the same storefront")] = True


class Hit(BaseModel):
    product_id: str
    score: float
    title: str
    brand: str | None
    category: str | None
    price: float | None
    language: str


class Hits(BaseModel):
    hits: list[Hit]


class Health(BaseModel):
    status: str
    bundle: str
    products: int
    system: str
