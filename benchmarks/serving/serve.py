"""The endpoint for the benchmark: `python -m benchmarks.serving.serve uvicorn|ray BUNDLES STORE PORT SETTINGS`.

SETTINGS: those of `serve` in a config, as JSON.
"""

from __future__ import annotations

import json
import signal
import sys
import threading

from serve_app import logs
from serve_app.local import Home, Lifespan
from synthrec.config import Serve


def main() -> None:
    kind, root, store, port, given = sys.argv[1:6]
    home = Home(root, "one", store)
    settings = Serve.model_validate({"replicas": (1, 1), **json.loads(given), "port": int(port)})
    if kind == "uvicorn":
        import torch
        import uvicorn

        torch.set_num_threads(1)  # as a replica has it
        logs.start()  # as a replica does: a line a request
        uvicorn.run(Lifespan(home, settings), port=int(port), log_level="warning", access_log=False)
        return
    from ray import serve

    from serve_app.app import build, start
    from synthrec import cluster

    cluster.start()
    start("127.0.0.1", int(port))
    serve.run(build(home, settings), route_prefix="/")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.wait(1):
        pass
    serve.shutdown()


if __name__ == "__main__":
    main()
