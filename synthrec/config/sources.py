"""The shop's files, and how they are read."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from synthrec.config.base import Fraction, Positive, Settings


def _known(encoding: str) -> str:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError("no such text encoding; there are utf-8, gb18030, big5, latin-1 and others") from None
    return encoding


class Source(Settings):
    """Files of one kind of record."""

    path: str = Field(description="a file, a folder, or a glob, on any pyarrow filesystem")
    format: Literal["auto", "parquet", "csv", "jsonl"] = Field("auto", description="auto: by the file's name")
    encoding: Annotated[str, AfterValidator(_known)] = Field("utf-8", description="of CSV and JSONL")
    columns: dict[str, str] = Field({}, description="our name: the column's name in your files")


class Sources(Settings):
    """The shop's files. Products are needed; the rest may be left out."""

    products: Source = Field(description="product_id, title, description, brand, category, attributes, price, language")
    reviews: Source | None = Field(
        None, description="review_id, product_id, text, rating, user_id, timestamp, language"
    )
    searches: Source | None = Field(None, description="search_id, query, clicks, user_id, timestamp, language")
    interactions: Source | None = Field(
        None, description="user_id, product_id, event (view, cart, purchase), timestamp"
    )
    dialogues: Source | None = Field(None, description="dialogue_id, turns (role, text), user_id, product_id, ...")

    def given(self) -> dict[str, Source]:
        return {name: source for name in type(self).model_fields if (source := getattr(self, name)) is not None}


class Prepare(Settings):
    """Reading and checking the shop's files."""

    max_field_chars: Positive = Field(20_000, description="a row with a longer text is refused")
    max_reject_rate: Fraction = Field(0.5, description="above it the files are not what this config says, and we stop")
