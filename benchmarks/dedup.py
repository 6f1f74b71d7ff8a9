"""De-duplication at scale: made-up queries with known near-duplicates, through the step that curation runs.

Recall: of planted pairs whose Jaccard similarity is at least that of the config, how many are no longer both there.
Beside it the MinHash library alone (signatures, LSH, duplicate flags), in one process, on the same texts.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.peak import Peak, of_all
from synthrec import cluster, console, schema
from synthrec.config import Config
from synthrec.curation import STEPS, Aids, Parts, near
from synthrec.storage import Folder

ROWS_A_PART = 20_000
DUPLICATES = 0.3  # of the rows
SYLLABLES = "ka to mi ra su ne lo vi pa de gu ri bo sha len dor fin mar".split()  # noqa: SIM905
HANZI = "红蓝绿水壶雨衣椅子灯床桌狗猫鞋包伞杯碗盘刀锅铲书笔纸布棉丝毛皮木铁钢铜金银大小长短新旧快慢冷热轻重软硬"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="queries, three in ten of them near-duplicates")
    parser.add_argument("--run-dir", default="runs/benchmark-dedup", help="where to work; emptied first")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    given = parser.parse_args()
    result = {"benchmark": "dedup", "machine": machine(), "rows": given.rows} | measure(given.rows, Path(given.run_dir))
    if given.json:
        print(json.dumps(result))


def measure(rows: int, folder: Path) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    root = Folder.open(str(folder))
    console.say(f"making {rows} queries")
    texts, planted = _texts(rows)
    for start in range(0, rows, ROWS_A_PART):
        made = [_label(i, text) for i, text in enumerate(texts[start : start + ROWS_A_PART], start)]
        (root / "parts").write_table(f"{start // ROWS_A_PART:05d}.parquet", schema.table(made, schema.LABEL))
    cluster.start()
    settings = {"steps": ["near_duplicates"], "near_scope": "task"}
    config = Config.model_validate(
        {"name": "dedup", "run_dir": str(folder), "sources": {"products": {"path": "x"}}, "curate": settings}
    )
    aids = Aids(config, dict, lambda products: {}, root / "parts", root / "work")
    step = STEPS["near_duplicates"]
    with Peak(of_all, 0.5) as peak:
        start_time = time.monotonic()
        learnt = near.copies_of(Parts(root / "parts"), aids)
        refused: set[str] = set()
        for part in Parts(root / "parts"):
            refused |= {row["id"] for row, _, _ in step.apply(part, aids, learnt)[1]}
        seconds = time.monotonic() - start_time
    found = sum(not {f"{one:09d}", f"{other:09d}"}.isdisjoint(refused) for one, other in planted)
    wrong = sum(near.jaccard(near.shingles(a), near.shingles(b)) < 0.8 for a, b in _refused_with_kept(learnt, texts))
    import ray

    ray.shutdown()
    return {
        "planted_pairs": len(planted),
        "recall": found / len(planted),
        "refused": len(refused),
        # Linked through others: a chain of pairs, each alike.
        "refused_less_alike_than_asked": wrong / max(len(refused), 1),
        "seconds": seconds,
        "rows_per_s": rows / seconds,
        "peak_mb": peak.mb,
        "library_alone_s": _library(texts),
    }


def _texts(count: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Queries in both languages, and pairs (original, near-duplicate) of at least Jaccard .8, in a mixed order."""
    dice = random.Random(7)  # noqa: S311
    words = ["".join(dice.choices(SYLLABLES, k=dice.randint(1, 3))) for _ in range(20_000)]
    originals = [
        " ".join(dice.choices(words, k=dice.randint(3, 8)))
        if dice.random() < 0.5
        else "".join(dice.choices(HANZI, k=dice.randint(6, 20)))
        for _ in range(int(count * (1 - DUPLICATES)))
    ]
    made: list[tuple[str, int | None]] = [(text, None) for text in originals]
    while len(made) < count:
        of = dice.randrange(len(originals))
        text = _changed(originals[of], dice)
        if near.jaccard(near.shingles(text), near.shingles(originals[of])) >= 0.8:
            made.append((text, of))
    order = list(range(count))
    dice.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    return [made[i][0] for i in order], [(place[of], place[i]) for i, (_, of) in enumerate(made) if of is not None]


def _changed(text: str, dice: random.Random) -> str:
    """One small change, as people make them: a letter more, less or other, a word more, a sign."""
    at = dice.randrange(len(text))
    letter = dice.choice(HANZI if text[0] in HANZI else "aeioust")
    return dice.choice(
        [text[:at] + letter + text[at:], text[:at] + text[at + 1 :], text[:at] + letter + text[at + 1 :], text + "!"]
    )


def _label(number: int, text: str) -> dict[str, Any]:
    one = {"id": f"{number:09d}", "request_id": "", "task": "queries", "facet": "", "language": "en", "label": ""}
    return one | {"text": text, "product_id": f"p{number}", "model": "none", "prompt": ""}


def _refused_with_kept(learnt: near.Copies, texts: list[str]) -> list[tuple[str, str]]:
    ids = learnt.ids.to_pylist()
    return [(texts[int(one)], said) for one, said in zip(ids, learnt.texts.to_pylist(), strict=True)]


def _library(texts: list[str]) -> float:
    """Seconds of rensa's own signatures and LSH over all texts in memory, n-grams included."""
    import rensa

    start = time.monotonic()
    sets = [list(near.shingles(text)) for text in texts]
    matrix = rensa.RMinHash.digest_matrix_from_token_sets(sets, near.BANDS * near.ROWS_A_BAND, near.SEED)
    lsh = rensa.RMinHashLSH(0.8, near.BANDS * near.ROWS_A_BAND, near.BANDS)
    lsh.query_duplicate_flags_matrix_one_shot(matrix)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
