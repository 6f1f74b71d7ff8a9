"""Verbs of the command line that operate an endpoint: `keys`, of its key file; `bundle`, of what it serves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthrec import console
from synthrec.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from synthrec.client import Client

keys = typer.Typer(no_args_is_help=True, help="API keys of the endpoint: the file that serve.keys names.")
bundle = typer.Typer(
    no_args_is_help=True, help="What a running endpoint serves. Its key: $SYNTHREC_API_KEY, with the scope admin."
)
KeyFile = Annotated[Path, typer.Option("--file", "-f", help="the key file, as in serve.keys; made where there is none")]
KEYS = Path("~/.config/synthrec/api-keys.json")
Url = Annotated[str, typer.Option(help="of the endpoint")]
HERE = "http://127.0.0.1:8000"
LOADING = 600.0  # seconds that an endpoint may take to load, warm and check a bundle


class Scope(StrEnum):
    read = "read"
    write = "write"
    admin = "admin"


@keys.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(help="whose it is, for the list and the log")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="what it may do, several times for several; by default read")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="requests a second; by default serve.rate")] = None,
    file: KeyFile = KEYS,
) -> None:
    """Print a new key, this once: the file keeps its hash alone. A running endpoint knows it at once."""
    from serve_app import keys as kept

    if rate is not None and not math.isfinite(rate):
        raise UserError(f"--rate {rate} is no rate", "give a number, or leave it to serve.rate")
    typer.echo(kept.add(file.expanduser(), name, [one.value for one in scope or [Scope.read]], rate))


@keys.command("list")
def keys_list(file: KeyFile = KEYS) -> None:
    """Print as JSON whose keys there are and what they may do; no key, and no hash."""
    from serve_app import keys as kept

    shown = ("id", "name", "scopes", "rate", "made", "revoked")
    rows = [{name: getattr(key, name) for name in shown} for key in kept.read(file.expanduser())]
    typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))


@keys.command("revoke")
def keys_revoke(
    ident: Annotated[str, typer.Argument(metavar="ID", help="as `synthrec keys list` shows it")],
    file: KeyFile = KEYS,
) -> None:
    """Take a key back. A running endpoint refuses it at once."""
    from serve_app import keys as kept

    key = kept.revoke(file.expanduser(), ident)
    console.say(f"    the key {key.id} of {key.name} is revoked")


def _print(url: str, ask: Callable[[Client], BaseModel], timeout: float = 30.0) -> None:
    """What the endpoint replies, as JSON."""
    from synthrec.client import Client

    with Client(url, timeout=timeout) as client:
        typer.echo(ask(client).model_dump_json(indent=2))


@bundle.command("show")
def bundle_show(url: Url = HERE) -> None:
    """Print as JSON which version answers, its metrics and lineage."""
    _print(url, lambda client: client.bundle())


@bundle.command("swap")
def bundle_swap(
    version: Annotated[str, typer.Argument(help="the bundle's folder name: the fingerprint that `package` printed")],
    percent: Annotated[float, typer.Option(help="of the shoppers; 100: all")] = 100,
    shadow: Annotated[bool, typer.Option("--shadow", help="only compare, on the side")] = False,
    url: Url = HERE,
) -> None:
    """Serve another version, once it is loaded, warmed and checked beside the present one. No request fails."""
    _print(url, lambda client: client.swap(version, percent, shadow), LOADING)


@bundle.command("rollback")
def bundle_rollback(url: Url = HERE) -> None:
    """End a trial; where there is none, serve the version before."""
    _print(url, lambda client: client.rollback(), LOADING)


@bundle.command("report")
def bundle_report(url: Url = HERE) -> None:
    """Print as JSON how the versions on trial compare."""
    _print(url, lambda client: client.rollout())
