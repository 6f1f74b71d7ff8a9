"""Queries as people type them: slips of the finger, pinyin, the other Chinese script, words in another order.

Model numbers, sizes, amounts with their units and the product's brand are never changed: they say which
product is meant. Every choice hangs on a hash of the row's id: the same rows give the same variants, in any order.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from synthrec import schema
from synthrec.curation.base import Aids, Outcome, Row
from synthrec.sources.cleaning import HAN

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")  # each row is half a key to the right of the one above
UNITS = (
    "in|inch|inches|ft|feet|cm|mm|m|km|oz|lb|lbs|g|kg|mg|ml|l|qt|quart|gal|w|v|mah|gb|tb|hz|pack|packs|pc|pcs|piece|"
)
UNITS += "pieces|count|ct|pair|pairs|set|cup|cups|watt|volt|litre|liter|year|years|month|months|k|p"
SIZES = "xxs|xs|s|m|l|xl|xxl|xxxl|small|medium|large|mini|size|king|queen|twin"
HAN_SIZES = "特大号|加大号|超大号|大号|中号|小号|加大|大码|小码|均码|加长"
HAN_UNITS = (
    "个|件|只|条|双|套|片|包|袋|盒|瓶|支|根|块|张|米|厘米|毫米|寸|英寸|英尺|匹|升|毫升|斤|公斤|千克|克|瓦|伏|度|"
)
HAN_UNITS += "码|号|人|岁|月|年|层|格|卷|代|装"
PROTECTED = re.compile(
    rf"[A-Za-z.#/+-]*[0-9][0-9A-Za-z.,/×*%\"'+-]*(?:\s*(?:{UNITS})(?![A-Za-z]))?(?:\s*(?:{HAN_UNITS})+)?"  # 500 ml, xm5
    rf"|(?<![A-Za-z])(?:{SIZES})(?![A-Za-z])"
    rf"|(?<![A-Za-z])[A-Za-z]+[ -][b-z](?![A-Za-z'])"  # usb c, vitamin d
    rf"|{HAN_SIZES}"
    rf"|[一二两三四五六七八九十百千半]+(?:{HAN_UNITS})+",
    re.IGNORECASE,
)
# Words that bind the ones after them: neither they nor these may move or go.
_BINDING = "for with without of in on to from by and or not no non that which under over than as at my the a an"
BINDING = frozenset(_BINDING.split())
Span = tuple[int, int]
Maker = Callable[[str, list[Span], random.Random], str | None]


@dataclass(frozen=True)
class Variant:
    """A query's other form, and the kind of change that made it."""

    text: str
    kind: str


def variants(
    text: str,
    language: str,
    seed: str,
    brand: str | None = None,
    attributes: Collection[str] = (),
    most: int | None = None,
) -> list[Variant]:
    """Different forms of a query, one of each kind that it allows, in an order that the seed decides.

    Args:
        text: the query.
        language: "en" or "zh"; another has no variants.
        seed: the row's id.
        brand: of its product; stays as it is.
        attributes: values of the product's attributes: what an attribute drop may leave out.
        most: how many to give; None: all kinds.
    """
    free = _free(text, brand)
    found: dict[str, Variant] = {}
    makers: dict[str, Maker] = dict(KINDS.get(language, {}))
    if language == "en" and attributes:
        makers["attribute drop"] = _attribute_dropped({word for value in attributes for word in value.lower().split()})
    kinds = list(makers.items())
    _dice(seed, "order").shuffle(kinds)
    for kind, make in kinds:
        made = make(text, free, _dice(seed, kind))
        if made and made.strip() and made != text and made not in found:
            found[made] = Variant(made, kind)
    return list(found.values())[:most]


def augmented(row: Row, product: dict[str, Any] | None = None, most: int | None = None) -> list[Row]:
    """Copies of a LABEL row with its text's variants; fields `augmented` (the kind) and `of` (the row's id) say so.

    `product` is the row's CATALOGUE row, for its brand and attributes.
    """
    brand = (product or {}).get("brand")
    values = schema.strings((product or {}).get("attributes")).values()
    out: list[Row] = []
    for one in variants(row["text"], row["language"], row["id"], brand, values, most):
        fields: dict[str, Any] = schema.strings(row.get("fields")) | {"augmented": one.kind, "of": row["id"]}
        made = {"id": schema.row_id("augmented", row["id"], one.kind, one.text), "text": one.text, "fields": fields}
        out.append(row | made)
    return out


def more(rows: list[Row], aids: Aids) -> Outcome:
    """Each query and `curate.variants` variants of it; refuses none."""
    most = aids.config.curate.variants
    return [one for row in rows for one in (row, *augmented(row, aids.products.get(row["product_id"]), most))], []


def _dice(seed: str, kind: str) -> random.Random:
    return random.Random(schema.row_id(seed, kind))  # noqa: S311  (a choice, not a secret)


def _free(text: str, brand: str | None) -> list[Span]:
    """The stretches of the text that may be changed."""
    held = [m.span() for m in PROTECTED.finditer(text)]
    if brand and brand.strip():
        held += [m.span() for m in re.finditer(re.escape(brand.strip()), text, re.IGNORECASE)]
    out, at = [], 0
    for start, end in sorted(held):
        if start > at:
            out.append((at, start))
        at = max(at, end)
    return [*out, (at, len(text))] if at < len(text) else out


def _put(text: str, span: Span, new: str) -> str:
    return text[: span[0]] + new + text[span[1] :]


def _words(text: str, free: list[Span]) -> list[Span]:
    """Whole words of five Latin letters and more in the free stretches, the binding ones left out."""
    inside = [(m.start(), m.end()) for m in re.finditer(r"(?<![\w'-])[A-Za-z]{5,}(?![\w'-])", text)]
    allowed = [(a, b) for a, b in inside if any(start <= a and b <= end for start, end in free)]
    return [(a, b) for a, b in allowed if text[a:b].lower() not in BINDING]


def _slip(change: Callable[[str, int, random.Random], str]) -> Maker:
    """A change at one place of one word; its first letter stays, as it does in most slips."""

    def make(text: str, free: list[Span], dice: random.Random) -> str | None:
        words = _words(text, free)
        if not words:
            return None
        start, end = dice.choice(words)
        word = text[start:end]
        places = list(range(1, len(word) - 1))
        dice.shuffle(places)
        made = next((new for place in places if (new := change(word, place, dice)) != word), None)
        return made and _put(text, (start, end), made)

    return make


@lru_cache
def neighbours() -> dict[str, str]:
    """Each letter's neighbours on a QWERTY keyboard."""
    at = {letter: (x + y / 2, y) for y, keys in enumerate(ROWS) for x, letter in enumerate(keys)}
    near = {
        a: [b for b in at if b != a and abs(at[a][0] - at[b][0]) <= 1 and abs(at[a][1] - at[b][1]) <= 1] for a in at
    }
    return {letter: "".join(found) for letter, found in near.items()}


def _neighbour(word: str, place: int, dice: random.Random) -> str:
    return word[:place] + dice.choice(neighbours()[word[place].lower()]) + word[place + 1 :]


def _swapped(word: str, place: int, dice: random.Random) -> str:
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _dropped(word: str, place: int, dice: random.Random) -> str:
    return word[:place] + word[place + 1 :]


def _units(text: str, free: list[Span]) -> list[tuple[str, bool]]:
    """Words in order, a protected stretch with what touches it as one unit; and whether each is a free word."""
    edges = sorted({0, len(text), *(x for span in free for x in span)})
    free_set = set(free)
    out: list[tuple[str, bool]] = []
    glued = False
    for span in pairwise(edges):
        part = text[span[0] : span[1]]
        pieces = part.split() if span in free_set else [" ".join(part.split())]
        for i, piece in enumerate(p for p in pieces if p):
            if out and i == 0 and glued and not part[0].isspace():
                out[-1] = (out[-1][0] + piece, False)
            else:
                out.append((piece, span in free_set))
        glued = not part[-1:].isspace()
    return out


def _head(units: list[tuple[str, bool]]) -> int:
    """How many units come before the first binding word: adjectives, and the noun last."""
    return next((i for i, (word, _) in enumerate(units) if word.split()[0].lower() in BINDING), len(units))


def _reordered(text: str, free: list[Span], dice: random.Random) -> str | None:
    units = _units(text, free)
    places = range(_head(units) - 1)
    if len(units) < 2 or not places:
        return None
    i = dice.choice(places)
    words = [word for word, _ in units]
    words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)


def _attribute_dropped(values: set[str]) -> Maker:
    """One word of the product's attributes left out; what the product is called must remain."""

    def make(text: str, free: list[Span], dice: random.Random) -> str | None:
        units = _units(text, free)
        head = _head(units)
        places = [i for i in range(head) if units[i][1] and units[i][0].lower() in values]
        if not places or head - len(places) < 1 or len(units) < 3:
            return None
        gone = dice.choice(places)
        return " ".join(word for i, (word, _) in enumerate(units) if i != gone)

    return make


def _han(text: str, free: list[Span]) -> list[Span]:
    """Runs of Chinese characters in the free stretches."""
    return [(a + m.start(), a + m.end()) for a, b in free for m in re.finditer(f"{HAN.pattern}+", text[a:b])]


def _typed(letters: Callable[[str], str]) -> Maker:
    """All Chinese characters typed in Latin letters, set off from what stands beside them."""

    def make(text: str, free: list[Span], dice: random.Random) -> str | None:
        runs = _han(text, free)
        for start, end in reversed(runs):
            before = " " if start and not text[start - 1].isspace() else ""
            after = " " if end < len(text) and not text[end].isspace() else ""
            text = _put(text, (start, end), before + letters(text[start:end]) + after)
        return text if runs else None

    return make


def _syllables(han: str) -> list[str]:
    from pypinyin import lazy_pinyin

    return list(lazy_pinyin(han))


def _initials(text: str, free: list[Span], dice: random.Random) -> str | None:
    """One word of two to four characters by the first letters of its syllables."""
    import rjieba

    words = []
    for start, end in _han(text, free):
        for word in rjieba.cut(text[start:end]):
            if 2 <= len(word) <= 4:
                words.append((start, start + len(word)))
            start += len(word)
    if not words:
        return None
    start, end = dice.choice(words)
    return _put(text, (start, end), "".join(syllable[0] for syllable in _syllables(text[start:end])))


@lru_cache
def homophones() -> dict[str, str]:
    """Common characters by toneless pinyin: the 3,755 of GB 2312's first level, whose order is that of their sound."""
    by: dict[str, str] = {}
    for code in range(0xB0, 0xD8):
        for cell in range(0xA1, 0xFF):
            han = bytes([code, cell]).decode("gb2312", "ignore")
            if han:
                sound = _syllables(han)[0]
                by[sound] = by.get(sound, "") + han
    return by


def _homophone(text: str, free: list[Span], dice: random.Random) -> str | None:
    """One character by another that an input method offers for the same letters."""
    places = []
    for start, end in _han(text, free):
        for i, sound in enumerate(_syllables(text[start:end])):
            others = homophones().get(sound, "").replace(text[start + i], "")
            if others:
                places.append((start + i, others))
    if not places:
        return None
    place, others = dice.choice(places)
    return _put(text, (place, place + 1), dice.choice(others))


@lru_cache
def _converter(way: str) -> Any:
    from opencc import OpenCC

    return OpenCC(way)


def _script(way: str) -> Maker:
    def make(text: str, free: list[Span], dice: random.Random) -> str | None:
        for start, end in reversed(_han(text, free)):
            text = _put(text, (start, end), _converter(way).convert(text[start:end]))
        return text

    return make


KINDS: dict[str, dict[str, Maker]] = {
    "en": {
        "neighbouring key": _slip(_neighbour),
        "swapped letters": _slip(_swapped),
        "dropped letter": _slip(_dropped),
        "word order": _reordered,
    },
    "zh": {
        "pinyin": _typed(lambda han: "".join(_syllables(han))),
        "initials": _initials,
        "homophone": _homophone,
        "traditional": _script("s2t"),
        "simplified": _script("t2s"),
    },
}
