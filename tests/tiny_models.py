"""Random transformers of a few thousand weights, with a tokenizer of characters, in folders as from a hub."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers import models as token_models
from transformers import BertConfig, BertModel, Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

LONGEST = 64  # tokens that the encoder has positions for
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def tokenizer(texts: list[str], pairs: bool) -> PreTrainedTokenizerFast:
    """One token a character of the texts; with `pairs` the marks around a text and between two."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *sorted({c for text in texts for c in text})])}
    own = Tokenizer(token_models.WordLevel(vocabulary, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if pairs:
        own.post_processor = processors.TemplateProcessing(
            "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
        )
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=own, model_max_length=LONGEST, **marks)


def bert(folder: Path, texts: list[str]) -> Path:
    """An encoder."""
    tokens = tokenizer(texts, pairs=True)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(tokens), max_position_embeddings=LONGEST, initializer_range=0.1, **shape)
    BertModel(config).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def gemma(folder: Path, texts: list[str]) -> Path:
    """A causal language model whose first layer looks back 16 tokens only."""
    tokens = tokenizer(texts, pairs=False)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    kinds = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
    heads = {"num_key_value_heads": 1, "head_dim": 16}
    config = Gemma3TextConfig(vocab_size=len(tokens), initializer_range=0.5, **shape, **kinds, **heads)
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder
