"""E-mail addresses, also spelt out as `name [at] host dot com`."""

import re
from collections.abc import Iterator

_MAILBOX = re.compile(r"[0-9A-Za-z\u00c0-\u024f._%+'-]{1,64}")  # no Hanzi: text runs straight into an address
_AT = re.compile(r"@| ?[\[({] ?(?:at|@) ?[\])}] ?| (?:at|@) ", re.IGNORECASE)
_DOT = r"(?:\.| ?[\[({] ?(?:dot|\.) ?[\])}] ?| dot )"
_HOST = re.compile(rf"(?:[0-9A-Za-z\u00c0-\u024f-]{{1,63}}{_DOT}){{1,8}}[A-Za-z]{{2,24}}", re.IGNORECASE)
# A bare "at" or "@" between spaces is ordinary English ("sold at shop.com") unless a mail host follows.
_MAIL_HOST = re.compile(
    rf"(?:gmail|googlemail|outlook|hotmail|live|yahoo|icloud|proton(?:mail)?|aol|qq|foxmail|163|126|sina|sohu|139)"
    rf"{_DOT}(?:com|net|cn|me|co{_DOT}uk)(?![0-9A-Za-z])",
    re.IGNORECASE,
)


def emails(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every e-mail address in the folded `text`."""
    for at in _AT.finditer(text):
        # Read the mailbox backwards from the @: trying every possible start instead would be quadratic.
        mailbox = _MAILBOX.match(text[max(0, at.start() - 64) : at.start()][::-1])
        sure = at.group() == "@" or at.group().strip()[0] in "[({"
        host = (_HOST if sure else _MAIL_HOST).match(text, at.end())
        if mailbox and host and (name := mailbox.group()[::-1].lstrip(".'-%")):
            yield at.start() - len(name), host.end()
