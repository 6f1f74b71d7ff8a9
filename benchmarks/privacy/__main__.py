"""Recognisers of personal data on generated, labelled texts: recall, precision, speed; beside presidio's default.

An item is found if finds of any kind cover nine tenths of it: what is replaced is replaced. A find is right if it
touches an item and goes at most ten characters beyond it. Figures are of templates that tuning did not look at.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.privacy.cases import Case, cases
from synthrec.privacy import find

Spans = list[tuple[int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=6000, help="texts, a third of them without personal data")
    parser.add_argument("--half", choices=["tuning", "test"], default="test", help="whose templates")
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--presidio", default=".venv-peers/bin/python", help="a Python with presidio-analyzer")
    parser.add_argument("--show", type=int, default=0, help="print so many misses and false finds")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    given = parser.parse_args()
    made = cases(given.cases, given.half, given.seed)
    result = {"benchmark": "privacy", "machine": machine(), "cases": len(made), "half": given.half}
    result |= score(made, [_ours(case.text) for case in made], given.show)
    result["texts_per_s"] = _speed([case.text for case in made])
    result["presidio"] = _presidio(given.presidio, made)
    if given.json:
        print(json.dumps(result, ensure_ascii=False))


def _ours(text: str) -> Spans:
    return [(span.start, span.end) for span in find(text)]


def score(made: Sequence[Case], found: Sequence[Spans], show: int = 0) -> dict[str, Any]:
    """Recall over items, precision over finds, and both by kind."""
    hits: Counter[str] = Counter()
    items: Counter[str] = Counter()
    right = wrong = 0
    false_in: Counter[str] = Counter()
    for case, spans in zip(made, found, strict=True):
        places = [(kind, case.text.index(value), case.text.index(value) + len(value)) for kind, value in case.items]
        for kind, start, end in places:
            items[kind] += 1
            covered = sum(max(0, min(end, b) - max(start, a)) for a, b in spans)
            hits[kind] += covered >= 0.9 * (end - start)
            if covered < 0.9 * (end - start) and show > 0:
                show -= 1
                print("missed", kind, case.text, [case.text[a:b] for a, b in spans])
        for a, b in spans:
            good = any(min(end, b) > max(start, a) and start - a <= 10 and b - end <= 10 for _, start, end in places)
            right, wrong = right + good, wrong + (not good)
            if not good:
                false_in[case.items[0][0] if case.items else "no item"] += 1
                if show > 0:
                    show -= 1
                    print("false", case.text[a:b], "in", case.text)
    return {
        "recall": sum(hits.values()) / sum(items.values()),
        "precision": right / max(1, right + wrong),
        "recall_by_kind": {kind: hits[kind] / count for kind, count in sorted(items.items())},
        "false_finds_by_kind_of_text": dict(false_in),
    }


def _work(texts: Sequence[str]) -> int:
    return sum(len(find(text)) for text in texts)


def _speed(texts: Sequence[str]) -> float:
    """Texts a second of two processes, which are at work already."""
    many = list(texts) * (60_000 // len(texts) + 1)
    with Pool(2) as pool:
        pool.map(_work, [many[:200]] * 2)
        start = time.monotonic()
        pool.map(_work, [many[i : i + 2000] for i in range(0, len(many), 2000)], chunksize=1)
        return len(many) / (time.monotonic() - start)


def _presidio(python: str, made: Sequence[Case]) -> dict[str, Any] | None:
    """The same of presidio, None where it is not installed. It finds by kinds of its own; any find counts."""
    if not Path(python).is_file():
        return None
    script = str(Path(__file__).with_name("presidio_finds.py"))
    texts = json.dumps([case.text for case in made])
    told = subprocess.run([python, script], input=texts, capture_output=True, text=True)
    if told.returncode:
        return {"error": told.stderr.strip().splitlines()[-1][:200]}
    answer = json.loads(told.stdout.splitlines()[-1])
    spans = [[(a, b) for a, b in one] for one in answer["spans"]]
    return score(made, spans) | {"texts_per_s_one_process": answer["texts_per_s"], "pipeline": answer["pipeline"]}


Finder = Callable[[str], Spans]

if __name__ == "__main__":
    main()
