"""Personal data in what a language model wrote: learnt in training, made up, or copied."""

from __future__ import annotations

import re

from synthrec.privacy.recognisers import KINDS, find

# What `blanked` leaves, and the pseudonyms that stood in the prompt.
_STAND_INS = re.compile(rf"<({'|'.join(KINDS).upper()})(?:_[0-9a-f]{{8}})?>|\b(u)_[0-9a-f]{{16}}\b")


def blanked(text: str) -> str:
    """The text with `<KIND>` for each find: no pseudonym, which would tell that two texts hold the same number."""
    parts, at = [], 0
    for span in find(text):
        parts += [text[at : span.start], f"<{span.kind.upper()}>"]
        at = span.end
    return "".join((*parts, text[at:]))


def personal(text: str) -> list[str]:
    """Kinds of personal data in a text, or of what stands in their place; empty where it holds none."""
    told = [(kind or "user").lower() for kind, user in _STAND_INS.findall(text)]
    return sorted({*told, *(span.kind for span in find(text))})
