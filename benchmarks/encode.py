"""Short texts a second of each encoder that a bundle may hold, beside sentence-transformers; and what each ranks like.

The peer is sentence-transformers in float32 with the same weights, in a Python of its own, one thread on each side.
They take turns over the same texts, and every rate is texts by processor second, which other work on the machine
hardly changes (on an idle machine it is the rate by the clock). Quality is NDCG@10 of the encoder alone on the
store's judged queries.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from synthrec import console, models

STORE = Path("examples/store")
PEER = Path(__file__).with_name("peer_encode.py")


def main() -> None:
    given = _arguments()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    import torch

    torch.set_num_threads(1)
    result: dict[str, Any] = {"benchmark": "encode", "machine": machine(), "texts": given.texts, "rounds": given.rounds}
    with tempfile.TemporaryDirectory() as folder:
        encoders = made(given.encoder, Path(folder) / "zero-shot")
        result["speed"] = speeds(encoders, given)
        result["ndcg_10"] = {"zero-shot": quality(encoders)}
        if given.model:
            result["ndcg_10"]["trained"] = quality(made(given.model, Path(folder) / "trained"))
    over = result["speed"]["over_sentence_transformers"] if result["speed"] else {}
    # The one that is packaged by default; the others stand under `speed`.
    result["over_sentence_transformers"] = over.get("int8")
    result["static_over_sentence_transformers"] = over.get("static")
    if given.json:
        print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="embedded", help="'embedded' or a folder that both sides can load")
    parser.add_argument("--model", default="", help="a trained encoder's folder: its quality is measured, too")
    parser.add_argument("--peer", default=".venv-st/bin/python", help="a Python with sentence-transformers")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each; the median is told")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


def made(name: str, folder: Path) -> dict[str, Any]:
    """The encoder as it is, in int8, and static, from the store's texts and searches."""
    from synthrec.compression.distil import distil
    from synthrec.compression.encoder import load
    from synthrec.compression.export import export
    from synthrec.recommenders.bi_encoder import BiEncoder

    trained = BiEncoder.load(name)
    start = time.monotonic()
    export(trained, folder / "int8")
    console.say(f"exported in {console.clock(time.monotonic() - start)}")
    start = time.monotonic()
    distil(trained, _searches(), list(products().values())).save(folder / "static")
    console.say(f"distilled in {console.clock(time.monotonic() - start)}")
    return {"float32": trained, "int8": load(folder / "int8"), "static": load(folder / "static")}


def products() -> dict[str, str]:
    from synthrec.sources.cleaning import product_text
    from synthrec.sources.records import Product

    lines = (STORE / "products.jsonl").read_text(encoding="utf-8").split("\n")
    found = [Product.model_validate(json.loads(line)) for line in lines if line]
    return {one.product_id: product_text(one) for one in sorted(found, key=lambda one: one.product_id)}


def _searches() -> list[str]:
    lines = (STORE / "searches.jsonl").read_text(encoding="utf-8").split("\n")
    return sorted({json.loads(line)["query"] for line in lines if line})


def short_texts(count: int) -> list[str]:
    """The store's searches in English, and others of their words, all different."""
    import random

    dice = random.Random(7)  # noqa: S311
    real = [text for text in _searches() if text.isascii()]
    words = [word for text in real for word in text.split()]
    lengths = [len(text.split()) for text in real]
    texts = dict.fromkeys(real[:count])
    while len(texts) < count:
        texts[" ".join(dice.choices(words, k=dice.choice(lengths)))] = None
    return list(texts)


def speeds(encoders: dict[str, Any], given: argparse.Namespace) -> dict[str, Any] | None:
    if not Path(given.peer).is_file():
        console.warn(f"no {given.peer}: nothing to compare the speed with")
        return None
    texts = short_texts(given.texts)
    sides: dict[str, Callable[[], float]] = {name: _ours(one, texts) for name, one in encoders.items()}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        command = [given.peer, str(PEER), models.encoder(given.encoder), str(Path(folder) / "texts.json")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
            sides["sentence_transformers"] = _theirs(peer)
            found: dict[str, list[float]] = {name: [] for name in sides}
            for number in range(given.rounds + 1):  # the first warms up
                for name, side in sides.items():
                    seconds = side()
                    if number:
                        found[name].append(seconds)
                        console.say(f"    {name}: {len(texts) / seconds:.0f} texts by processor second")
            assert peer.stdin is not None
            peer.stdin.close()
    middle = {name: statistics.median(seconds) for name, seconds in found.items()}
    theirs = middle["sentence_transformers"]
    return {
        "texts_per_processor_s": {name: len(texts) / seconds for name, seconds in middle.items()},
        "over_sentence_transformers": {name: theirs / middle[name] for name in encoders},
        "each_round": found,
    }


def _ours(encoder: Any, texts: list[str]) -> Callable[[], float]:
    def seconds() -> float:
        start = time.process_time()
        encoder.encode(texts, query=True)
        return time.process_time() - start

    return seconds


def _theirs(peer: subprocess.Popen[str]) -> Callable[[], float]:
    def seconds() -> float:
        assert peer.stdin is not None
        assert peer.stdout is not None
        peer.stdin.write("go\n")
        peer.stdin.flush()
        return float(peer.stdout.readline())

    return seconds


def quality(encoders: dict[str, Any]) -> dict[str, Any]:
    """NDCG@10 over all judged queries and by language, and the least cosine to float32 among the products."""
    import numpy as np

    from synthrec.evaluation import judgments, metrics, systems

    queries = judgments.load_graded(str(STORE / "judgments.jsonl"))
    texts = products()
    place = {product: i for i, product in enumerate(texts)}
    tongues = np.array([query.language for query in queries])
    exact = encoders["float32"].encode(list(texts.values()))
    out: dict[str, Any] = {}
    for name, encoder in encoders.items():
        vectors = encoder.encode(list(texts.values()))
        asked = encoder.encode([query.text for query in queries], query=True)
        values = systems.rank(queries, place, systems.semantic(vectors, asked)).ndcg()
        out[name] = {"all": metrics.mean(values)[0]}
        out[name] |= {tongue: metrics.mean(values[tongues == tongue])[0] for tongue in ("en", "zh")}
        if vectors.shape == exact.shape:
            out[name]["cosine"] = float((vectors * exact).sum(1).mean())
    for name in encoders:
        out[name]["loss"] = 1 - out[name]["all"] / out["float32"]["all"]
    return out


if __name__ == "__main__":
    main()
