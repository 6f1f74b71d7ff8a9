"""The bundle that the index is measured on; a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index import shelf
from synthrec import bundle, console, models, schema
from synthrec.compression.encoder import Encoder, load
from synthrec.retrieval.bm25 import BM25

CHUNK = 1_000  # texts encoded between two files
WEIGHTS = {"en": 0.5, "zh": 0.5}  # both rankings count: what a hybrid search costs most with


def made(data: Path, folder: Path, products: int, queries: int) -> dict[str, Any]:
    """Write `bundle/` and `queries.npy` into the folder; how it was made."""
    real = shelf.real(data)
    rows = shelf.products(data, products)
    asked = shelf.queries(data, queries)
    encoder = exported(folder)
    catalogue = schema.table(rows, schema.CATALOGUE)
    texts = catalogue["text"].to_pylist()
    vectors = encoded(encoder, texts, folder / "vectors", "products")
    np.save(folder / "queries.npy", encoded(encoder, asked, folder / "vectors", "queries", query=True))
    start = time.perf_counter()
    bm25 = BM25.build(texts)
    words_s = time.perf_counter() - start
    target = folder / "bundle"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder / "int8", target / "model")
    bundle.write(target, catalogue, vectors, bm25, {"name": "index", "weights": WEIGHTS})
    kept = min(real, products)
    return {
        "products": products,
        "products_real": kept,
        "products_made": products - kept,
        "how_made": "a real title under another brand with other numbers, and one sentence of a real description",
        "texts_different": len(set(texts)),
        "queries": len(asked),
        "encoder": "all-MiniLM-L6-v2, int8 in ONNX",
        "words_build_s": words_s,
        "disk_bytes_per_product": disk(target, products),
    }


def exported(folder: Path) -> Encoder:
    """The embedded encoder in int8."""
    target = folder / "int8"
    if not target.is_dir():
        from synthrec.compression.export import export
        from synthrec.recommenders.bi_encoder import BiEncoder

        console.say("exporting the encoder")
        draft = folder / "int8.draft"
        shutil.rmtree(draft, ignore_errors=True)
        export(BiEncoder.load(models.encoder("embedded")), draft)
        draft.rename(target)
    return load(target)


def encoded(encoder: Encoder, texts: Sequence[str], cache: Path, name: str, query: bool = False) -> NDArray[np.float32]:
    """Unit vectors, (texts, width). Every chunk has a file of its own, found by what it is made of."""
    cache.mkdir(parents=True, exist_ok=True)
    found = []
    with console.meter(f"encode {name}", len(texts), "texts") as meter:
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            digest = hashlib.sha256("\0".join([str(query), *chunk]).encode()).hexdigest()
            file = cache / f"{digest[:32]}.npy"
            if file.is_file():
                meter.advance(len(chunk), "kept from before")
            else:
                draft = file.with_suffix(".draft")
                with draft.open("wb") as out:
                    np.save(out, encoder.encode(chunk, query, tick=lambda done: meter.advance(done, "")))
                draft.rename(file)
            found.append(np.load(file, allow_pickle=False))
    return np.concatenate(found)


def disk(made: Path, products: int) -> dict[str, float]:
    """Bytes of the bundle a product, by part; the model's are not counted."""
    parts = {"catalogue": made / "catalogue.parquet", "vectors": made / "vectors.npy", "words": made / "bm25"}
    sizes = {name: sum(file.stat().st_size for file in files(path)) / products for name, path in parts.items()}
    return sizes | {"all": sum(sizes.values())}


def files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
