"""What the routers share."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from serve_app.problems import TITLES
from serve_app.schemas.common import ProblemDetails
from serve_app.service import Service


async def _service(request: Request) -> Service:  # async: FastAPI would run a plain function in a thread
    found: Service = request.app.state.service
    return found


Serving = Annotated[Service, Depends(_service)]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of errors; every route may also give those of the guard."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {
        status: {"description": TITLES[status][1], "content": content}
        for status in sorted({400, 401, 403, 413, 415, 422, 429, 500, 503, 504, *statuses})
    }


__all__ = ["ProblemDetails", "Serving", "problems"]
