"""What the routers share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from serve_app.problems import TITLES, Problem
from serve_app.schemas.common import ProblemDetails
from serve_app.service import Service
from synthrec.retrieval.filters import FilterError

T = TypeVar("T")


async def _service(request: Request) -> Service:  # async: FastAPI would run a plain function in a thread
    found: Service = request.app.state.service
    return found


async def _charge(request: Request) -> Callable[[int], None]:
    return request.scope.get("synthrec.charge") or (lambda tokens: None)


Serving = Annotated[Service, Depends(_service)]
Charge = Annotated[Callable[[int], None], Depends(_charge)]  # requests beyond the first, to the caller's key


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of errors; every route may also give those of the guard."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {
        status: {"description": TITLES[status][1], "content": content}
        for status in sorted({400, 401, 403, 413, 415, 422, 429, 500, 503, 504, *statuses})
    }


async def together(name: str, work: Sequence[Awaitable[T]], charge: Callable[[int], None]) -> list[T]:
    """What all come to, in order. Where one fails the others end with it: the place of the request is given up.

    Args:
        name: of the list in the request, which a problem then names with the entry's number.
        charge: of the caller's key, whose rate is of searches, however many come at once.
    """
    charge(len(work) - 1)

    async def one(place: int, some: Awaitable[T]) -> T:
        try:
            return await some
        except Problem as error:
            raise Problem(error.status, f"#/{name}/{place}: {error.detail}", error.hint, error.headers) from None
        except FilterError as error:
            raise Problem(422, f"#/{name}/{place}: {error.problem}", error.hint) from None

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(place, some)) for place, some in enumerate(work)]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


__all__ = ["Charge", "ProblemDetails", "Serving", "problems", "together"]
