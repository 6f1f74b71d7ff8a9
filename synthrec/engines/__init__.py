"""LLM back ends behind one protocol. A new one: a file here and a line below."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from synthrec.config import Engine as EngineSettings
from synthrec.engines.base import Answer, Engine, Sampling

ENGINES = {
    "llamacpp": "synthrec.engines.llamacpp:LlamaCpp",
    "transformers": "synthrec.engines.hub:load",
    "openai": "synthrec.engines.openai:OpenAI",
    "vllm": "synthrec.engines.vllm:VLLM",
    "fake": "synthrec.engines.fake:Fake",
}


def load(settings: EngineSettings) -> Engine:
    """Start the engine that the settings name. Raises UserError if its package or model is missing."""
    module, _, name = ENGINES[settings.kind].partition(":")
    make: Callable[[EngineSettings], Engine] = getattr(import_module(module), name)
    return make(settings)


__all__ = ["Answer", "Engine", "Sampling", "load"]
