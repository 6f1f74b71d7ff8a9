"""What the bundle holds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from synthrec.config.base import Fraction, Settings


class Package(Settings):
    """What the bundle holds."""

    encoder: Literal["auto", "int8", "float32", "static"] = Field(
        "auto",
        description="auto: int8 if judgments show that it costs no more than max_loss, else float32; "
        "static: a vector a token, the fastest and the least exact",
    )
    max_loss: Fraction = Field(0.01, description="auto: share of NDCG@10 that int8 may cost on the queries to tune on")
    brands: bool = Field(True, description="also a search over brands, where products have some")
    settled: Annotated[int, Field(ge=0)] = Field(
        0, description="live changes up to this revision (`revision` of /v1/bundle) are in the shop's files by now"
    )
    max_replies: Annotated[int, Field(ge=0)] = Field(
        20_000, description="past replies to find answers among, the latest; 0: none, nor in an encrypted run"
    )
