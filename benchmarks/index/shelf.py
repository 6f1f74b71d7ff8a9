"""A catalogue of any size out of a small real one, and queries to it.

The first products are the real ones. Each further one is a variant of a real product, as shops list them: its title
under another brand, with other numbers (sizes, counts, models), and one sentence of its own description or of
another product's. Near-doubles are what a vector index finds hardest to tell apart.

Queries are two to five words in a row of a real title: what a shopper who knows the product would type.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from synthrec.errors import UserError
from synthrec.sources.documents import product_row
from synthrec.sources.records import Product

SENTENCE = re.compile(r"(?<=[.!?])\s+")
COLOURS = ("black", "blue", "red", "white", "green", "silver", "pink", "clear")


def real(data: Path) -> int:
    """How many real products there are."""
    return len(_read(data))


def products(data: Path, count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Rows of the catalogue (`schema.CATALOGUE`), `count` of them, each with a price, a category and a colour."""
    whole = _read(data)
    dice = random.Random(seed)  # noqa: S311
    sentences = [SENTENCE.split(row["description"]) if row["description"] else [] for row in whole]
    said = [one for mine in sentences for one in mine]
    brands = sorted({row["brand"] for row in whole if row["brand"]})
    made = []
    for number in range(count):
        row, own = whole[number % len(whole)], sentences[number % len(whole)]
        title, brand, text = row["title"], row["brand"], row["description"]
        if number >= len(whole):
            brand = dice.choice(brands)
            title = _variant(title, row["brand"], brand, dice)
            text = dice.choice(own if own and dice.random() < 0.5 else said)[:150]
        made.append(_row(f"p{number:07}", title, brand, text, dice))
    return made


def queries(data: Path, count: int, seed: int = 11) -> list[str]:
    dice = random.Random(seed)  # noqa: S311
    titles = [re.sub(r"[^\w\s.-]", " ", row["title"]).split() for row in _read(data)]
    found: dict[str, None] = {}
    while len(found) < count:
        words = dice.choice(titles)
        size = dice.randint(2, 5)
        start = dice.randint(0, max(0, len(words) - size))
        found[" ".join(words[start : start + size]).lower()] = None
    return list(found)


def _read(data: Path) -> list[dict[str, Any]]:
    path = data / "products.parquet"
    if not path.is_file():
        raise UserError(
            f"no {path}", "give --data a folder with products.parquet: product_id, title, description, brand"
        )
    return [row for row in pq.read_table(path).to_pylist() if row["title"].strip()]


def _variant(title: str, old: str | None, new: str, dice: random.Random) -> str:
    if old and title.startswith(old):
        title = title[len(old) :].strip()
    title = re.sub(r"\d+", lambda number: str(dice.randint(1, 2 * int(number[0]) + 2)), title)
    return f"{new} {title}"


def _row(
    product_id: str, title: str, brand: str | None, description: str | None, dice: random.Random
) -> dict[str, Any]:
    """Its category is the last word of its title that is a plain word: some hundreds, of very unequal size."""
    nouns = re.findall(r"\b[a-z]{4,}\b", title.lower()) or ["other"]
    return product_row(
        Product(
            product_id=product_id,
            title=title,
            description=(description or "")[:400],
            brand=brand or None,
            category=nouns[-1],
            price=round(dice.lognormvariate(2.5, 1), 2),
            attributes={"colour": dice.choice(COLOURS)},
        )
    )
