"""Texts -> token numbers, many at once, by the Rust tokenizer alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

if TYPE_CHECKING:  # serving needs no torch
    from synthrec.recommenders.bi_encoder import BiEncoder

ABOUT = "encoder.json"  # of a compressed encoder's folder: its kind and lengths
FILE = "tokenizer.json"


class Tokens:
    """A tokenizer that reads queries and products as far as each side's limit, special tokens counted."""

    def __init__(self, tokenizer: Tokenizer, query_tokens: int, product_tokens: int) -> None:
        self.lengths = {"query_tokens": query_tokens, "product_tokens": product_tokens}
        self._sides = {True: _cut(tokenizer, query_tokens), False: _cut(tokenizer, product_tokens)}

    @classmethod
    def of(cls, encoder: BiEncoder) -> Tokens:
        return cls(encoder.tokenizer.backend_tokenizer, encoder.query_tokens, encoder.product_tokens)

    @classmethod
    def load(cls, folder: Path) -> Tokens:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return cls(Tokenizer.from_file(str(folder / FILE)), about["query_tokens"], about["product_tokens"])

    def save(self, folder: Path) -> None:
        self._sides[False].save(str(folder / FILE))

    def read(self, texts: Sequence[str], query: bool, special: bool = True) -> list[list[int]]:
        """Token numbers of each text; `special`: with the marks that the encoder was trained with."""
        found = self._sides[query].encode_batch_fast(list(texts), add_special_tokens=special)
        return [one.ids for one in found]


def _cut(tokenizer: Tokenizer, longest: int) -> Tokenizer:
    own = Tokenizer.from_str(tokenizer.to_str())  # the limit is a state of a tokenizer
    own.no_padding()
    own.enable_truncation(longest)
    return own
