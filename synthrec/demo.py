"""The whole loop on the fictional store: what `make demo` runs."""

from __future__ import annotations

import time
from pathlib import Path

from synthrec import console
from synthrec.cli import run_stages
from synthrec.config import load
from synthrec.errors import UserError

CONFIG = Path("configs/store.yaml")
QUERIES = ("keep soup hot on a long hike", "猫咪喝水的机器")


def run(overrides: list[str]) -> None:
    from synthrec.stages import serve

    if not CONFIG.is_file():
        raise UserError(f"no {CONFIG} here", "run the demo from the project's folder")
    start = time.monotonic()
    config = load(CONFIG, overrides)
    pipeline = run_stages(config)
    console.say("two questions over HTTP", "serve")
    with console.hushed(pipeline.log):
        any_port = config.serve.model_copy(update={"port": 0})
        with serve.endpoint(pipeline, any_port) as url:
            for query in QUERIES:
                serve.show(url, query)
    port = config.serve.port
    console.say(f"\ndone in {console.clock(time.monotonic() - start)}")
    console.say(f"report: {pipeline.root}/report.html")
    console.say("ask the endpoint yourself:  .venv/bin/synthrec serve --config " + _again(overrides) + "  then")
    console.say(serve.example(f"http://{config.serve.host}:{port}"))


def _again(overrides: list[str]) -> str:
    changed = [o for o in overrides if o != "run_dir=runs/store"]
    return " ".join([str(CONFIG), *(f"--set {o}" for o in changed)])
