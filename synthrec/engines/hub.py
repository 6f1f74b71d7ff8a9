"""What the engines for transformers' models share: loading, sampling, stopping, chat templates."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from synthrec import models
from synthrec.config import Engine as EngineSettings
from synthrec.engines.base import Engine, Sampling
from synthrec.engines.reader import cannot_load
from synthrec.errors import UserError

BATCH = 32
log = logging.getLogger(__name__)


def load(settings: EngineSettings) -> Engine:
    """The engine for what the model is: a causal model, or an encoder-decoder."""
    where = local_model(settings)
    from transformers import AutoConfig

    from synthrec.engines.seq2seq import Seq2Seq
    from synthrec.engines.transformers import Transformers

    try:
        both = AutoConfig.from_pretrained(where).is_encoder_decoder
    except (OSError, ValueError) as error:
        raise cannot_load(settings.model, error) from None
    return Seq2Seq(settings) if both else Transformers(settings)


def sample(torch: Any, logits: Any, sampling: Sampling, dice: list[Any]) -> list[int]:
    """The next token of each row, drawn from its logits with its own dice."""
    if sampling.temperature == 0:
        return [int(t) for t in logits.argmax(-1)]
    probs = (logits.float() / sampling.temperature).softmax(-1)
    ranked, order = probs.sort(-1, descending=True)
    ranked[ranked.cumsum(-1) - ranked > sampling.top_p] = 0  # nucleus: the fewest tokens that hold top_p
    picks = [torch.multinomial(row, 1, generator=die) for row, die in zip(ranked, dice, strict=True)]
    return [int(o[p]) for o, p in zip(order, picks, strict=True)]


def listed(value: Any) -> list[int]:
    return [] if value is None else value if isinstance(value, list) else [value]


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Text up to the first stop string, and whether there was one."""
    at = min((place for stop in stops if (place := text.find(stop)) >= 0), default=-1)
    return (text[:at], True) if at >= 0 else (text, False)


def chat_ids(tokenizer: Any, prompt: str) -> list[int]:
    """A prompt as the user's turn of a chat, with the answer's turn opened. Raises UserError without a template."""
    if not tokenizer.chat_template:
        raise UserError(
            "the model has no chat template", "set synthesize.engine.chat: false, or take an instruct model"
        )
    turns = [{"role": "user", "content": prompt}]
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False))


def local_model(settings: EngineSettings) -> str:
    if settings.model == "embedded":
        raise UserError(
            "engine transformers has no embedded model (the packaged one is a GGUF file, for llamacpp)",
            "set synthesize.engine.model to a hub name or a folder, or kind: llamacpp",
        )
    return models.check_local(settings.model, "a language model")


def open_model(settings: EngineSettings, kind: Any) -> tuple[Any, str, Any, Any]:
    """torch, the device, the tokenizer and the model, in the data type that the settings or the hardware name."""
    where = local_model(settings)
    import torch
    from transformers import AutoTokenizer

    device = "cuda" if settings.resources.gpus and torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(settings.resources.threads or os.cpu_count() or 1)
    dtype = models.fast_dtype(device) if settings.dtype == "auto" else settings.dtype
    log.info("engine transformers: %s on %s in %s", settings.model, device, dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where)
        model = kind.from_pretrained(where, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:  # not there, or there and no model
        raise cannot_load(settings.model, error) from None
    return torch, device, tokenizer, model.eval().to(device)
