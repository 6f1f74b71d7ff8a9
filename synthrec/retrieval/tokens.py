"""Words for lexical search: stemmed English, segmented Chinese."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import rjieba

# A run of Han, or a run of letters and digits; sizes such as 1.5 or 10-inch split at the sign.
RUNS = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]+|[^\W_\u3400-\u4dbf\u4e00-\u9fff]+")
STOP = frozenset(
    "a an and are as at be by for from i in is it my of on or that the this to with 的 了 是 在 和 也 我 用".split()  # noqa: SIM905 (a list would take forty lines)
)


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")


def words(text: str) -> list[str]:
    """Lower-case terms in order, no stop words. A Chinese word of three or more characters gives its parts too."""
    found: list[str] = []
    for run in RUNS.findall(text.lower()):
        if "\u3400" <= run[0] <= "\u9fff":
            found += rjieba.cut_for_search(run)
        else:
            found.append(_stemmer().stemWord(run))
    return [w for w in found if w not in STOP]
