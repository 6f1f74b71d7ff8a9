"""The page where a person reviews rows: loopback only, behind a random token, and nothing of a row is ever markup.

Rows are hostile input. They travel as JSON and enter the page as text nodes, and its policy lets no other script run.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from synthrec.errors import UserError
from synthrec.review.decisions import VERDICTS, Decision

LARGEST = 65536  # bytes of a request: an answer has some hundred
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; "
POLICY += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Review:
    """One reviewer's session over a sample of rows.

    Args:
        rows: LABEL rows with the product's title as `title`.
        decided: that reviewer's decisions so far.
        append: makes a decision durable before it returns.
    """

    def __init__(
        self, rows: list[dict[str, Any]], decided: list[Decision], reviewer: str, append: Callable[[Decision], None]
    ) -> None:
        self._rows = {row["id"]: row for row in rows}
        self._verdicts = {one.id: one.verdict for one in decided if one.id in self._rows}
        self._reviewer = reviewer
        self._append = append
        self._lock = threading.Lock()

    def state(self) -> dict[str, Any]:
        """What the page shows: rows in order, and what was decided."""
        shown = ("id", "task", "facet", "language", "text", "title", "label", "score", "labels", "scores")
        rows = [{name: row.get(name) for name in shown} for row in self._rows.values()]
        return {"rows": rows, "verdicts": dict(self._verdicts)}

    def decide(self, answer: Any) -> None:
        """Keep an answer. Raises ValueError for one that no page of ours sends."""
        if not isinstance(answer, dict) or answer.get("verdict") not in VERDICTS:
            raise ValueError("no such verdict")
        row = self._rows.get(str(answer.get("id")))
        if row is None:
            raise ValueError("no such row")
        verdict = answer["verdict"]
        right = {"accept": row["label"], "correct": answer.get("label")}.get(verdict)
        if verdict == "correct" and (right not in (row["labels"] or ()) or right == row["label"]):
            raise ValueError("no such label")
        same = {name: row[name] for name in ("id", "task", "facet", "language", "text")}
        made = datetime.now(UTC).isoformat()
        with self._lock:
            one = Decision(
                **same, seen=row["label"], verdict=verdict, gold=right, reviewer=self._reviewer, made=made,
                chosen=bool(row["labels"]), sources=row.get("sources") or (),
            )  # fmt: skip
            self._append(one)
            self._verdicts.pop(row["id"], None)
            if verdict != "undo":
                self._verdicts[row["id"]] = verdict


class Server:
    """Listens on 127.0.0.1; `url` holds the token. Port 0: any free one."""

    def __init__(self, review: Review, port: int) -> None:
        self.token = secrets.token_urlsafe(24)
        handler = type("Bound", (_Handler,), {"review": review, "token": self.token})
        try:
            self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        except OSError as error:
            raise UserError(f"cannot listen on port {port}: {error.strerror}", "choose another --port") from None
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/{self.token}/"

    def serve(self) -> None:
        """Serve until `stop`, or an interrupt."""
        try:
            self._http.serve_forever(poll_interval=0.1)
        finally:
            self._http.server_close()

    def stop(self) -> None:
        self._http.shutdown()


class _Handler(BaseHTTPRequestHandler):
    review: Review
    token: str
    timeout = 30
    server_version = "synthrec"
    sys_version = ""

    def do_GET(self) -> None:
        match self._page():
            case "":
                nonce = secrets.token_urlsafe(16)
                page = (files("synthrec.review") / "page.html").read_text(encoding="utf-8").replace("NONCE", nonce)
                self._send(200, page.encode(), "text/html; charset=utf-8", POLICY.format(nonce))
            case "state":
                self._json(200, self.review.state())
            case _:
                self._json(404, {"error": "not found"})

    def do_POST(self) -> None:
        if self._page() != "decide":
            return self._json(404, {"error": "not found"})
        # A form of another site cannot send this type without asking first, and we answer no such question.
        if self.headers.get_content_type() != "application/json":
            return self._json(415, {"error": "JSON only"})
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > LARGEST:
            return self._json(413, {"error": "too large"})
        try:
            self.review.decide(json.loads(self.rfile.read(int(size))))
        except (ValueError, RecursionError) as error:
            return self._json(400, {"error": str(error)})
        return self._json(200, {})

    def _page(self) -> str | None:
        """What is asked for behind the token; None without it, or under another host's name (DNS rebinding)."""
        port = self.server.server_address[1]  # type: ignore[index]
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            return None
        token, slash, page = self.path.removeprefix("/").partition("/")
        return page if slash and hmac.compare_digest(token.encode(), self.token.encode()) else None

    def _json(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", "default-src 'none'")

    def _send(self, status: int, data: bytes, kind: str, policy: str) -> None:
        self.send_response(status)
        for name, value in (HEADERS | {"Content-Type": kind, "Content-Security-Policy": policy}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line of the log would hold the token."""
