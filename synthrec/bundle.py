"""The bundle: what evaluation blesses and serving loads. Immutable, checksummed, no pickle in it.

manifest.json      format, lineage, metrics, fusion weights, sha256 of every file
model/             the encoder (JSON, and safetensors or an ONNX graph)
recommender/       the recommender of the next product, where one was trained and won (safetensors, JSON)
reranker/          the cross-encoder, where one was trained (safetensors, JSON)
classifier/        heads that tell sentiment, intent and the like, where the run had such labels (safetensors, JSON)
replies/           past replies by what they answered, where the shop gave dialogues (npy, JSON)
brands/            brands by their profiles and products, where products have brands (npy, JSON)
queries.parquet    what the LLM thought shoppers would ask for each product, where it did: answers "why is this here?"
catalogue.parquet  products in order of position
vectors.npy        unit vectors, float32, (products, width)
bm25/              the lexical index (npy, JSON)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synthrec.errors import UserError
from synthrec.retrieval.bm25 import BM25
from synthrec.retrieval.hybrid import Hybrid, Scores

if TYPE_CHECKING:
    from synthrec.recommenders.brands import Brands
    from synthrec.recommenders.classifier import Classifier
    from synthrec.recommenders.cross_encoder import CrossEncoder
    from synthrec.recommenders.replies import Replies

FORMAT = 2
MANIFEST, QUERIES = "manifest.json", "queries.parquet"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. What not every bundle has is None where it is not there, and loaded when it is first used."""

    path: Path
    manifest: dict[str, Any]
    catalogue: pa.Table
    hybrid: Hybrid

    @property
    def model(self) -> str:
        return str(self.path / "model")

    @cached_property
    def reranker(self) -> CrossEncoder | None:
        from synthrec.recommenders.cross_encoder import CrossEncoder

        return CrossEncoder.load(str(found)) if (found := self._part("reranker")) else None

    @cached_property
    def classifier(self) -> Classifier | None:
        from synthrec.recommenders.classifier import Classifier

        return Classifier.load(found) if (found := self._part("classifier")) else None

    @cached_property
    def replies(self) -> Replies | None:
        from synthrec.recommenders.replies import Replies

        return Replies.load(found) if (found := self._part("replies")) else None

    @cached_property
    def brands(self) -> Brands | None:
        from synthrec.recommenders.brands import Brands

        return Brands.load(found) if (found := self._part("brands")) else None

    @cached_property
    def asked(self) -> dict[str, list[str]]:
        """Product -> queries that the LLM wrote for it and curation kept."""
        found: dict[str, list[str]] = {}
        if (path := self.path / QUERIES).is_file():
            for product, text in zip(
                *pq.read_table(path, columns=["product_id", "text"]).to_pydict().values(), strict=True
            ):
                found.setdefault(product, []).append(text)
        return found

    def _part(self, name: str) -> Path | None:
        folder = self.path / name
        return folder if folder.is_dir() else None


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
        sound = _sound(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"{folder / MANIFEST} is damaged", f"delete {folder}, and run `synthrec package`") from None
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{folder} is of format {manifest.get('format')}, this version reads {FORMAT}", "package it again"
        )
    for name in sorted(set(listed) ^ set(_files(folder))):
        raise UserError(
            f"{folder}: {name} is {'missing' if name in listed else 'not part of the bundle'}",
            f"delete {folder}, and package again",
        )
    for name, digest in listed.items():
        if _sha256(folder / name) != digest:
            raise UserError(
                f"{folder}: {name} has changed since it was packaged",
                f"bundles are never edited: delete {folder}, and package again",
            )
    return manifest


def _sound(manifest: dict[str, Any]) -> bool:
    """Whether what steers the ranking can be what was tuned."""
    weights, settled = manifest["weights"], manifest.get("settled", 0)
    shares = all(isinstance(one, int | float) and 0 <= one <= 1 for one in weights.values())
    return shares and isinstance(settled, int) and settled >= 0


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
