"""The endpoint for the benchmark: `python -m benchmarks.serving.serve uvicorn|ray|apart BUNDLES STORE PORT`.

`apart` is `ray` with the encoder in a deployment of its own.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

from serve_app.local import Home, Lifespan
from synthrec.config import Serve


def main() -> None:
    kind, root, store, port = sys.argv[1:5]
    where: Any = "apart" if kind == "apart" else "inside"
    settings = Serve(port=int(port), replicas=(1, 1), encoder=where, encoder_replicas=(1, 1))
    home = Home(root, "one", store)
    if kind == "uvicorn":
        import torch
        import uvicorn

        torch.set_num_threads(1)  # as a replica has it
        uvicorn.run(Lifespan(home, settings), port=int(port), log_level="warning", access_log=False)
        return
    from ray import serve

    from serve_app.app import build
    from synthrec import cluster

    cluster.start()
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(build(home, settings), route_prefix="/")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.wait(1):
        pass
    serve.shutdown()


if __name__ == "__main__":
    main()
