"""Typed answers: a JSON object with named fields, decoded under a schema where the engine can, checked in any case."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from synthrec.tasks.base import Rejection

TEXT = Annotated[str, Field(min_length=1, max_length=80)]
TYPES: dict[str, Any] = {
    "string": TEXT,
    "strings": Annotated[list[TEXT], Field(min_length=1, max_length=4)],
    "number": Annotated[float, Field(allow_inf_nan=False)],
    "integer": int,
    "boolean": bool,
}


@dataclass(frozen=True)
class Typed:
    """Fields by name: a type of TYPES, or the list of values that one may have."""

    fields: dict[str, str | list[str]]

    @cached_property
    def _model(self) -> type[BaseModel]:
        # Each type is one of TYPES or a Literal made here, which no checker can know beforehand.
        # Names are aliases: pydantic would drop a field called _x or model_config.
        types: dict[str, Any] = {
            f"f{place}": (TYPES[kind] if isinstance(kind, str) else Literal[tuple(kind)], Field(alias=name))
            for place, (name, kind) in enumerate(self.fields.items())
        }
        return create_model("Answer", __config__=ConfigDict(extra="forbid", title=None), **types)

    @cached_property
    def schema(self) -> str:
        """The JSON schema, as text."""
        return json.dumps(_plain(self._model.model_json_schema()), ensure_ascii=False)

    def read(self, text: str) -> dict[str, Any] | Rejection:
        """The fields of an answer, or what is wrong with it."""
        try:
            return self._model.model_validate_json(text.strip(), strict=False).model_dump(by_alias=True)
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] == "json_invalid":
                return Rejection("not JSON", str(first["msg"]))
            return Rejection("not of the schema", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Without titles, which say nothing and which some engines' grammars do not know."""
    return {
        k: _plain(v) if isinstance(v, dict) else v for k, v in schema.items() if k != "title" or isinstance(v, dict)
    }


def flat(values: dict[str, Any]) -> dict[str, str]:
    """Typed values as the strings of a map column: text as it is, all else as JSON."""
    return {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in values.items()}
