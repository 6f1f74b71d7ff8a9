"""Order, parcel and tracking numbers: after a word that announces one, or in a shape that only they have."""

import re
from collections.abc import Iterator

_ANNOUNCED = re.compile(
    r"(?:(?<![a-z])(?:orders?|parcels?|packages?|shipments?|tracking|waybill|consignment|invoice|reference|ref|rma)"
    r"|订单|单号|运单|快递|物流|包裹|取件码|(?<![&0-9a-z])(?=#))"
    r"((?:[\s.:#=_(\[【\"'-]|(?:number|num|nos?|id|code|ref|is|was|are)(?![a-z])|[是为单编号码]){0,10})",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[0-9]{3,5}(?:[ -][0-9]{3,5}){1,5}(?![-0-9A-Za-z])|[0-9A-Za-z]+(?:[-_/][0-9A-Za-z]+)*")
_AND = re.compile(r"\s?(?:[,、/&和跟与及]|and|or)\s?")
# Carrier prefix and number: SF1234567890123. (vx and wx announce a phone.)
WAYBILL = re.compile("(?<![0-9A-Za-z])(?!(?i:[vw]x))[A-Za-z]{2}[0-9]{10,15}(?![0-9A-Za-z])")
_STANDALONE = re.compile(
    r"(?<![0-9A-Za-z])(?:"
    r"[A-Za-z]{2,4}-(?:19|20)[0-9]{2}-[0-9]{4,10}"  # HH-2025-004512
    r"|[A-Z]{2}[0-9]{9}[A-Z]{2}|1Z(?: ?[0-9A-Z]){16}"  # postal union S10, UPS
    r"|[0-9]{3}-[0-9]{7}-[0-9]{7}"  # Amazon
    r")(?![0-9A-Za-z])"
)
_LABEL = re.compile(r"[:#=号码]|n(?:o|um)|id|code|ref", re.IGNORECASE)
_DATE_OR_SIZE = re.compile(
    r"(?:19|20)[0-9]{2}[-/][0-9]{1,2}[-/][0-9]{1,2}|[0-9]{1,2}[-/][0-9]{1,2}[-/](?:19|20)[0-9]{2}"
    r"|[0-9-]+(?:[xX][0-9]+)+[a-zA-Z]*"
)
# After a bare #: colours such as #33FF99 or #999999, hashtags such as #Sale2025. Before it: "Model #".
_COLOUR_OR_TAG = re.compile(r"(?=[0-9]*[a-fA-F])[0-9a-fA-F]{6}|([0-9])\1{5}|[A-Za-z]{3,}(?:19|20)[0-9]{2}")
_MODEL_WORD = re.compile(r"(?:model|part|item|style|sku|size|colou?r)s? ?$", re.IGNORECASE)
_MOBILE = re.compile("1[3-9][0-9]{9}")


def order_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every order or tracking number in the folded `text`, without the announcing word."""
    for shape in (_STANDALONE, WAYBILL):
        for match in shape.finditer(text):
            yield match.span()
    for announced in _ANNOUNCED.finditer(text):
        token = _TOKEN.match(text, announced.end())
        if token and announced.group().startswith("#") and _is_goods(text, announced.start(), token.group()):
            continue
        labelled = _LABEL.search(announced.group()) is not None
        while token and _is_order(token.group(), labelled):
            yield token.span()
            also = _AND.match(text, token.end())
            token, labelled = _TOKEN.match(text, also.end()) if also else None, False


def _is_goods(text: str, hash_at: int, token: str) -> bool:
    return bool(_COLOUR_OR_TAG.fullmatch(token) or _MODEL_WORD.search(text[max(0, hash_at - 10) : hash_at]))


def _is_order(token: str, labelled: bool) -> bool:
    if len(token) < 6 or _DATE_OR_SIZE.fullmatch(token):
        return False
    # "order XH-2000B" is a model, "order no XH-2000B" is not; likewise "快递13812345678" is the courier's phone.
    digits = sum(map(str.isdigit, token))
    return digits >= 4 if labelled else digits >= 6 and not _MOBILE.fullmatch(token)
