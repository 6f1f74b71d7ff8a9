"""Every error as a problem detail (RFC 9457): what is wrong and how to mend it, and nothing of the inside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from serve_app.logs import log
from synthrec.retrieval.filters import FilterError
from synthrec.retrieval.vectors import Away
from synthrec.stores import StoreError

MEDIA = "application/problem+json"
TITLES = {
    400: ("bad-request", "The request cannot be read"),
    401: ("no-key", "A key is needed"),
    403: ("scope", "This key may not do that"),
    404: ("not-found", "There is no such thing"),
    405: ("method", "The method is not for this path"),
    409: ("conflict", "It cannot be done now"),
    413: ("too-large", "The request is too large"),
    415: ("media-type", "The body must be JSON"),
    422: ("invalid", "The request does not fit the schema"),
    429: ("rate", "Too many requests"),
    500: ("internal", "Something went wrong here"),
    503: ("busy", "The service is busy"),
    504: ("timeout", "The request took too long"),
}


class Problem(Exception):
    """Raised by handlers; becomes the reply."""

    def __init__(self, status: int, detail: str, hint: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.hint, self.headers = status, detail, hint, dict(headers or {})


def absent(part: str, how: str) -> Problem:
    """The bundle does not hold what the route needs: never answered by something else in silence."""
    return Problem(404, f"{part} is not in this bundle", how)


def busy(seconds: float, detail: str = "all places are taken") -> Problem:
    return Problem(503, detail, "try again after Retry-After seconds", {"Retry-After": str(max(1, round(seconds)))})


def fault() -> Problem:
    return Problem(500, "an error of the service, which its log explains")


def body(problem: Problem, request_id: str, errors: Iterable[Mapping[str, Any]] = ()) -> bytes:
    """The document, as JSON."""
    slug, title = TITLES.get(problem.status, ("error", "The request failed"))
    told: dict[str, Any] = {
        "type": f"urn:synthrec:problem:{slug}",
        "title": title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": f"urn:synthrec:request:{request_id}",
    }
    told |= {"hint": problem.hint} if problem.hint else {}
    told |= {"errors": list(errors)} if errors else {}
    return json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")


def reply(problem: Problem, request_id: str, errors: Iterable[Mapping[str, Any]] = ()) -> Response:
    return Response(body(problem, request_id, errors), problem.status, problem.headers, MEDIA)


def install(app: FastAPI) -> None:
    """Turn what handlers raise, and what FastAPI refuses, into problems."""

    @app.exception_handler(Problem)
    async def ours(request: Request, error: Problem) -> Response:
        return reply(error, _id(request))

    @app.exception_handler(FilterError)
    async def unfit(request: Request, error: FilterError) -> Response:
        return reply(Problem(422, error.problem, error.hint), _id(request))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        """What it was goes on to the guard, which logs it."""
        return reply(fault(), _id(request))

    @app.exception_handler(StoreError)
    async def no_store(request: Request, error: StoreError) -> Response:
        """Where it is and what ails it is for the log: other errors' words name files, too, and are not passed on."""
        log.error("the store failed", extra={"facts": {"request": _id(request), "why": error.problem}})
        return reply(busy(1, "the store does not answer; whether it has kept this is not known"), _id(request))

    @app.exception_handler(Away)
    async def no_index(request: Request, error: Away) -> Response:
        log.error("the index failed", extra={"facts": {"request": _id(request), "why": error.problem}})
        return reply(busy(1, "the index does not answer"), _id(request))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        if any(one["type"] == "json_invalid" for one in error.errors()):
            return reply(Problem(400, "the body is not JSON", "send JSON in UTF-8"), _id(request))
        errors = [{"pointer": pointer(one["loc"]), "detail": one["msg"]} for one in error.errors()]
        told = "; ".join(f"{one['pointer']}: {one['detail']}" for one in errors[:3])
        return reply(Problem(422, told, "/openapi.json describes every field"), _id(request), errors)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return reply(Problem(error.status_code, str(error.detail), headers=error.headers), _id(request))


def pointer(loc: Iterable[Any]) -> str:
    """A place in the body as a JSON pointer in a fragment (RFC 6901); in a query or path as `query/name`."""
    where, *parts = [str(part).replace("~", "~0").replace("/", "~1") for part in loc]
    return "#/" + "/".join(parts) if where == "body" else "/".join([where, *parts])


def _id(request: Request) -> str:
    return str(request.scope.get("synthrec.request_id", ""))
