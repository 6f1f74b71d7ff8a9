"""Text as models want it: one encoding of each character, no markup, no control characters, single spaces."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthrec.sources.records import Product

# HTML, and what opens and closes turns in the templates of chat models: no product may speak for the shop.
TAGS = re.compile(
    r"<(?:/?[a-zA-Z][^<>]{0,200}|!--(?:(?!<!--).){0,500}?--|[|｜][^<>]{0,200}[|｜])>|\[/?INST\]", re.DOTALL
)
SPACES = re.compile(r"\s+")
HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
LANGUAGES = ("en", "zh")  # that `language` tells apart
LETTERS = re.compile(r"[^\W\d_]")
# Numbers of letters end at 1114111; Python reads no number of thousands of digits, and says so by an error.
NO_LETTER = re.compile(r"&#(?:\d{20,}|[xX][0-9a-fA-F]{20,});?")
# Full-width letters, digits and ASCII signs read as their plain forms; Chinese punctuation stays Chinese.
WIDTH = {c: c - 0xFEE0 for c in range(0xFF10, 0xFF5B) if chr(c - 0xFEE0).isalnum()} | {0x3000: 0x20, 0xFF20: 0x40}
# Invisible: zero-width characters, direction marks, byte order mark, soft hyphen.
INVISIBLE = dict.fromkeys([0xAD, 0xFEFF, 0x2060, *range(0x200B, 0x2010), *range(0x202A, 0x202F)])


def clean(text: str) -> str:
    """NFC, plain-width letters and digits, no HTML, no control or invisible characters, white space folded."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(WIDTH | INVISIBLE)
    if "&" in text:
        text = html.unescape(NO_LETTER.sub("", text))
    text = SPACES.sub(" ", text)
    if not text.isprintable():  # of what is printable nothing is of category C
        text = "".join(c for c in text if unicodedata.category(c)[0] != "C")
    if "<" in text or "[" in text:  # now that nothing invisible stands in them
        text = SPACES.sub(" ", TAGS.sub(" ", text))
    return text.strip()


def left(text: str) -> str:
    """The same, of a text that must say something. Raises ValueError where it is of markup and blanks alone."""
    if not (told := clean(text)):
        raise ValueError("nothing is left of it without markup and invisible characters")
    return told


def language(text: str) -> str:
    """'zh' where at least three letters in ten are Han, else 'en'."""
    letters = len(LETTERS.findall(text))
    return "zh" if letters and len(HAN.findall(text)) >= 0.3 * letters else "en"


def product_text(product: Product) -> str:
    """What encoders and BM25 read of a product: title first, since long texts are cut."""
    parts = [product.title, product.brand or "", product.category or ""]
    parts += [f"{k} {v}" for k, v in product.attributes.items()]
    parts.append(product.description)
    return clean(" . ".join(part for part in parts if part))
