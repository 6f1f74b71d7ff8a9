"""Passports, bank accounts (IBAN) and licence plates."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stdnum import iban

_PASSPORT_WORD = re.compile(
    r"(?:护照|通行证|港澳证|台胞证|(?<![a-z])passport)"
    r"(?:号码?|编号|(?:number|num|no|id|is)(?![a-z])|[\s是为:.#(-]){0,8}",
    re.IGNORECASE,
)
_PASSPORT = re.compile(r"[A-Z]{1,2}[ -]?[0-9]{7,8}(?![0-9A-Za-z])|[0-9]{8,9}(?![0-9A-Za-z])", re.IGNORECASE)
# Mainland passports (E and 8 digits, or a letter but I and O after the E) stand for themselves beside Hanzi.
_CN_PASSPORT = re.compile(r"(?<![0-9A-Za-z])E(?:[0-9]|[A-HJ-NP-Z])[0-9]{7}(?![0-9A-Za-z])")


def passports(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every passport or travel permit number: after its name, or in the mainland's form."""
    for word in _PASSPORT_WORD.finditer(text):
        if number := _PASSPORT.match(text, word.end()):
            yield number.span()
    for match in _CN_PASSPORT.finditer(text):
        yield match.span()


_IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?:[ -]?[0-9A-Z]{2,4}){3,8}(?![0-9A-Za-z])", re.IGNORECASE)


def ibans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every IBAN with right check digits; a word that runs on after it is left out."""
    for match in _IBAN.finditer(text):
        end = match.end()
        while end - match.start() >= 15:
            if iban.is_valid(text[match.start() : end]):
                yield match.start(), end
                break
            end = max(text.rfind(" ", match.start(), end), text.rfind("-", match.start(), end))


_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼使领"
# 5 characters after the dot, or 6 of an electric car's, of letters but I and O, and digits.
_CN_PLATE = re.compile(
    rf"[{_PROVINCES}][ ]?[A-HJ-NP-Z][ ·.•-]{{0,2}}"
    r"(?:[A-HJ-NP-Z0-9]{4}[A-HJ-NP-Z0-9挂学警港澳]|[A-HJ-NP-Z0-9]{6})(?![0-9A-Za-z])",
    re.IGNORECASE,
)
_PLATE_WORD = re.compile(
    r"(?:车牌|(?<![a-z])(?:licen[cs]e|number|registration|car|vehicle) (?:plate|reg(?:istration)?)"
    r"|(?<![a-z])(?:plate|reg)(?= ?(?:number|no|nr|is|:)(?![a-z])))"
    r"(?:号码?|(?:number|no|nr)(?![a-z])|is(?![a-z])|[\s是为:.#(-]){0,8}",
    re.IGNORECASE,
)
_PLATE = re.compile(r"[A-Z0-9]{2,4}[ -]?[A-Z0-9]{2,4}(?![0-9A-Za-z])", re.IGNORECASE)


def plates(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every licence plate: the mainland's by its form, others after a word for one."""
    if not text.isascii():
        for match in _CN_PLATE.finditer(text):
            if sum(map(str.isdigit, match.group())) >= 2:
                yield match.span()
    for word in _PLATE_WORD.finditer(text):
        found = _PLATE.match(text, word.end())
        if found and any(map(str.isdigit, found.group())) and any(map(str.isalpha, found.group())):
            yield found.span()
