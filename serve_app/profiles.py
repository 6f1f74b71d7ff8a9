"""What is known of a shopper, from what they took: in fields, and in a sentence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from serve_app.loaded import Loaded
from serve_app.problems import Problem
from serve_app.recommending import known
from serve_app.schemas.shoppers import PriceRange, Profile, ProfileRequest, Taste
from serve_app.searching import hit
from serve_app.service import Service
from synthrec.stores import Event

HALF = 20  # steps back in a history after which one counts half
TOLD, LATEST = 5, 5


async def profile(service: Service, request: ProfileRequest) -> Profile:
    shopper, events, taken = await known(service, request)
    if not taken:
        raise Problem(404, "nothing is known of this shopper", "send events first, or give a history")
    async with service.answering(shopper) as loaded:
        return await service.searched(lambda: _profile(loaded, taken, events))


def _profile(loaded: Loaded, taken: Sequence[str], events: Sequence[Event]) -> Profile:
    rows = list(_known(loaded, taken))
    told = {name: _tastes(rows, name) for name in ("category", "brand", "language")}
    prices = [row["price"] for row in rows if row["price"] is not None]
    latest = {row["product_id"]: row for row in reversed(rows)}
    range_ = PriceRange(least=min(prices), median=median(prices), most=max(prices)) if prices else None
    return Profile(
        words=_words(told["category"], told["brand"], range_, told["language"], len(latest)),
        events=Counter(event.kind for event in events),
        categories=told["category"],
        brands=told["brand"],
        languages=told["language"],
        price=range_,
        first=events[0].at if events else None,
        last=events[-1].at if events else None,
        latest=[hit(row, 0.0) for row in list(latest.values())[:LATEST]],
        bundle=loaded.version,
    )


def _known(loaded: Loaded, taken: Iterable[str]) -> Iterable[dict[str, Any]]:
    for one in taken:
        try:
            yield loaded.index.product(one)
        except KeyError:  # no longer sold
            continue


def _tastes(rows: Sequence[dict[str, Any]], field: str) -> list[Taste]:
    weights: dict[str, float] = defaultdict(float)
    for age, row in enumerate(reversed(rows)):
        if row[field]:
            weights[row[field]] += 0.5 ** (age / HALF)
    whole = sum(weights.values())
    best = sorted(weights.items(), key=lambda one: (-one[1], one[0]))[:TOLD]
    return [Taste(name=name, share=round(weight / whole, 4)) for name, weight in best]


def _words(
    categories: Sequence[Taste], brands: Sequence[Taste], price: PriceRange | None, languages: Sequence[Taste], n: int
) -> str:
    zh = bool(languages) and languages[0].name == "zh"
    comma = "、" if zh else ", "
    least, middle, most = (_money(one) for one in ((price.least, price.median, price.most) if price else (0, 0, 0)))
    shops, likes = (comma.join(one.name for one in some[:3]) for some in (categories, brands))
    if zh:
        parts = [f"看过或买过 {n} 件商品"]
        parts += [f"多为{shops}"] if shops else []
        parts += [f"常选{likes}"] if likes else []
        parts += [f"价格在 {least} 到 {most} 之间，中位 {middle}"] if price else []
        return "；".join(parts) + "。"
    parts = [f"Looked at or took {n} products"]
    parts += [f"mostly {shops}"] if shops else []
    parts += [f"often by {likes}"] if likes else []
    parts += [f"for {least} to {most}, half of them up to {middle}"] if price else []
    return ", ".join(parts) + "."


def _money(value: float) -> str:
    """As on a price tag: 12, 12.5, 1234567."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
