"""Which products a search may find: by category, brand, price, language, attributes and id."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthrec.errors import UserError

Mask = NDArray[np.bool_]
Positions = NDArray[np.int32]
Key = tuple[str, str]  # a field, or an attribute's name; a value

PLAIN = ("category", "brand", "language")
_OWN = "attributes."  # before an attribute's name, which may be that of a field
_NONE = np.zeros(0, np.int32)


class FilterError(UserError):
    """A filter that names what there is not, or that cannot be read."""


@dataclass(frozen=True)
class Filters:
    """Products that satisfy every field given; of a field with several values, any one of them.

    Letter case does not matter, but in ids.

    Attributes:
        price: least and most, both included; None is open. A product without a price never passes a price filter.
        attributes: name -> admitted values.
        exclude: product ids that are never found.
    """

    category: tuple[str, ...] = ()
    brand: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    price: tuple[float | None, float | None] = (None, None)
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Filters:
        """From JSON: a value or a list of values a field; price as {"min": 5, "max": 20}, either may be left out."""
        known = [one.name for one in fields(cls)]
        for name in given:
            if name not in known:
                raise FilterError(f"there is no filter {name!r}", f"filter by {', '.join(known)}")
        made: dict[str, Any] = {name: _texts(name, given[name]) for name in (*PLAIN, "exclude") if name in given}
        if "price" in given:
            made["price"] = _range(given["price"])
        if "attributes" in given:
            if not isinstance(given["attributes"], Mapping):
                raise FilterError("the filter attributes is no object", 'write {"attributes": {"colour": ["black"]}}')
            made["attributes"] = {name: _texts(name, values) for name, values in given["attributes"].items()}
        return cls(**made)


class Facets:
    """Where each value of each field is. Immutable.

    Args:
        postings: (field or attribute, folded value) -> ascending positions.
        prices: of each product, NaN where it has none.
    """

    def __init__(self, postings: dict[Key, Positions], prices: NDArray[np.float64]) -> None:
        self._postings, self._prices = postings, prices
        self.attributes = {name.removeprefix(_OWN) for name, _ in postings if name.startswith(_OWN)}

    @classmethod
    def of(cls, catalogue: pa.Table) -> Facets:
        """Of the rows of a catalogue (`schema.CATALOGUE`)."""
        postings: dict[Key, Positions] = {}
        for name in PLAIN:
            column = catalogue[name].combine_chunks()
            _gather(postings, np.arange(len(column)), pa.array([name] * len(column), pa.string()), column)
        attributes = catalogue["attributes"].combine_chunks()
        owners = np.repeat(np.arange(len(attributes)), np.diff(attributes.offsets))
        names = pc.binary_join_element_wise(_OWN, _inside(attributes, attributes.keys), "")
        _gather(postings, owners, names, _inside(attributes, attributes.items))
        prices = catalogue["price"].combine_chunks().to_numpy(zero_copy_only=False).astype(np.float64)
        return cls(postings, prices)

    def plus(self, rows: Sequence[Mapping[str, Any]]) -> Facets:
        """These and more products at the positions that follow."""
        found: dict[Key, list[int]] = {}
        for place, row in enumerate(rows, len(self._prices)):
            pairs = [(name, row[name]) for name in PLAIN if row.get(name)]
            for key in {(name.casefold(), value.casefold()) for name, value in [*pairs, *_attributes(row)]}:
                found.setdefault(key, []).append(place)
        postings = self._postings | {
            key: np.concatenate([self._postings.get(key, _NONE), np.array(places, np.int32)])
            for key, places in found.items()
        }
        prices = [np.nan if row.get("price") is None else float(row["price"]) for row in rows]
        return Facets(postings, np.concatenate([self._prices, np.array(prices, np.float64)]))

    def mask(self, filters: Filters) -> Mask:
        """Which products pass, shape (products,); `exclude` and names of attributes are the caller's to look at."""
        passed = np.ones(len(self._prices), bool)
        wanted = [(name, getattr(filters, name)) for name in PLAIN if getattr(filters, name)]
        wanted += [(_OWN + name, values) for name, values in filters.attributes.items() if values]
        for name, values in wanted:
            one = np.zeros(len(passed), bool)
            for value in values:
                one[self._postings.get((name.casefold(), value.casefold()), _NONE)] = True
            passed &= one
        least, most = filters.price
        if least is not None:
            passed &= self._prices >= least
        if most is not None:
            passed &= self._prices <= most
        return passed

    def check(self, filters: Filters, more: Iterable[str] = ()) -> None:
        """Raise FilterError where a filter names an attribute that no product has, here or among `more`."""
        known = self.attributes | set(more)
        for name in filters.attributes:
            if name.casefold() not in known:
                told = ", ".join(sorted(known)[:20]) or "no product has any"
                raise FilterError(f"no product has the attribute {name!r}", f"attributes: {told}")


def _gather(postings: dict[Key, Positions], owners: NDArray[np.int64], names: pa.Array, values: pa.Array) -> None:
    """Add to `postings` which owner has which value of which name; nulls are none."""
    names, values = names.dictionary_encode(), values.dictionary_encode()
    there = values.indices.is_valid().to_numpy(zero_copy_only=False)
    of_name = names.indices.to_numpy(zero_copy_only=False)[there].astype(np.int64)
    of_value = values.indices.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
    pairs = of_name * (len(values.dictionary) or 1) + of_value
    order = np.argsort(pairs, kind="stable")
    pairs, places = pairs[order], owners[there][order].astype(np.int32)
    starts = np.flatnonzero(np.diff(pairs, prepend=-1))
    ends = np.append(starts, len(pairs))[1:]  # none where nothing has a value
    told_names, told_values = names.dictionary.to_pylist(), values.dictionary.to_pylist()
    for start, end in zip(starts, ends, strict=True):
        name, value = divmod(int(pairs[start]), len(told_values))
        key = told_names[name], told_values[value]
        _join(postings, (key[0].casefold(), key[1].casefold()), places[start:end])


def _join(postings: dict[Key, Positions], key: Key, places: Positions) -> None:
    """Values that differ in case alone are one."""
    known = postings.get(key)
    postings[key] = places if known is None else np.union1d(known, places)


def _inside(attributes: pa.Array, part: pa.Array) -> pa.Array:
    """The keys or values of a map column that belong to its rows: a slice's children are the whole column's."""
    first, last = attributes.offsets[0].as_py(), attributes.offsets[-1].as_py()
    return part.slice(first, last - first)


def _attributes(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A row's attributes as keys, whether they are a dict or Arrow's list of pairs."""
    given = row.get("attributes") or ()
    pairs = given.items() if isinstance(given, Mapping) else given
    return [(_OWN + name, value) for name, value in pairs if value is not None]


def _texts(name: str, given: Any) -> tuple[str, ...]:
    values = [given] if isinstance(given, str) else given
    if not isinstance(values, list | tuple) or not all(isinstance(one, str) for one in values):
        raise FilterError(f"the filter {name} is no text and no list of texts", f'write {{"{name}": ["…"]}}')
    return tuple(values)


def _range(given: Any) -> tuple[float | None, float | None]:
    hint = 'write {"price": {"min": 5, "max": 20}}; either may be left out'
    if not isinstance(given, Mapping) or not set(given) <= {"min", "max"}:
        raise FilterError("the filter price is no range", hint)
    ends = given.get("min"), given.get("max")
    for end in ends:
        if end is not None and (isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end)):
            raise FilterError(f"the filter price has the end {end!r}, which is no number", hint)
    return ends
