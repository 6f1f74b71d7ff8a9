"""The five kinds of record that a shop gives: what each must hold, and what is forgiven."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from synthrec.sources.cleaning import left

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def plain(value: Any) -> Any:
    """What a cell says: a column with gaps makes 4711 the float 4711.0, and NaN is what some writers make of a gap."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


def _text(value: Any) -> Any:
    """Numbers are fine as text (ids often are); lists and objects are not."""
    value = plain(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _listed(value: Any) -> Any:
    """A list, a JSON list in a cell, or `a|b|c`."""
    if isinstance(value, str):
        return json.loads(value) if value.startswith("[") else [v for v in value.split("|") if v]
    return [] if value is None else value


def _mapped(value: Any) -> Any:
    """A map, a JSON object in a cell, or Arrow's list of pairs; absent and null values are left out."""
    if isinstance(value, str):
        value = json.loads(value) if value.strip() else {}
    if isinstance(value, list | tuple):
        value = dict(_pair(one) for one in value)
    if not isinstance(value, dict):
        return value or {}
    return {k: _said(told) for k, v in value.items() if (told := plain(v)) is not None}


def _pair(one: Any) -> tuple[Any, Any]:
    """A name and its value: Arrow's pair, or an object that says which is which."""
    if isinstance(one, dict) and len(one) == 2 and (names := {"name", "key"} & set(one)) and "value" in one:
        return one[names.pop()], one["value"]
    if isinstance(one, list | tuple) and len(one) == 2:
        return one[0], one[1]
    raise ValueError('an attribute in a list is [name, value] or {"name": ..., "value": ...}')


def _said(value: Any) -> str:
    """A value in words; of several, all of them."""
    return ", ".join(map(_said, value)) if isinstance(value, list | tuple) else str(value)


def tag(value: Any) -> Any:
    """A language as prompts and filters know it: `en-US` and `EN` are en, `zh_CN` is zh (BCP 47's first part)."""
    value = _none_if_blank(value)
    return value.strip().replace("_", "-").split("-")[0].lower() if isinstance(value, str) else value


def _utc(value: datetime) -> datetime:
    """In UTC. Raises ValueError where that is before the year 1, as an unset date is in zones east of Greenwich."""
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"no date: {error}") from None


def _none_if_blank(value: Any) -> Any:
    value = plain(value)
    return None if isinstance(value, str) and not value.strip() else value


def sayable(value: str) -> str:
    """The text as it came: it is cleaned when it is used. Raises ValueError where cleaning leaves nothing of it."""
    left(value)
    return value


def one_line(value: str) -> str:
    """An id as it came. Raises ValueError where it would break a line: it stands in tables and logs."""
    if CONTROL.search(value):
        raise ValueError("it holds control characters")
    return value


Id = Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=512), AfterValidator(one_line)]
Text = Annotated[str, BeforeValidator(_text), Field(min_length=1), AfterValidator(sayable)]
Time = Annotated[datetime, AfterValidator(_utc)]
# Bounds stand on the number itself: on `float | None` they would be tried on None too.
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rating = Annotated[int, Field(ge=1, le=5)]


class Record(BaseModel):
    """Columns that no model names are ignored: shops' files hold many."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)


class Product(Record):
    product_id: Id
    title: Text
    description: Annotated[str, BeforeValidator(lambda v: "" if (told := _text(v)) is None else told)] = ""
    brand: Annotated[str | None, BeforeValidator(_none_if_blank)] = None
    category: Annotated[str | None, BeforeValidator(_none_if_blank)] = None
    attributes: Annotated[dict[str, str], BeforeValidator(_mapped)] = {}
    price: Annotated[Price | None, BeforeValidator(_none_if_blank)] = None
    language: Annotated[str | None, BeforeValidator(tag)] = None


class Review(Record):
    review_id: Id
    product_id: Id
    text: Text
    rating: Annotated[Rating | None, BeforeValidator(_none_if_blank)] = None
    user_id: Annotated[Id | None, BeforeValidator(_none_if_blank)] = None
    timestamp: Annotated[Time | None, BeforeValidator(_none_if_blank)] = None
    language: Annotated[str | None, BeforeValidator(tag)] = None


class Search(Record):
    search_id: Id
    query: Text
    user_id: Annotated[Id | None, BeforeValidator(_none_if_blank)] = None
    clicks: Annotated[list[Id], BeforeValidator(_listed)] = []
    timestamp: Annotated[Time | None, BeforeValidator(_none_if_blank)] = None
    language: Annotated[str | None, BeforeValidator(tag)] = None


class Interaction(Record):
    user_id: Id
    product_id: Id
    event: Literal["view", "cart", "purchase"]
    timestamp: Time


class Turn(Record):
    role: Literal["shopper", "agent"]
    text: Text


class Dialogue(Record):
    dialogue_id: Id
    turns: Annotated[list[Turn], BeforeValidator(_listed), Field(min_length=1)]
    user_id: Annotated[Id | None, BeforeValidator(_none_if_blank)] = None
    product_id: Annotated[Id | None, BeforeValidator(_none_if_blank)] = None
    timestamp: Annotated[Time | None, BeforeValidator(_none_if_blank)] = None
    language: Annotated[str | None, BeforeValidator(tag)] = None


KINDS: dict[str, type[Record]] = {
    "products": Product,
    "reviews": Review,
    "searches": Search,
    "interactions": Interaction,
    "dialogues": Dialogue,
}


def required(kind: str) -> list[str]:
    return [name for name, field in KINDS[kind].model_fields.items() if field.is_required()]


def problem(error: ValidationError, hide: Callable[[str], str]) -> str:
    """`rating: Input should be a valid integer (it is 'five')`, for the first fault; `hide` clears the value of
    personal data, and a user id is never told."""
    one = error.errors()[0]
    silent = one["type"] == "missing" or one["loc"][:1] == ("user_id",)
    value = "" if silent else f" (it is {hide(repr(one['input'])):.60})"
    return f"{'.'.join(str(p) for p in one['loc'])}: {one['msg']}{value}"
