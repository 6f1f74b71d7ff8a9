"""The endpoint from Python: typed replies, and errors that say how to mend them.

>>> from synthrec.client import Client
>>> with Client("http://127.0.0.1:8000") as shop:  # doctest: +SKIP
...     for hit in shop.search("keep soup hot on a hike", k=3).hits:
...         print(hit.title, hit.price)
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from serve_app.schemas import common, operations, shoppers
from serve_app.schemas import search as texts
from synthrec.errors import UserError

KEY_VARIABLE = "SYNTHREC_API_KEY"
ADMIN, FULL = "/v1/admin/", "x-synthrec-full"  # FULL: nothing of the request was done, for want of a place
LEAST_WAIT = 0.1  # seconds
PATIENCE = 30.0  # seconds that one call may spend on waiting as it is told to
HINTS = {
    401: f"give Client(key=...) or set {KEY_VARIABLE}; `synthrec keys add` makes a key",
    404: "see client.bundle().parts for what this bundle holds",
    429: "ask for less at once, or have the key's rate raised",
    503: "the service is full or starting; try again later, or raise serve.replicas",
    504: "ask for less at once, or raise serve.timeout_seconds",
}

LOCAL = ("127.0.0.1", "::1", "localhost", "0.0.0.0")  # noqa: S104  # the last is asked, not listened at

Model = TypeVar("Model", bound=BaseModel)
Filters = common.Filters | Mapping[str, Any] | None


class ApiError(UserError):
    """What the service refused, or could not do.

    Attributes:
        status: of HTTP; 0 where there was no reply at all.
        request_id: names the request in the service's log.
        errors: of each wrong field its JSON pointer and what is wrong.
    """

    def __init__(
        self, status: int, problem: str, hint: str = "", request_id: str = "", errors: Sequence[dict[str, str]] = ()
    ) -> None:
        super().__init__(problem, hint)
        self.status, self.request_id, self.errors = status, request_id, list(errors)


class Client:
    """One connection pool; safe to share among threads. Close it, or use it in a `with` block.

    A 429 or 503 is asked again after as long as it says, for half a minute at most: the service did none of it.

    Args:
        key: an API key; by default $SYNTHREC_API_KEY. It is only sent over TLS or within this machine.
        timeout: seconds to wait for a reply.
        transport: of httpx, as for a proxy or a test.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        key = (key or os.environ.get(KEY_VARIABLE) or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"the API key (${KEY_VARIABLE}) holds what no key does", "give it as it was printed")
        scheme, host = _parts(url)
        here = host in LOCAL
        if key and scheme == "http" and not here:
            raise UserError(f"the key would travel to {host} unencrypted", "use https, or a tunnel")
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout,
            transport=transport,
            trust_env=not here,  # a proxy that the environment names would be told the key, and is not this machine
        )

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        page: int = 1,
        filters: Filters = None,
        weight: float | None = None,
        rerank: bool = False,
        explain: bool = False,
        user_id: str | None = None,
    ) -> common.Hits:
        """The products that best fit a query; see the API for what each option does."""
        body = {"query": query, "k": k, "page": page, "weight": weight, "rerank": rerank, "explain": explain}
        return self._post("/v1/search", body | _given(filters=filters, user_id=user_id), common.Hits)

    def search_many(self, searches: Sequence[texts.SearchRequest | Mapping[str, Any]]) -> list[common.Hits]:
        """Up to 64 searches at once, answered in their order."""
        return self._post("/v1/search/batch", {"searches": list(searches)}, texts.HitsBatch).replies

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] = (),
        k: int = 10,
        *,
        filters: Filters = None,
        filter_viewed: bool | None = None,
        diversity: float = 0.0,
    ) -> shoppers.Recommended:
        """What a shopper may want next; without an id and a history, what most people take."""
        body = {"history": list(history), "k": k, "filter_viewed": filter_viewed, "diversity": diversity}
        return self._post("/v1/recommend", body | _given(filters=filters, user_id=user_id), shoppers.Recommended)

    def recommend_many(
        self, requests: Sequence[shoppers.RecommendRequest | Mapping[str, Any]]
    ) -> list[shoppers.Recommended]:
        """For up to 64 shoppers at once, in their order."""
        return self._post("/v1/recommend/batch", {"shoppers": list(requests)}, shoppers.RecommendedBatch).replies

    def similar(
        self,
        product_id: str,
        k: int = 10,
        *,
        same_language: bool = True,
        filters: Filters = None,
        diversity: float = 0.0,
    ) -> common.Hits:
        """Products like a given one."""
        body = {"product_id": product_id, "k": k, "same_language": same_language, "diversity": diversity}
        return self._post("/v1/similar", body | _given(filters=filters), common.Hits)

    def brands(
        self, query: str | None = None, *, user_id: str | None = None, history: Sequence[str] = (), k: int = 5
    ) -> list[shoppers.Brand]:
        """Brands for a query, or for a shopper."""
        body = {"history": list(history), "k": k} | _given(query=query, user_id=user_id)
        return self._post("/v1/brands", body, shoppers.Brands).brands

    def intent(self, text: str) -> dict[str, texts.LabelScores]:
        """What a shopper is after."""
        return self._post("/v1/intent", {"text": text}, texts.Labels).tasks

    def sentiment(self, text: str) -> dict[str, texts.LabelScores]:
        """How a review judges."""
        return self._post("/v1/sentiment", {"text": text}, texts.Labels).tasks

    def profile(self, user_id: str | None = None, history: Sequence[str] = ()) -> shoppers.Profile:
        """What is known of a shopper."""
        return self._post("/v1/profile", {"history": list(history)} | _given(user_id=user_id), shoppers.Profile)

    def reply(self, turns: Sequence[str], k: int = 3) -> list[texts.SuggestedReply]:
        """Replies that would answer a dialogue, whose last turn is the shopper's."""
        return self._post("/v1/reply", {"turns": list(turns), "k": k}, texts.Replies).replies

    def event(self, event_id: str, user_id: str, product_id: str, kind: str, at: datetime | None = None) -> bool:
        """Tell what a shopper did (view, cart, purchase); whether it was new. Sent twice, it counts once."""
        row = {"event_id": event_id, "user_id": user_id, "product_id": product_id, "kind": kind}
        return bool(self.events([row | _given(at=at and at.isoformat())]).new)

    def events(self, events: Sequence[shoppers.Event | Mapping[str, Any]]) -> shoppers.Kept:
        """Up to 1,000 events; the call returns when they are safe on disk."""
        return self._post("/v1/events", {"events": list(events)}, shoppers.Kept)

    def upsert(self, products: Sequence[operations.Product | Mapping[str, Any]]) -> operations.Changed:
        """Add or replace products, up to 500; searchable within two seconds."""
        return self._post("/v1/products", {"upsert": list(products)}, operations.Changed)

    def delete(self, product_ids: Sequence[str]) -> operations.Changed:
        """Take products out of every answer."""
        return self._post("/v1/products", {"delete": list(product_ids)}, operations.Changed)

    def feedback(self, about: str, verdict: str, **more: Any) -> shoppers.Kept:
        """Say that a result was good or bad; `more`: request_id, query, product_id, user_id, comment."""
        return self._post("/v1/feedback", {"about": about, "verdict": verdict, **more}, shoppers.Kept)

    def bundle(self) -> operations.BundleInfo:
        """What is being served."""
        return self._get("/v1/bundle", operations.BundleInfo)

    def ready(self) -> operations.Ready:
        """Raises ApiError 503 where it is not."""
        return self._get("/readyz", operations.Ready)

    def swap(self, version: str, percent: float = 100, shadow: bool = False) -> operations.Rollout:
        """Serve another version, to all shoppers or some, or in the shadow. Needs the scope admin."""
        body = {"version": version, "percent": percent, "shadow": shadow}
        return self._post("/v1/admin/bundle", body, operations.Rollout)

    def rollback(self) -> operations.Rollout:
        """End the trial; where there is none, serve the version before. Needs the scope admin."""
        return self._post("/v1/admin/rollback", {}, operations.Rollout)

    def rollout(self) -> operations.Report:
        """How the versions on trial compare. Needs the scope admin."""
        return self._get("/v1/admin/rollout", operations.Report)

    def forget(self, user_id: str) -> int:
        """Erase a shopper's events and feedback; how many rows. Needs the scope admin."""
        return self._post("/v1/admin/forget", {"user_id": user_id}, shoppers.Forgotten).rows

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _get(self, path: str, model: type[Model]) -> Model:
        return _read(model, self._ask("GET", path, None))

    def _post(self, path: str, body: Mapping[str, Any], model: type[Model]) -> Model:
        return _read(model, self._ask("POST", path, _plain(body)))

    def _ask(self, method: str, path: str, body: Any) -> bytes:
        spent = 0.0
        while True:
            try:
                reply = self._http.request(method, path, json=body)
            except httpx.TimeoutException:
                raise ApiError(0, f"no reply from {self._http.base_url} in time", "raise Client(timeout=...)") from None
            except httpx.TransportError as error:
                told = f"cannot reach {self._http.base_url}: {error}"
                raise ApiError(0, told, "start it with `synthrec serve --config ...`, or mend the URL") from None
            except ValueError as error:  # what JSON cannot say
                raise UserError(f"the request cannot be written: {error}", "numbers must be finite") from None
            if reply.is_success:
                return reply.content
            wait = _wait(reply)
            if path.startswith(ADMIN) and FULL not in reply.headers and reply.status_code != 429:
                wait = None  # whether a rollback was done is not known; once more would undo it
            if wait is None or spent + wait > PATIENCE:
                raise _error(reply)
            wait = max(wait, LEAST_WAIT)
            time.sleep(wait)
            spent += wait


def _parts(url: str) -> tuple[str, str]:
    """Scheme and host. Raises UserError."""
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname or ""
    except ValueError:
        scheme, host = "", ""
    if scheme not in ("http", "https") or not host:
        raise UserError(f"{url!r} is no URL of a service", "write it like http://127.0.0.1:8000")
    return scheme, host


def _read(model: type[Model], content: bytes) -> Model:
    try:
        return model.model_validate_json(content)
    except ValidationError:
        told = f"the reply is no {model.__name__}: {content[:80]!r}"
        raise ApiError(0, told, "is it the service that answers there, of this version?") from None


def _wait(reply: httpx.Response) -> float | None:
    """Seconds that the service asks to wait; None where to ask again is of no use."""
    told = reply.headers.get("retry-after", "")
    return float(told) if reply.status_code in (429, 503) and told.isdigit() else None


def _error(reply: httpx.Response) -> ApiError:
    hint = HINTS.get(reply.status_code, "")
    try:
        problem = common.ProblemDetails.model_validate_json(reply.content)
    except ValueError:  # of a proxy on the way, in words of its own
        return ApiError(reply.status_code, f"HTTP {reply.status_code}: {reply.text[:200]}", hint)
    request_id = problem.instance.rpartition(":")[2]
    told = f"{problem.title}: {problem.detail}"
    return ApiError(reply.status_code, told, problem.hint or hint, request_id, problem.errors or [])


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _plain(value: Any) -> Any:
    """Models among what is sent as plain JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
