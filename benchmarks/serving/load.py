"""Closed-loop load in a process of its own: so many clients, each asking again when it is answered.

Plain sockets: httpx would take more processor than the service does. `python -m benchmarks.serving.load --help`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np


async def client(url: str, bodies: list[bytes], first: int, until: float, out: list[tuple[float, float, int]]) -> None:
    """Notes of each request when it began, its seconds and its status (0: the connection broke)."""
    parts = urlsplit(url)
    reader = writer = None
    turn = first
    while (start := time.time()) < until:
        body = bodies[turn % len(bodies)]
        turn += 1
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            assert reader is not None
            head = (
                f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            status = await _reply(reader)
        except (OSError, asyncio.IncompleteReadError):
            if writer is not None:
                writer.close()
            reader = writer = None
            status = 0
        out.append((start, time.time() - start, status))


async def _reply(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))
    return int(head.split(b" ", 2)[1])


async def load(url: str, bodies: list[bytes], clients: int, seconds: float) -> list[tuple[float, float, int]]:
    out: list[tuple[float, float, int]] = []
    until = time.time() + seconds
    step = max(1, len(bodies) // clients)
    await asyncio.gather(*(client(url, bodies, number * step, until, out) for number in range(clients)))
    return out


def told(rows: list[tuple[float, float, int]], seconds: float) -> dict[str, Any]:
    good = np.array([took for _, took, status in rows if status == 200])
    p50, p99 = np.percentile(good, [50, 99]) * 1000 if len(good) else (None, None)
    return {
        "rps": round(len(good) / seconds, 1),
        "p50_ms": p50 and round(float(p50), 2),
        "p99_ms": p99 and round(float(p99), 2),
        "failed": sum(status != 200 for _, _, status in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path, help="a JSON file: a list of bodies")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rows", action="store_true", help="print each request, not the summary")
    given = parser.parse_args()
    bodies = [json.dumps(one).encode() for one in json.loads(given.bodies.read_text())]
    rows = asyncio.run(load(given.url, bodies, given.clients, given.seconds))
    json.dump(rows if given.rows else told(rows, given.seconds), sys.stdout)


if __name__ == "__main__":
    main()
