"""Find personal data in text: `find` runs one small recogniser per kind and settles their overlaps.

Every recogniser takes the *folded* text (full-width characters and odd spaces or dashes made ASCII, one character for
one, so offsets hold) and yields `(start, end)` pairs. Characters that are already taken, by an existing pseudonym or by
an earlier pass, arrive as NUL, which no pattern matches: that is what makes pseudonymising idempotent.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from synthrec.privacy.addresses import addresses
from synthrec.privacy.documents import ibans, passports, plates
from synthrec.privacy.emails import emails
from synthrec.privacy.houses import may_house
from synthrec.privacy.names import may_name, names
from synthrec.privacy.numbers import bank_cards, phones, resident_ids
from synthrec.privacy.online import chat_ids, ips, private_links
from synthrec.privacy.orders import order_numbers

Recogniser = Callable[[str], Iterator[tuple[int, int]]]

_RECOGNISERS: dict[str, Recogniser] = {
    "email": emails,
    "phone": phones,
    "resident_id": resident_ids,
    "bank_card": bank_cards,
    "address": addresses,
    "order_no": order_numbers,
    "passport": passports,
    "iban": ibans,
    "plate": plates,
    "person": names,
    "chat_id": chat_ids,
    "ip": ips,
    "private_link": private_links,
}
KINDS: tuple[str, ...] = tuple(_RECOGNISERS)

# Checked by a check digit, so they outrank a merely longer guess.
_VALIDATED = ("resident_id", "bank_card", "iban")
# Between finds of equal length. An order number that looks like a phone is only found right after "order no".
_TIES = (
    *("resident_id", "bank_card", "iban", "private_link", "email", "passport", "plate", "chat_id", "order_no", "phone"),
    *("ip", "address", "person"),
)

_PSEUDONYM = re.compile(
    rf"<(?:{'|'.join(KINDS).upper()})_[0-9a-f]{{8}}>|(?<![0-9A-Za-z])u_[0-9a-f]{{16}}(?![0-9A-Za-z])"
)

_FOLD: dict[int, str] = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, "\u00a0\u2002\u2003\u2009\u202f\u3000"), " "),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-"),
}

# But for names and named houses, nothing is ever found without a digit, an @, a Chinese house-number word, a messenger
# or a spelt-out e-mail address.
_MARKER = re.compile("[0-9０-９@＠号栋幢弄信]")
_SPELT = ("at]", "at)", "at}", " dot ", ".com", "http", "www", "wechat", "weixin", "vx", "wx", "qq", "id")


_FREE = re.compile("[^\\0\\s](?:[^\\0]*[^\\0\\s])?")  # a stretch that nothing has taken


@dataclass(frozen=True)
class Span:
    """One find: `text` is exactly the searched text's `[start:end]`, `kind` one of `KINDS`."""

    start: int
    end: int
    kind: str
    text: str


def find(text: str, kinds: Sequence[str] = KINDS, people: Sequence[tuple[int, int]] = ()) -> list[Span]:
    """Find personal data.

    Where finds overlap, one with a check digit (resident id, bank card) beats one without, then the longer beats the
    shorter, then an order number right after "order no" or the like beats a phone. What an overlap leaves over is
    searched again, so a second call on the text with the finds replaced finds nothing. Existing pseudonyms are left
    alone.

    Args:
        text: any string.
        kinds: the kinds to look for, from `KINDS`.
        people: `(start, end)` of names that a model found; the rules' finds may reach beyond them.

    Returns:
        Spans that do not overlap, sorted by start.

    Raises:
        ValueError: a kind is not in `KINDS`.
    """
    check_kinds(kinds)
    if not _worth_a_look(text):
        kinds = ["person"] if "person" in kinds and may_name(text) else []
    if not kinds and not people:
        return []
    view = _mask(text if text.isascii() else text.translate(_FOLD), _pseudonyms(text))
    spans: list[Span] = []
    while picked := _pick(view, kinds, people):
        spans += [Span(start, end, kind, text[start:end]) for start, end, kind in picked]
        view = _mask(view, sorted((start, end) for start, end, _ in picked))
    return sorted(spans, key=lambda span: span.start)


def check_kinds(kinds: Iterable[str]) -> None:
    """Raise ValueError, naming them, if any of `kinds` is not in `KINDS`."""
    if unknown := [kind for kind in kinds if kind not in _RECOGNISERS]:
        raise ValueError(f"unknown kinds {unknown}; known are {list(KINDS)}")


def _worth_a_look(text: str) -> bool:
    if _MARKER.search(text) or may_house(text):
        return True
    lower = text.lower()
    return any(word in lower for word in _SPELT)


def _pseudonyms(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in _PSEUDONYM.finditer(text)] if "<" in text or "u_" in text else []


def _mask(text: str, taken: Iterable[tuple[int, int]]) -> str:
    """Overwrite the sorted, disjoint ranges `taken` with NUL, keeping every offset."""
    parts, at = [], 0
    for start, end in taken:
        parts += [text[at:start], "\0" * (end - start)]
        at = end
    return "".join((*parts, text[at:])) if parts else text


def _pick(view: str, kinds: Sequence[str], people: Sequence[tuple[int, int]]) -> list[tuple[int, int, str]]:
    found = [(start, end, kind) for kind in kinds for start, end in _RECOGNISERS[kind](view)]
    # What an earlier pass has left of a name is still part of one.
    found += [(*left.span(), "person") for start, end in people for left in _FREE.finditer(view, start, end)]
    if len(found) < 2:
        return found
    found.sort(key=lambda hit: (hit[2] not in _VALIDATED, hit[0] - hit[1], _TIES.index(hit[2]), hit[0]))
    taken, picked = bytearray(len(view)), []
    for start, end, kind in found:
        if 1 not in taken[start:end]:
            taken[start:end] = b"\1" * (end - start)
            picked.append((start, end, kind))
    return picked
