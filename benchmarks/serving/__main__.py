"""The endpoint over a large catalogue: requests a second of /v1/search (hybrid) behind Ray Serve and under bare
uvicorn, beside infinity-emb, which only embeds the same queries with the same weights; and what it does when the bundle
is swapped, when too much is asked, when processes are killed, and when products and events come.

The client is a process of its own on the same machine. The peer is `infinity_emb` of an environment of its own
(`--infinity`); without it the figures against it are null. The result of each part is kept in the work folder, so that
the same command goes on after it was killed; `--fresh` measures again.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.index import shelf
from benchmarks.kept import once
from benchmarks.machine import machine
from benchmarks.serving import bundles, faults, live, memory, overload, place, rates, swap
from benchmarks.serving.bench import Bench
from synthrec import console
from synthrec.schema import row_id
from synthrec.storage import Folder

PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "rps": rates.measured,
    "swap": swap.measured,
    "overload": overload.measured,
    "faults": faults.measured,
    "live": live.measured,
    "memory": memory.measured,
    "place": place.measured,
}


def main() -> None:
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    bench = _bench(given)
    found = {part: _kept(part, bench, given) for part in PARTS if part in given.parts}
    rps = found.get("rps", {})
    result: dict[str, Any] = {
        "benchmark": "serving",
        "machine": machine(),
        "products": given.products,
        "serve_env": bench.env,
        "index_recall": bundles.recall(bench.root / "one", bench.queries[:200]),
        "over_uvicorn": rps.get("over_uvicorn"),
        "rps_over_infinity": rps.get("rps_over_infinity"),
        "swap_failed": found.get("swap", {}).get("failed"),
        **found,
    }
    if given.json:
        print(json.dumps(result))


def _kept(part: str, bench: Bench, given: argparse.Namespace) -> dict[str, Any]:
    """A part's result, measured unless the work folder has it from a run with the same options."""
    options = {name: value for name, value in vars(given).items() if name not in ("parts", "fresh", "json", "work")}
    folder = Folder.open(str(bench.work / "parts"))
    name = f"{part}-{row_id(json.dumps(options))}.json"
    if given.fresh:
        (bench.work / "parts" / name).unlink(missing_ok=True)
    console.say(f"{part}: kept from an earlier run" if folder.exists(name) else part)
    found: dict[str, Any] = once(folder, name, lambda: PARTS[part](bench))
    return found


def _bench(given: argparse.Namespace) -> Bench:
    data, work = Path(given.data), Path(given.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    return Bench(
        data=data,
        work=work,
        root=bundles.made(data, given.products, work),
        products=given.products,
        queries=shelf.queries(data, 2000),
        seconds=given.seconds,
        overload_seconds=given.overload_seconds,
        rounds=given.rounds,
        clients=given.clients,
        infinity=_peer(Path(given.infinity)) if "rps" in given.parts else None,
        env=dict(one.split("=", 1) for one in given.serve_env),
    )


def _peer(infinity: Path) -> Path | None:
    if infinity.is_file():
        return infinity
    console.warn(f"no {infinity} (`make peers` makes it): nothing is measured against infinity-emb")
    return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with products.parquet")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--work", default="runs/benchmark-serving", help="keeps the bundles, which take minutes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--fresh", action="store_true", help="measure again what is kept")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement")
    parser.add_argument("--overload-seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each of `rps`; medians are told")
    parser.add_argument(
        "--infinity", default=".venv-infinity/bin/infinity_emb", help="the command infinity_emb of another environment"
    )
    parser.add_argument(
        "--serve-env", nargs="*", default=[], metavar="NAME=VALUE", help="of the endpoint, such as Ray Serve's switches"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
