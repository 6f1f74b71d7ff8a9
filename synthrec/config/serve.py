"""The endpoint."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from synthrec.config.base import Counts, Fraction, Positive, Settings


class Index(Settings):
    """The index that the endpoint searches."""

    exact: Annotated[int, Field(ge=0)] = Field(20_000, description="products up to which vectors are compared with all")
    delta: Positive = Field(2_000, description="live changes that start a new snapshot")
    vectors: Annotated[str, Field(pattern=r"^qdrants?://[^/?#@\s]+(/[A-Za-z0-9_-]+)?$")] | None = Field(
        None,
        description="who finds the bundle's nearest vectors; null: each replica; qdrant://host:6333/prefix: a Qdrant "
        "server (qdrants: TLS), whose collections have names with this prefix",
    )


class Serve(Settings):
    """The endpoint."""

    host: str = Field("127.0.0.1", description="a wider address than loopback needs `keys`")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="0: any free one")
    proxies: Literal["head", "every node"] = Field(
        "head", description="where requests come in: at the head, or at every node that has a replica"
    )
    keys: str | None = Field(None, description="file of API keys (`synthrec keys add`); null: loopback only, open")
    store: str | None = Field(
        None, description="where events and live products are kept; null: SQLite in the run directory"
    )
    index: Index = Index()
    replicas: Counts = Field((1, 2), description="fewest and most that answer requests")
    encoder: Literal["inside", "apart"] = Field(
        "inside", description="queries are encoded in the replicas that answer, or in replicas of their own, as on GPUs"
    )
    encoder_replicas: Counts = Field((1, 2), description="apart: fewest and most")
    cpus: Annotated[float, Field(gt=0)] = Field(0.5, description="set aside for a replica")
    encoder_gpus: Annotated[float, Field(ge=0)] = Field(0, description="apart: of an encoder's replica")
    max_ongoing_requests: Positive = Field(10, description="worked on at once by a replica")
    max_queued_requests: Annotated[int, Field(ge=0)] = Field(
        2, description="waiting at a replica; who comes then gets 503 and Retry-After"
    )
    target_ongoing_requests: Annotated[float, Field(gt=0)] = Field(
        8, description="a replica; above it Ray starts more of them"
    )
    retry_after_seconds: Positive = Field(1, description="what a 503 asks to wait")
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(10, description="a request; then 504")
    drain_seconds: Annotated[float, Field(ge=0)] = Field(20, description="for what a stopping replica has in hand")
    batch_size: Positive = Field(32, description="queries encoded together")
    cached_queries: Annotated[int, Field(ge=0)] = Field(
        10_000, description="asked last, whose vectors a replica keeps, 1.5 KB each at width 384; 0: none"
    )
    batch_wait_seconds: Annotated[float, Field(ge=0)] = Field(0.005, description="apart: to wait for a batch to fill")
    rerank_depth: Positive = Field(20, description="hits that the cross-encoder reads, where a search asks for it")
    max_body_bytes: Positive = Field(1_000_000, description="of a request; more is 413")
    max_json_depth: Positive = Field(16, description="levels of a request's JSON; more is 400")
    rate: Annotated[float, Field(gt=0)] = Field(
        200, description="requests a second of a key, at each replica; each of a batch counts"
    )
    burst_seconds: Annotated[float, Field(gt=0)] = Field(2, description="of unused rate that a key may save up")
    poll_seconds: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="between a replica's looks for changed products and bundles"
    )
    floor: Fraction | None = Field(None, description="NDCG@10 below which a bundle is refused; null: none")
    log_queries: bool = Field(False, description="log what was searched, personal data masked")
