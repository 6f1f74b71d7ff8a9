"""The LLM: which, where, on what, at what price."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from synthrec.config.base import Counts, Positive, Settings


class Resources(Settings):
    """How the LLM is laid out on the cluster. Changing these never redoes finished rows."""

    actors: Counts = Field((1, 1), description="fewest and most copies of the LLM")
    cpus: Annotated[float, Field(gt=0)] = Field(
        1, description="set aside a copy; Ray Data needs some for its own tasks"
    )
    gpus: Annotated[float, Field(ge=0)] = Field(0, description="a copy; a half lets two share one")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="CPU threads a copy; 0: all cores")
    batch_size: Positive = Field(64, description="rows handed over at once: the grain of progress and of resuming")
    slots: Positive = Field(8, description="llamacpp, vllm: sequences decoded together")
    tensor_parallel: Positive = Field(1, description="vllm: GPUs that hold one copy together")


class Server(Settings):
    """Engine openai: a server that speaks OpenAI's API. Text leaves this cluster for it, so it must be named here."""

    url: str = Field(description="up to and with /v1", pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    key_variable: str = Field(
        "OPENAI_API_KEY", description="the environment variable that holds the key, where it runs"
    )
    style: Literal["completion", "chat"] = Field("completion", description="chat: for models that only chat")
    concurrency: Positive = Field(16, description="requests under way at once, a copy of the engine")
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(120, description="of one request")
    retries: Annotated[int, Field(ge=0)] = Field(6, description="of a request that met a busy or lost server")


class Prices(Settings):
    """What a million tokens cost, for accounts and budgets of money."""

    prompt: Annotated[float, Field(ge=0)] = Field(description="a million tokens read")
    completion: Annotated[float, Field(ge=0)] = Field(description="a million tokens written")
    currency: str = Field("USD", description="of these prices, and of a budget of money")


class Engine(Settings):
    """The LLM."""

    kind: Literal["llamacpp", "transformers", "vllm", "openai", "fake"] = Field(
        "llamacpp", description="llamacpp: a GGUF file; transformers, vllm: a hub's model; openai: a server; fake: none"
    )
    model: str = Field(
        "embedded", description="'embedded', a path, a hub name (transformers), the server's name for it"
    )
    server: Server | None = Field(None, description="engine openai: where it is")
    prices: Prices | None = Field(None, description="what tokens cost; null: nothing is said of money")
    chat: bool = Field(False, description="instruct models: each prompt is a user's turn in the model's chat template")
    context: Positive = Field(768, description="tokens of prompt and answer together")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="transformers: auto takes the fastest here"
    )
    options: dict[str, Any] = Field({}, description="vllm: more engine arguments; fake: seconds, parallel")
    resources: Resources = Resources()
