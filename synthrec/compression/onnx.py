"""An exported encoder, run by ONNX Runtime. Serving it needs neither torch nor transformers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from synthrec.compression.tokens import ABOUT, Tokens
from synthrec.recommenders.lengths import bucketed, padded

GRAPH = "model.onnx"
CELLS = 256  # tokens a batch, padding counted: what the activations of a layer fit into a core's cache with
CHUNK = 4096  # texts sorted by length at once: bounds memory


class OnnxEncoder:
    """An exported encoder. Batches of texts of like length run side by side, a thread each.

    Args:
        threads: None: $OMP_NUM_THREADS, as Ray sets it for its workers, else all cores that this process may use.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        self.width, self._padding = int(about["width"]), int(about["padding"])
        self.folder, self.tokens = folder, Tokens.load(folder)
        threads = threads or int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / GRAPH),
            options,
            providers=["CPUExecutionProvider"],
            # Fused, the addition and the norm of a layer take four times as long as one after the other.
            disabled_optimizers=["SkipLayerNormFusion"],
        )

    def encode(
        self, texts: Sequence[str], query: bool = False, *, tick: Callable[[int], object] = lambda done: None
    ) -> NDArray[np.float32]:
        """Vectors in the order of `texts`, shape (n, width)."""
        out = np.zeros((len(texts), self.width), np.float32)
        for start in range(0, len(texts), CHUNK):
            read = self.tokens.read(texts[start : start + CHUNK], query)
            batches = list(bucketed([len(ids) for ids in read], CELLS))
            parts = [[read[i] for i in rows] for rows in batches]
            # A query alone needs no other thread.
            found = self._pool.map(self._run, parts) if len(batches) > 1 else map(self._run, parts)
            for rows, vectors in zip(batches, found, strict=True):
                out[start + rows] = vectors
                tick(len(rows))
        return out

    def _run(self, read: list[list[int]]) -> NDArray[np.float32]:
        ids, mask = padded(read, self._padding)
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return vectors

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
