"""An encoder as an ONNX graph, tokens in and unit vectors out, its weights in int8, run by ONNX Runtime.

Weights are quantised by output channel, activations at run time by the range of the whole batch (dynamic quantisation),
so a text's vector depends a little on the texts it is encoded with. Fixed ranges, found on the shop's texts, would not,
but left a cosine of .92 to the original where the batch's own leave .99.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synthrec.compression.tokens import ABOUT, Tokens
from synthrec.recommenders.bi_encoder import BiEncoder

GRAPH = "model.onnx"
CELLS = 256  # tokens a batch, padding counted: what the activations of a layer fit into a core's cache with
CHUNK = 4096  # texts sorted by length at once: bounds memory


def export(encoder: BiEncoder, folder: Path, kind: Literal["int8", "float32"] = "int8") -> None:
    """Write an encoder as OnnxEncoder reads it: the graph with pooling in it, the tokenizer, JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as draft:
        plain = Path(draft) / GRAPH if kind == "int8" else folder / GRAPH
        _trace(encoder, plain)
        if kind == "int8":
            _quantise(plain, folder / GRAPH)
    tokens = Tokens.of(encoder)
    tokens.save(folder)
    about = {"kind": kind, "width": encoder.width, "padding": encoder.tokenizer.pad_token_id, **tokens.lengths}
    (folder / ABOUT).write_text(json.dumps(about))


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
            batches = list(bucketed([len(ids) for ids in read]))
            found = self._pool.map(lambda rows, read=read: self._run([read[i] for i in rows]), batches)
            for rows, vectors in zip(batches, found, strict=True):
                out[start + rows] = vectors
                tick(len(rows))
        return out

    def _run(self, read: list[list[int]]) -> NDArray[np.float32]:
        lengths = np.array([len(ids) for ids in read])
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, self._padding, np.int64)
        ids[mask] = np.concatenate(read)
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask.astype(np.int64)})
        return vectors

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())


def bucketed(lengths: Sequence[int], cells: int = CELLS) -> Iterator[NDArray[np.int64]]:
    """Row numbers in batches of like length: rows times the longest is at most `cells`, or the batch is one row."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end - start + 1) * lengths[order[end]] > cells:
            yield order[start:end]
            start = end


class _Graph(nn.Module):
    def __init__(self, encoder: BiEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder.pooled({"input_ids": input_ids, "attention_mask": attention_mask})


def _trace(encoder: BiEncoder, file: Path) -> None:
    encoder.eval()
    backbone = encoder.backbone
    before = backbone.config._attn_implementation
    backbone.set_attn_implementation("eager")  # plain products and a softmax, which ONNX Runtime knows how to fuse
    example = encoder.tokenizer(["a red kettle", "a pan for eggs"], padding=True, return_tensors="pt").to(
        backbone.device
    )
    names = ["input_ids", "attention_mask"]
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    try:
        with _quiet():
            torch.onnx.export(
                _Graph(encoder),
                tuple(example[name] for name in names),
                str(file),
                input_names=names,
                output_names=["vectors"],
                dynamic_shapes=dict.fromkeys(names, axes),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        backbone.set_attn_implementation(before)


def _quantise(plain: Path, file: Path) -> None:
    """Weights of products and the token table in int8, a scale a channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            plain,
            file,
            per_channel=True,
            # Processors without VNNI add two products in 16 bits, which 8 by 8 bits overflow and 8 by 7 do not. A
            # bundle may be served by one; the bit costs nothing that cosines show.
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters have to say of themselves."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
