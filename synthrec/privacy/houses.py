"""English addresses of houses that have a name instead of a number: "The Old Forge, Thistle Hill, Penwick".

A run of capitalised names with commas between them is nearly always something else, so one part must be called like a
house and the next one stand in a street, or words before it must say that an address follows. What is written in small
letters is not found.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

_HOUSE = (
    "House|Cottage|Cottages|Farm|Farmhouse|Lodge|Hall|Court|Tower|Towers|Villa|Building|Forge|Smithy|Mill|Barn|Stables|"
    "Rectory|Vicarage|Parsonage|Manor|Grange|Granary|Dairy|Bakery|Chapel|Schoolhouse|Gatehouse|Farmstead|Bungalow|"
    "Campsite|Hostel|Hotel|Inn|Guesthouse|Priory|Abbey|Croft"
)
_ROAD = "Street|Road|Lane|Avenue|Crescent|Boulevard|Mews|St|Rd|Ln|Ave"
# These name goods and colours, too: only a house before and a town behind make a street of them.
_MAYBE_ROAD = (
    "Hill|Row|Close|Terrace|Rise|Yard|Wharf|Quay|Way|Drive|End|Green|Grove|Place|Gardens|Vale|Bank|Parade|Walk"
)

_CAPITALISED = "[A-Z][A-Za-z'’-]{1,20}(?![0-9A-Za-z])"
_NAME = f"{_CAPITALISED}(?: (?:(?:of|on|in|the|upon|and|le) ){{0,2}}{_CAPITALISED}){{0,4}}"
_NUMBERED = f"[0-9]{{1,4}}[A-Za-z]?(?:-[0-9]{{1,4}})? {_NAME}"
_POSTCODE = "(?:,? [A-Z]{1,2}[0-9][0-9A-Z]? ?[0-9][A-Z]{2}(?![0-9A-Za-z]))?"
_RUN = re.compile(rf"(?<![0-9A-Za-z'’-]){_NAME}(?:, ?(?:{_NUMBERED}|{_NAME})){{1,5}}{_POSTCODE}")
_PART = re.compile(", ?")
_UNIT = re.compile(
    r"(?<![A-Za-z])(?:(?:flat|apt|apartment|unit|suite|room|floor|studio)\.? ?[0-9A-Za-z]{1,5}, ?){1,3}$", re.IGNORECASE
)
_ANNOUNCED = re.compile(r"(?<![A-Za-z])(?:(?:my|our|the|new|delivery|postal|home|right) address(?: is|:)|c/o) $", re.I)
_WAY_THERE = re.compile(r"(?:(?<![a-z])(?:at|to|in|is|near|find|found|address|live[sd]?|home|c/o)|[:(]) ?$", re.I)
_LAST_WORD = re.compile("[A-Z][a-z]+(?=[,，])")
_TELLING = frozenset(f"{_HOUSE}|{_ROAD}".split("|"))


def may_house(text: str) -> bool:
    """Whether `houses` can find anything: a quick look."""
    if "c/o " in text or "address" in text:
        return True
    return not _TELLING.isdisjoint(_LAST_WORD.findall(text))


def houses(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every address of a named house in the folded `text`."""
    if not may_house(text):
        return
    for run in _RUN.finditer(text):
        before = text[max(0, run.start() - 40) : run.start()]
        starts = [run.start(), *(comma.end() for comma in _PART.finditer(text, run.start(), run.end()))]
        parts = _PART.split(run.group())
        first = 0 if _ANNOUNCED.search(before) else _first(parts, _WAY_THERE.search(before) is not None)
        if first is not None:
            unit = _UNIT.search(before) if first == 0 else None
            yield starts[first] - (len(unit.group()) if unit else 0), run.end()


def _first(parts: list[str], way_there: bool) -> int | None:
    """Which part an address begins with; `way_there`: what stands before them says that a place follows."""
    for at, (part, after) in enumerate(pairwise(parts)):
        road, town = _ends(after, _ROAD), len(parts) > at + 2
        if _ends(part, _HOUSE) and (after[0].isdigit() or road or (town and _ends(after, _MAYBE_ROAD))):
            return at
        if at == 0 and way_there and road and town:
            return at
    return None


def _ends(part: str, words: str) -> bool:
    """Does a name of two words or more end in one of these?"""
    return re.search(f" (?:{words})$", part) is not None
