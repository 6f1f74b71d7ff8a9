"""What names a person online: chat ids, IP addresses, links that carry a secret."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

_CHAT_WORD = re.compile(
    r"(?:微信|薇信|威信|徽信|加微(?!信)|扣扣|企鹅号"
    r"|(?<![a-z])(?:wechat|weixin|vx|wx|v信|qq|whatsapp|telegram|skype|line id))"
    r"(?:群|号码?|账号|(?:number|no|id|name)(?![a-z])|(?:is|at|me)(?![a-z])|[\s是为:.#(@+-]){0,8}",
    re.IGNORECASE,
)
_CHAT_ID = re.compile(r"[A-Za-z][0-9A-Za-z_-]{5,19}(?![0-9A-Za-z_@])|[1-9][0-9]{4,11}(?![0-9A-Za-z_@])")
# After "wechat": ordinary words, which an id in small letters alone cannot be told from.
_LETTERS_ONLY = re.compile("[A-Za-z]+")
_SURE = re.compile(r"(?:号码?|账号|id|[:#])[\s是为:.#(@+-]*$", re.IGNORECASE)
_MOBILE = re.compile("1[3-9][0-9]{9}")


def chat_ids(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every id after a messenger's name; letters alone only after "id", "号" or a colon."""
    for word in _CHAT_WORD.finditer(text):
        found = _CHAT_ID.match(text, word.end())
        if found is None or _MOBILE.fullmatch(found.group()):  # that is a phone
            continue
        if _LETTERS_ONLY.fullmatch(found.group()) and not _SURE.search(word.group()):
            continue
        yield found.span()


_IP = re.compile(
    r"(?<![0-9A-Za-z.])(?<![0-9a-f]:)(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z]|\.[0-9])"
    r"|(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![0-9A-Za-z:]))",
    re.IGNORECASE,
)
_VERSION = re.compile(
    r"(?:version|firmware|driver|release|build|update|ver|版本|固件|驱动|(?<![a-z])v)[号:\s]*$", re.IGNORECASE
)


def ips(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every IPv4 or IPv6 address; not of version numbers, clock times or ratios."""
    for match in _IP.finditer(text):
        value = match.group()
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            continue
        if address.is_unspecified or _VERSION.search(text[max(0, match.start() - 12) : match.start()]):
            continue
        if address.version == 4 or sum(map(str.isalnum, value)) >= 6:  # "a::b" is hardly one
            yield match.span()


_URL = re.compile(r"(?:https?://|www\.)[!-;=?-~]{4,500}", re.IGNORECASE)  # no spaces, no Hanzi, no <>
_SECRET_KEY = re.compile(
    r"(?:^|[_-])(?:access)?(?:token|key|apikey|secret|sig|signature|sign|auth|code|session|sessionid|sid|jwt|password|passwd|"
    r"pwd|ticket|otp|uid|userid|user|email|mail|phone|mobile|invite|reset|credential|hash)s?(?:$|[_-])",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[0-9A-Za-z_.~=-]{20,}")


def private_links(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every link that carries a token, session, account or password, as a whole.

    A link to a product is none: it is kept.
    """
    for match in _URL.finditer(text):
        end = match.start() + len(match.group().rstrip(".,;:!?)]}'\""))
        if _is_secret(text[match.start() : end]):
            yield match.start(), end


def _is_secret(url: str) -> bool:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError:
        return False
    if "@" in parts.netloc:
        return True
    pairs = parse_qsl(parts.query, keep_blank_values=True) + parse_qsl(parts.fragment)
    if any(value and (_SECRET_KEY.search(key) or _SECRET_VALUE.fullmatch(value)) for key, value in pairs):
        return True
    return any(_SECRET_VALUE.fullmatch(part) and _is_mixed(part) for part in parts.path.split("/"))


def _is_mixed(part: str) -> bool:
    """Whether a piece of a path is a token: its digits stand among letters, where a page's name has words."""
    return len(re.findall("[0-9][A-Za-z]|[A-Za-z][0-9]", part)) >= 4
