"""The bundle: what evaluation blesses and serving loads. Immutable, checksummed, no pickle in it.

manifest.json      format, lineage, metrics, fusion weights, sha256 of every file
model/             the encoder (JSON, and safetensors or an ONNX graph)
recommender/       the recommender of the next product, where one was trained and won (safetensors, JSON)
catalogue.parquet  products in order of position
vectors.npy        unit vectors, float32, (products, width)
bm25/              the lexical index (npy, JSON)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synthrec.errors import UserError
from synthrec.retrieval.bm25 import BM25
from synthrec.retrieval.hybrid import Hybrid, Scores

FORMAT = 2
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle."""

    path: Path
    manifest: dict[str, Any]
    catalogue: pa.Table
    hybrid: Hybrid

    @property
    def model(self) -> str:
        return str(self.path / "model")


def write(folder: Path, catalogue: pa.Table, vectors: Scores, bm25: BM25, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write all but `model/`, which must be there, and the manifest last: a folder without one is no bundle."""
    pq.write_table(catalogue, folder / "catalogue.parquet", compression="zstd")
    np.save(folder / "vectors.npy", vectors, allow_pickle=False)
    bm25.save(folder / "bm25")
    files = {name: _sha256(folder / name) for name in _files(folder)}
    whole = manifest | {"format": FORMAT, "products": catalogue.num_rows, "files": files}
    (folder / MANIFEST).write_text(json.dumps(whole, ensure_ascii=False, indent=2, sort_keys=True), encoding="utf-8")
    return whole


def check(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle whose every file is there and unchanged.

    Raises:
        UserError: naming the first file that is missing, changed or not of the bundle.
    """
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} is no bundle: it has no {MANIFEST}", "run `synthrec package` first")
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        listed = dict(manifest["files"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder / MANIFEST} is damaged", "run `synthrec package` again") from None
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{folder} is of format {manifest.get('format')}, this version reads {FORMAT}", "package it again"
        )
    for name in sorted(set(listed) ^ set(_files(folder))):
        raise UserError(
            f"{folder}: {name} is {'missing' if name in listed else 'not part of the bundle'}", "package again"
        )
    for name, digest in listed.items():
        if _sha256(folder / name) != digest:
            raise UserError(
                f"{folder}: {name} has changed since it was packaged", "package again; bundles are never edited"
            )
    return manifest


def load(folder: Path) -> Bundle:
    """Check and open a bundle. Raises UserError as `check` does."""
    manifest = check(folder)
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    hybrid = Hybrid(BM25.load(folder / "bm25"), vectors, manifest["weights"])
    return Bundle(folder, manifest, pq.read_table(folder / "catalogue.parquet"), hybrid)


def _files(folder: Path) -> list[str]:
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in found if name != MANIFEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
