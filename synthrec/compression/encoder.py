"""What ranks need of an encoder, whatever it is made of, and the one that a folder holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthrec.compression.tokens import ABOUT


class Encoder(Protocol):
    """Texts -> unit vectors whose dot product is the score."""

    @property
    def width(self) -> int: ...

    def encode(
        self, texts: Sequence[str], query: bool = False, *, tick: Callable[[int], object] = ...
    ) -> NDArray[np.float32]:
        """Vectors in the order of `texts`, shape (n, width)."""
        ...

    def save(self, folder: Path) -> None:
        """No pickle among the files."""
        ...


def load(folder: str | Path) -> Encoder:
    """The encoder that a folder holds: a compressed one, or a BiEncoder as it was trained."""
    about = Path(folder) / ABOUT
    kind = json.loads(about.read_text(encoding="utf-8"))["kind"] if about.is_file() else None
    if kind == "static":
        from synthrec.compression.static import StaticEncoder

        return StaticEncoder.load(Path(folder))
    if kind is not None:
        from synthrec.compression.onnx import OnnxEncoder

        return OnnxEncoder(Path(folder))
    from synthrec.recommenders.bi_encoder import BiEncoder

    return BiEncoder.load(str(folder))
