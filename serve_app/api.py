"""The HTTP application: routers, problems, guard and page around a service. It knows no Ray."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.types import ASGIApp

import synthrec
from serve_app import problems
from serve_app.guard import Guard
from serve_app.keys import Keyring
from serve_app.routes import catalogue, operations, search, shoppers
from serve_app.schemas.common import ProblemDetails
from serve_app.service import Service

ROUTERS = (search.router, shoppers.router, catalogue.router, operations.router, operations.admin)
PAGE = Path(__file__).parent / "web"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'"
ABOUT = (
    "Search and recommendation over a shop's own products, in English and Chinese. Errors are problem details "
    "(RFC 9457). Where the service has keys, send one as `Authorization: Bearer KEY`; scopes: read, write, admin."
)


def routes() -> FastAPI:
    """The routes and their OpenAPI description, with no service behind them yet."""
    # No page of FastAPI's: it would run a script of another host, where everything is answered.
    app = FastAPI(title="synthrec", version=synthrec.__version__, description=ABOUT, docs_url=None, redoc_url=None)
    for one in ROUTERS:
        app.include_router(one)
    problems.install(app)

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]
    # File by file: a mount at the root would answer for every path that the API does not have.
    for path, file in page_files().items():
        app.add_route(path, partial(_file, file), include_in_schema=False)
    return app


def page_files() -> dict[str, Path]:
    """Path -> file of the web page."""
    files = {f"/{one.relative_to(PAGE).as_posix()}": one for one in sorted(PAGE.rglob("*")) if one.is_file()}
    return {"/": PAGE / "index.html", **files}


async def _file(file: Path, request: Request) -> FileResponse:
    return FileResponse(file, headers={"content-security-policy": POLICY})


def _described(app: FastAPI) -> dict[str, Any]:
    """OpenAPI with our errors instead of FastAPI's, and with the keys."""
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = schema["components"]["schemas"]
    for theirs in ("HTTPValidationError", "ValidationError"):
        schemas.pop(theirs, None)
    schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            operation["security"] = [] if path == "/healthz" else [{"key": []}]
    return schema


def create(service: Service, keys: Keyring | None, named: bool = False) -> ASGIApp:
    """The whole application around a service that has started.

    Args:
        named: a proxy names requests and tells their names (X-Request-ID), as Ray's does.
    """
    app = routes()
    app.state.service = service
    paths = {"/openapi.json", *(route.path for one in ROUTERS for route in one.routes if isinstance(route, APIRoute))}
    return Guard(app, service.settings, keys, service.metrics, paths, page_files().keys(), named)
