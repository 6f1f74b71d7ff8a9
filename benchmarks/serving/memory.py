"""Part `memory`: of a replica, for each million products."""

from __future__ import annotations

from typing import Any

from benchmarks.serving import bundles
from benchmarks.serving.bench import CLIENTS, Bench
from benchmarks.serving.overload import resident

MILLION = 1_000_000


def measured(bench: Bench) -> dict[str, Any]:
    """Resident memory with all products less that with a tenth, warm, extrapolated.

    What is mapped from disk counts where it was read, though replicas of a node share it; `unshared` leaves that out.
    """
    fewer = bench.products // 10
    more = _replica(bench, bench.products)
    less = _replica(bench, fewer)
    scale = MILLION / (bench.products - fewer)
    each = {name: round((more[name] - less[name]) * scale, 1) for name in more}
    return {"mb_per_million": each["resident"], "unshared_mb_per_million": each["unshared"], "all": more, "tenth": less}


def _replica(bench: Bench, products: int) -> dict[str, float]:
    root = bundles.made(bench.data, products, bench.work)
    with bench.endpoint(root=root) as endpoint:
        bench.load(endpoint.url, CLIENTS, bench.seconds)
        (replica,) = endpoint.processes()["Api"]
        return {"resident": resident([replica]), "unshared": round(replica.memory_full_info().uss / 1e6, 1)}
