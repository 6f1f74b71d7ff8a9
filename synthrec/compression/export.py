"""A trained encoder -> an ONNX graph, tokens in and unit vectors out, its weights in int8.

Weights are quantised by output channel, activations at run time by the range of the whole batch (dynamic quantisation),
so a text's vector depends a little on the texts it is encoded with. Fixed ranges, found on the shop's texts, would not,
but left a cosine of .92 to the original where the batch's own leave .99.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from synthrec.compression.onnx import GRAPH
from synthrec.compression.tokens import ABOUT, Tokens
from synthrec.recommenders.bi_encoder import BiEncoder


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


class _Graph(nn.Module):
    def __init__(self, encoder: BiEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder.pooled(attention_mask, input_ids=input_ids)


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
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
