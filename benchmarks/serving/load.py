"""Load in a process of its own, closed-loop (so many clients, each asking again when it is answered) or open-loop
(`--rate`: requests begin at a fixed rate, whether or not earlier ones have ended, as shoppers do).

Plain sockets: httpx would take more processor than the service does. `python -m benchmarks.serving.load --help`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

PATIENCE = 30.0  # seconds for a reply
PAUSE = 0.05  # seconds of a client after a failure: about what a reply would have taken


class Row(NamedTuple):
    """A request.

    Attributes:
        start: when it began, in seconds since 1970.
        seconds: until its reply was whole.
        status: of HTTP; 0: the connection broke, or nothing came in time.
        late: open-loop: seconds that this process, short of processor, began it after its time.
    """

    start: float
    seconds: float
    status: int
    late: float = 0.0


class Connection:
    """Kept alive; opened anew after it broke."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> int:
        """The status."""
        try:
            async with asyncio.timeout(PATIENCE):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self._host, self._port)
                reader, writer = self._streams
                writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                status, kept = await _reply(reader)
        except (OSError, asyncio.IncompleteReadError):  # of which TimeoutError is one
            status, kept = 0, False
        if not kept:
            self.close()
        return status

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def _reply(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """(status, whether the connection is kept)"""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    if not length:  # in chunks, as Ray's own refusals come: the status is all that counts
        return status, False
    await reader.readexactly(int(length))
    return status, b"connection: close" not in head


async def closed(url: str, bodies: list[bytes], clients: int, seconds: float) -> list[Row]:
    rows: list[Row] = []
    until = time.time() + seconds
    step = max(1, len(bodies) // clients)

    async def client(turn: int) -> None:
        connection = Connection(url)
        while (start := time.time()) < until:
            status = await connection.post(bodies[turn % len(bodies)])
            rows.append(Row(start, time.time() - start, status))
            turn += 1
            if status != 200:
                await asyncio.sleep(PAUSE)
        connection.close()

    await asyncio.gather(*(client(number * step) for number in range(clients)))
    return rows


async def opened(url: str, bodies: list[bytes], rate: float, seconds: float) -> list[Row]:
    rows: list[Row] = []
    idle: list[Connection] = []

    async def one(due: float, body: bytes) -> None:
        connection = idle.pop() if idle else Connection(url)
        start = time.time()
        status = await connection.post(body)
        rows.append(Row(start, time.time() - start, status, start - due))
        idle.append(connection)

    begun = time.time()
    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            due = begun + number / rate
            await asyncio.sleep(max(0.0, due - time.time()))
            group.create_task(one(due, bodies[number % len(bodies)]))
    for connection in idle:
        connection.close()
    return rows


def p(rows: list[Row], percent: float) -> float | None:
    """A percentile of their waits, in ms; None where there are none."""
    return round(float(np.percentile([row.seconds for row in rows], percent)) * 1000, 2) if rows else None


def told(rows: list[Row], seconds: float) -> dict[str, Any]:
    good = [row for row in rows if row.status == 200]
    return {
        "rps": round(len(good) / seconds, 1),
        "p50_ms": p(good, 50),
        "p99_ms": p(good, 99),
        "failed": len(rows) - len(good),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path, help="a JSON file: a list of bodies")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rate", type=float, help="requests a second, open-loop; `--clients` is not used")
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    bodies = [json.dumps(one).encode() for one in json.loads(given.bodies.read_text())]
    if given.rate:
        rows = asyncio.run(opened(given.url, bodies, given.rate, given.seconds))
    else:
        rows = asyncio.run(closed(given.url, bodies, given.clients, given.seconds))
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
