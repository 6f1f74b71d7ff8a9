"""What a search for better settings tries of each."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from synthrec.config.base import Settings


class Between(Settings):
    """Drawn from `low` to `high`, both of which may come; whole numbers where both are."""

    low: int | float
    high: int | float
    log: bool = Field(False, description="evenly over orders of magnitude")

    @model_validator(mode="after")
    def _rises(self) -> Between:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is set")
        return self


Space = dict[str, Between | Annotated[list[Any], Field(min_length=1)]]  # a list: one of these


class Searchable(Settings):
    """Settings that `synthrec tune` can look for. A subclass has its own `search` by default."""

    search: Space = Field({}, description="what `synthrec tune` tries: of each setting a list, or {low, high, log}")

    @model_validator(mode="after")
    def _finds_settings(self) -> Searchable:
        for name, axis in self.search.items():
            if name not in type(self).model_fields or name in ("search", "epochs"):
                raise ValueError(f"search: '{name}' is no setting to search for")
            for value in [axis.low, axis.high] if isinstance(axis, Between) else axis:
                try:
                    self.having({name: value})
                except ValidationError as error:
                    raise ValueError(f"search.{name}: {value!r}: {error.errors()[0]['msg']}") from None
        return self

    def having(self, values: dict[str, Any]) -> Any:
        """The same with other values, and nothing to search. Raises: ValidationError."""
        return type(self).model_validate(self.model_dump() | values | {"search": {}})

    def own(self) -> dict[str, Any]:
        """What of it makes a model: all but the search."""
        return self.model_dump(exclude={"search"})
