"""Personal numbers: phones, resident ids, bank cards.

All three are runs of digits that people break up as they please, so one helper lists the candidate stretches and each
recogniser only has to say which it accepts.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import phonenumbers
from stdnum import ean, luhn
from stdnum.cn import ric
from stdnum.exceptions import ValidationError

from synthrec.privacy.orders import WAYBILL

_RUN = re.compile(r"[0-9]+(?:[ .()-]{1,3}[0-9]+)*")
_DIGITS = re.compile(r"[0-9]+")
_MOST_GROUPS = 6  # in part of a run; a whole run may be spelt out digit by digit


class Number(NamedTuple):
    """A stretch of whole digit groups: `sizes` their lengths, `gaps` what parts them, `alone` if it is a whole run."""

    start: int
    end: int
    digits: str
    sizes: tuple[int, ...]
    gaps: tuple[str, ...]
    alone: bool


_CHECK_X = re.compile("[ .-]?[Xx](?![0-9])")


def resident_ids(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every mainland resident id in the folded `text` with a right date and check digit."""
    for number in _numbers(text, 17, 18):
        if not _plain(number.gaps):
            continue
        if len(number.digits) == 18:
            end, digits = number.end, number.digits
        elif check := _CHECK_X.match(text, number.end):
            end, digits = check.end(), number.digits + "X"
        else:
            continue
        if _is_resident_id(digits):
            yield number.start, end


def _is_resident_id(digits: str) -> bool:
    # Not ric.is_valid: its list of counties lags behind, and a made-up county must not hide a real person.
    if digits[6:8] not in ("18", "19", "20") or ric.calc_check_digit(digits) != digits[-1]:
        return False
    try:
        ric.get_birth_date(digits)
    except ValidationError:
        return False
    return True


_BARCODE_WORD = re.compile(
    r"(?:isbn|ean|upc|gtin|barcode|条形?码|书号|货号|商品编[码号])(?:-?1[03])?(?:号|码|is|是|为|[\s:.#-]){0,4}$",
    re.IGNORECASE,
)


def bank_cards(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every bank card number (13 to 19 digits, Luhn) in the folded `text`."""
    for number in _numbers(text, 13, 19):
        if not (_plain(number.gaps) and _is_grouped_like_card(number.sizes) and _is_card(number.digits)):
            continue
        before = text[max(0, number.start - 20) : number.start]
        is_waybill = len(number.sizes) == 1 and number.start >= 2 and WAYBILL.match(text, number.start - 2)
        is_mailbox = text[number.end : number.end + 1] == "@"
        if not (is_waybill or is_mailbox or _BARCODE_WORD.search(before)):
            yield number.start, number.end


def _is_grouped_like_card(sizes: tuple[int, ...]) -> bool:
    return len(sizes) == 1 or (sizes[0] in (4, 6) and min(sizes[:-1]) >= 3)


def _is_card(digits: str) -> bool:
    # No issuer begins with 0 or 1, which also drops timestamps, and nobody's card is all one digit.
    if digits[0] in "01" or len(set(digits)) == 1 or not luhn.is_valid(digits):
        return False
    # Of 13 digits, 86 and a mobile is a phone and a right EAN is a barcode.
    return len(digits) != 13 or not (_MOBILE.fullmatch(digits) or ean.is_valid(digits))


_MOBILE = re.compile("(?:(?:00)?86)?1[3-9][0-9]{9}")
_NORTH_AMERICAN = re.compile("1?[2-9][0-9]{2}[2-9][0-9]{6}")
_LANDLINE = re.compile("0(?:10|2[0-9])[1-9][0-9]{6,7}|0[3-9][0-9]{2}[1-9][0-9]{6,7}|0[127][0-9]{8,9}")
_EXTENSION = re.compile(r"(?: ?转| ?(?:ext|x)\.? ?)[0-9]{1,5}(?![0-9])", re.IGNORECASE)
_PHONE_WORD = re.compile(
    r"(?:电话|手机|座机|联系方式|号码|致电|拨打|打|(?<![a-z])(?:tele)?phone|(?<![a-z])(?:tel|mobile|cell|call|text|whatsapp|fax))"
    r"(?:[\s:.#(]|[号码是为]|(?:number|no|is|me|us|at|on)(?![a-z])){0,8}$",
    re.IGNORECASE,
)
_INTERNATIONAL = re.compile(r"(?:\+\(?|(?<![0-9])00)[1-9][0-9]*(?:[ .()-]{1,3}[0-9]+)*")


def phones(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every phone number in the folded `text`: mainland, US, UK and any `+` number."""
    for number in _numbers(text, 7, 15):
        if _is_phone(text, number):
            # An area code's bracket and a country code's plus belong to the number.
            start = number.start - (text[number.start - 1 : number.start] == "+")
            start -= text[start - 1 : start] == "(" and ")" in "".join(number.gaps)
            extension = _EXTENSION.match(text, number.end)
            yield start, extension.end() if extension else number.end
    for match in _INTERNATIONAL.finditer(text):
        if end := _international_end(match):
            bracket = text[match.start() - 1 : match.start()] == "(" and ")" in text[match.start() : end]
            yield match.start() - bracket, end


def _is_phone(text: str, number: Number) -> bool:
    if _MOBILE.fullmatch(number.digits):
        return _is_grouped_like_mobile(number)
    trunk = number.sizes[0] == 1 and number.digits[0] == "1"  # 1-415-555-0132
    if min(number.sizes[trunk:], default=0) < 3:
        return False
    before = text[max(0, number.start - 30) : number.start]
    if len(number.digits) <= 12 and _PHONE_WORD.search(before):
        return True
    if before[-1:].isascii() and before[-1:].isalpha():  # a model: S825-521 8208
        return False
    if _NORTH_AMERICAN.fullmatch(number.digits) and _is_grouped_like_north_american(number):
        return True
    is_uk_mobile = number.digits.startswith("07") and len(number.digits) == 11
    return bool(_LANDLINE.fullmatch(number.digits)) and (is_uk_mobile or 3 <= number.sizes[0] <= 5)


def _is_grouped_like_mobile(number: Number) -> bool:
    has_code = number.sizes[0] in (2, 4) and not number.digits.startswith("1")
    if min(number.sizes[has_code:]) >= 3:
        return True
    # Shorter groups also make up dates and prices ("13.8.2025 10.30"), unless one separator runs through all.
    return number.alone and len(set(number.gaps)) == 1 and _plain(number.gaps)


def _is_grouped_like_north_american(number: Number) -> bool:
    return number.sizes[-3:] == (3, 3, 4) or (number.sizes[-2:] == (3, 7) and ")" in number.gaps[-1])


def _international_end(match: re.Match[str]) -> int | None:
    """Where the number ends that begins at `match`: at the longest valid reading, else the longest possible one."""
    text, start = match.string, match.start()
    plus = text[start] == "+"
    valid = possible = None
    for group in _DIGITS.finditer(text, start, match.end()):
        digits = "".join(filter(str.isdigit, text[start : group.end()]))
        if len(digits) > 17:
            break
        if len(digits) < 8:
            continue
        try:
            number = phonenumbers.parse("+" + text[start + (1 if plus else 2) : group.end()])
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            valid = group.end()
        # "0012345678905" in one piece is a padded barcode rather than a call to America.
        elif plus or not text[start : group.end()].isdigit():
            reason = phonenumbers.is_possible_number_with_reason(number)
            possible = group.end() if reason == phonenumbers.ValidationResult.IS_POSSIBLE else possible
    return valid or possible


def _plain(gaps: tuple[str, ...]) -> bool:
    return all(len(gap) == 1 and gap in " .-" for gap in gaps)


def _numbers(text: str, least: int, most: int) -> Iterator[Number]:
    """List every stretch of whole digit groups with `least` to `most` digits, a few characters apart at most."""
    for run in _RUN.finditer(text):
        if run.end() - run.start() < least:
            continue
        groups = [group.span() for group in _DIGITS.finditer(text, run.start(), run.end())]
        if len(groups) > _MOST_GROUPS and sum(end - start for start, end in groups) <= most:
            yield _number(text, groups, alone=True)
        for first in range(len(groups)):
            count = 0
            for last in range(first, min(first + _MOST_GROUPS, len(groups))):
                count += groups[last][1] - groups[last][0]
                if count > most:
                    break
                if count >= least:
                    yield _number(text, groups[first : last + 1], alone=last - first + 1 == len(groups))


def _number(text: str, groups: list[tuple[int, int]], alone: bool) -> Number:
    return Number(
        start=groups[0][0],
        end=groups[-1][1],
        digits="".join(text[start:end] for start, end in groups),
        sizes=tuple(end - start for start, end in groups),
        gaps=tuple(text[end:start] for (_, end), (start, _) in pairwise(groups)),
        alone=alone,
    )
