"""What requests and replies share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from synthrec.retrieval import filters as retrieval
from synthrec.sources.cleaning import left
from synthrec.sources.records import one_line, tag

# As the catalogue is: full-width letters, markup and odd spaces are no other words.
CLEANED = AfterValidator(left)


Count = Annotated[int, Field(ge=1, le=100, description="how many to return")]
Id = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(one_line)]
UserId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        description="the shop's own id; kept as a pseudonym alone",
        examples=["shopper-2041"],
    ),
]
Query = Annotated[
    str,
    Field(min_length=1, max_length=512, examples=["something to keep soup hot on a hike"]),
    CLEANED,
]
Name = Annotated[str, Field(min_length=1, max_length=256), CLEANED]
Share = Annotated[float, Field(ge=0, le=1)]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)


class Price(Request):
    least: Annotated[float | None, Field(description="in the shop's currency, itself included, as `most`")] = None
    most: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Price:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError("least is more than most")
        return self


class Filters(Request):
    """A product must satisfy every filter; of one with several values, any of them. Letter case does not count. A
    brand or category that no product has finds nothing; an attribute that none has is refused."""

    category: Annotated[list[Name], Field(max_length=100)] = []
    brand: Annotated[list[Name], Field(max_length=100)] = []
    language: Annotated[
        list[Annotated[str, Field(max_length=16)]], Field(max_length=10, description="of the storefront")
    ] = []
    price: Annotated[Price, Field(description="a product without a price passes no such filter")] = Price()
    attributes: Annotated[
        dict[Name, Annotated[list[Name], Field(max_length=100)]],
        Field(max_length=20, description="name: values", examples=[{"colour": ["red"]}]),
    ] = {}
    exclude: Annotated[list[Id], Field(max_length=1000, description="product ids never to return")] = []

    def plain(self, *more: str) -> retrieval.Filters:
        """As retrieval knows them; `more` are excluded too."""
        return retrieval.Filters(
            category=tuple(self.category),
            brand=tuple(self.brand),
            language=tuple(str(tag(one)) for one in self.language),
            price=(self.price.least, self.price.most),
            attributes={name: tuple(values) for name, values in self.attributes.items()},
            exclude=(*self.exclude, *more),
        )


class Why(BaseModel):
    """What a hit's score is made of."""

    lexical: Annotated[float, Field(description="BM25's score")]
    semantic: Annotated[float | None, Field(description="cosine of query and product; null where only words count")]
    matched: Annotated[list[str], Field(description="terms of the query, stemmed, that the product's text holds")]
    learnt: Annotated[
        list[str], Field(description="queries that the LLM wrote for the product, nearest to this one first")
    ] = []
    reranked: Annotated[bool, Field(description="whether the cross-encoder gave the score")] = False


class Hit(BaseModel):
    product_id: str
    score: Annotated[
        float,
        Field(
            description="for the order within this reply alone: BM25, a cosine or a mixture of both, by the weight; "
            "the cross-encoder's for the first hits, if it was asked"
        ),
    ]
    title: str
    brand: str | None
    category: str | None
    price: Annotated[float | None, Field(description="as the shop gave it, in its currency")]
    language: Annotated[str, Field(description="en or zh")]
    why: Why | None = None


class Hits(BaseModel):
    hits: Annotated[list[Hit], Field(description="best first; a page that is not full need not be the last")]
    bundle: Annotated[str, Field(description="the version that answered")]


class ProblemDetails(BaseModel):
    """An error (RFC 9457); media type application/problem+json."""

    type: Annotated[str, Field(examples=["urn:synthrec:problem:invalid"])]
    title: str
    status: int
    detail: Annotated[str, Field(examples=["#/query: Field required"])]
    instance: Annotated[str, Field(description="names the request in the service's log")]
    hint: Annotated[str | None, Field(description="how to mend it")] = None
    errors: Annotated[list[dict[str, str]] | None, Field(description="what is wrong, by JSON pointer")] = None
