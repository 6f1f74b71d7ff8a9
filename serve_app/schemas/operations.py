"""The catalogue, and running the service."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from serve_app.schemas.common import Id, Name, Request
from synthrec.sources.records import sayable

Version = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$",
        description="the folder's name beneath the served bundles' root",
        examples=["169e0b6003d9"],
    ),
]


class Product(Request):
    """In place of all that was known of it: a field that is left out is empty then."""

    product_id: Id
    title: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(sayable)]
    description: Annotated[str, Field(max_length=20_000)] = ""
    brand: Name | None = None
    category: Name | None = None
    attributes: Annotated[dict[Name, Annotated[str, Field(max_length=1000)]], Field(max_length=100)] = {}
    price: Annotated[float, Field(ge=0)] | None = None
    language: Annotated[str | None, Field(max_length=16, description="null: as the text reads")] = None


class ProductsRequest(Request):
    upsert: Annotated[list[Product], Field(max_length=500)] = []
    delete: Annotated[list[Id], Field(max_length=5000, description="ids; those of the bundle, too")] = []


class Changed(BaseModel):
    """Given after it is safe on disk and searchable here; other replicas follow within two seconds."""

    upserted: int
    deleted: int
    revision: Annotated[int, Field(description="GET /v1/bundle tells which one a replica has reached")]


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    status: Literal["ready"] = "ready"
    bundle: str
    products: int


class BundleInfo(BaseModel):
    """What is being served."""

    version: str
    name: str
    made: str | None
    system: str
    products: Annotated[int, Field(description="that can be found now, live changes included")]
    revision: Annotated[int, Field(description="of the last live change that is searchable here")]
    encoder: dict[str, Any] | None
    recommender: dict[str, Any] | None
    parts: Annotated[list[str], Field(description="what the bundle holds beside search")]
    metrics: Annotated[dict[str, Any], Field(description="on the queries that no tuning saw")]
    lineage: Annotated[dict[str, str], Field(description="stage: fingerprint of what made it")]


class SwapRequest(Request):
    """Everybody gets the new version; or a share of the shoppers does; or it only answers in the shadow."""

    version: Version
    percent: Annotated[float, Field(gt=0, le=100, description="of the shoppers; 100: swap")] = 100
    shadow: Annotated[
        bool, Field(description="answer the same requests on the side, for the report; shoppers see none of it")
    ] = False


class Rollout(BaseModel):
    bundle: str
    previous: Annotated[str | None, Field(description="where a rollback goes")]
    candidate: str | None
    percent: float
    shadow: bool


class Arm(BaseModel):
    """How one version did on this replica since the rollout began."""

    requests: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None


class Report(BaseModel):
    rollout: Rollout
    arms: Annotated[dict[str, Arm], Field(description="by version")]
    compared: Annotated[int, Field(description="searches that both versions answered, in the shadow")]
    overlap: Annotated[float | None, Field(description="mean share of the first ten that both show")]
    same_first: Annotated[float | None, Field(description="share whose first hit is the same")]
