"""The bundles that the index is measured on; a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index import shelf
from synthrec import bundle, console, models, schema
from synthrec.compression.encoder import load
from synthrec.retrieval.bm25 import BM25

CHUNK = 1_000  # texts encoded between two files
WEIGHTS = {"en": 0.5, "zh": 0.5}  # both rankings count: what a hybrid search costs most with


def made(data: Path, folder: Path, products: int) -> dict[str, Any]:
    """Write the bundle `folder/bundle-PRODUCTS`; how it was made."""
    real = shelf.real(data)
    rows = shelf.products(data, products)
    model = exported(folder)
    catalogue = schema.table(rows, schema.CATALOGUE)
    texts = catalogue["text"].to_pylist()
    vectors = encoded(model, texts, folder / "vectors", "products")
    start = time.perf_counter()
    bm25 = BM25.build(texts)
    words_s = time.perf_counter() - start
    target = place(folder, products)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(model, target / "model")
    bundle.write(target, catalogue, vectors, bm25, {"name": "index", "weights": WEIGHTS})
    kept = min(real, products)
    return {
        "products": products,
        "products_real": kept,
        "products_made": products - kept,
        "how_made": "a real title under another brand with other numbers, and one sentence of a real description",
        "texts_different": len(set(texts)),
        "encoder": "all-MiniLM-L6-v2, int8 in ONNX",
        "words_build_s": words_s,
        "disk_bytes_per_product": disk(target, products),
    }


def place(folder: Path, products: int) -> Path:
    return folder / f"bundle-{products}"


def ask(data: Path, folder: Path, count: int) -> None:
    """Write `queries.json` and their vectors, `queries.npy`."""
    asked = shelf.queries(data, count)
    (folder / "queries.json").write_text(json.dumps(asked), encoding="utf-8")
    np.save(folder / "queries.npy", encoded(exported(folder), asked, folder / "vectors", "queries", query=True))


def exported(folder: Path) -> Path:
    """The folder of the embedded encoder in int8; another encoder has another."""
    source = Path(models.encoder("embedded"))
    target = folder / f"int8-{identity(source)}"
    if not target.is_dir():
        from synthrec.compression.export import export
        from synthrec.recommenders.bi_encoder import BiEncoder

        console.say("exporting the encoder")
        draft = folder / "int8.draft"
        shutil.rmtree(draft, ignore_errors=True)
        export(BiEncoder.load(str(source)), draft)
        draft.rename(target)
    return target


def identity(model: Path) -> str:
    """Of an encoder: a hash of its files, so that no vector of another is taken for its own."""
    digest = hashlib.sha256()
    for file in sorted(files(model)):
        digest.update(f"{file.relative_to(model)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]


def encoded(model: Path, texts: Sequence[str], cache: Path, name: str, query: bool = False) -> NDArray[np.float32]:
    """Unit vectors, (texts, width). Every chunk has a file of its own, found by its texts and the encoder."""
    cache.mkdir(parents=True, exist_ok=True)
    encoder, own, found = load(model), identity(model), []
    with console.meter(f"encode {name}", len(texts), "texts") as meter:
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            digest = hashlib.sha256("\0".join([own, str(query), *chunk]).encode()).hexdigest()
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
