"""What the benchmark of the index counts, and which vectors it keeps."""

from __future__ import annotations

import mmap

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from benchmarks.index.alone import mapped, own, recall
from benchmarks.index.made import encoded, identity
from synthrec.compression.static import StaticEncoder
from synthrec.compression.tokens import Tokens

WORDS = {"?": 0, "red": 1, "kettle": 2, "pan": 3}
MB = 1_000_000


def encoder(folder, seed):
    tokenizer = Tokenizer(WordLevel(WORDS, "?"))
    tokenizer.pre_tokenizer = Whitespace()
    table = np.random.default_rng(seed).standard_normal((len(WORDS), 4)).astype(np.float32)
    StaticEncoder(table, Tokens(tokenizer, 8, 8)).save(folder)
    return folder


def test_vectors_are_kept_for_their_own_encoder_alone(tmp_path):
    one, other = encoder(tmp_path / "one", 1), encoder(tmp_path / "other", 2)
    again = encoder(tmp_path / "again", 1)
    assert identity(one) == identity(again) != identity(other)
    texts, kept = ["red kettle", "pan"], tmp_path / "kept"
    first = encoded(one, texts, kept, "texts")
    assert len(list(kept.iterdir())) == 1
    assert np.array_equal(encoded(again, texts, kept, "texts"), first)
    assert len(list(kept.iterdir())) == 1
    assert not np.allclose(encoded(other, texts, kept, "texts"), first)


def test_memory_is_told_by_whose_it_is(tmp_path):
    path = tmp_path / "a file"
    path.write_bytes(bytes(8 * MB))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
        before = own()
        total = sum(pages[start] for start in range(0, 4 * MB, mmap.PAGESIZE))
        assert total == 0
        assert 4 * MB <= mapped(path) <= 8 * MB + mmap.PAGESIZE
        assert abs(own() - before) < MB, "pages of a file are not its own"
        held = np.ones(4 * MB)
        assert 31 * MB < own() - before < 34 * MB
        del held
    assert abs(own() - before) < MB
    assert mapped(path) == 0


def test_equals_of_the_tenth_count_as_found():
    vectors = np.eye(30, dtype=np.float32)
    vectors[9:12] = vectors[9]
    asked = np.arange(30, 0, -1, dtype=np.float32)[None]
    assert recall(lambda query, vector: [*range(9), 11], vectors, ["q"], asked) == 1
    assert recall(lambda query, vector: [*range(5), *range(25, 30)], vectors, ["q"], asked) == 0.5
    assert recall(lambda query, vector: np.arange(3), vectors, ["q"], asked) == 0.3
