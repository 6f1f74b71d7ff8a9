"""Deployments on Ray Serve: replicas that answer, and, where asked for, encoders apart from them.

An encoder in each replica is the default (`serve.encoder`): it saves a hop between two replicas, and batches fill there
as well as elsewhere. `benchmarks.serving --parts place` measures both on one host. Apart is for an encoder that has a
GPU, or is so large that not every replica should hold it. The index is always inside: it is mapped from disk, which
replicas of a node share, and every search needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from serve_app import api, local, logs
from serve_app.batching import Encode
from serve_app.local import Home
from synthrec.config import Serve

QUIET = {"enable_access_log": False}  # the guard writes a line a request; Ray would write two more
VERSIONS = 3  # whose encoders stay loaded: what answers, what is on trial, what was rolled back from
BEYOND = 64  # requests that Ray hands a replica beyond its places, so that the replica says 503 in our words


@serve.deployment
class Encoder:
    """Queries -> unit vectors, a batch at a time; of every version that is asked for."""

    def __init__(self, bundles: str, batch_size: int, wait_seconds: float) -> None:
        self._bundles = bundles
        self._models: dict[str, Any] = {}
        batched: Any = self.batched  # serve.batch adds the setters
        batched.set_max_batch_size(batch_size)
        batched.set_batch_wait_timeout_s(wait_seconds)

    @serve.batch
    async def batched(self, queries: list[tuple[str, str]]) -> list[Any]:
        """A vector each; an exception each where their version fails, which is nothing to the other versions'."""
        found: list[Any] = [None] * len(queries)
        for version in {version for version, _ in queries}:
            places = [place for place, one in enumerate(queries) if one[0] == version]
            try:
                vectors: Any = self._model(version).encode([queries[place][1] for place in places], query=True)
            except Exception as error:
                vectors = [error] * len(places)
            for place, vector in zip(places, vectors, strict=True):
                found[place] = vector
        return found

    def _model(self, version: str) -> Any:
        from synthrec.compression.encoder import load

        made = self._models.pop(version, None) or load(f"{self._bundles}/{version}/model")
        self._models[version] = made
        if len(self._models) > VERSIONS:
            self._models.pop(next(iter(self._models)))
        return made

    async def __call__(self, version: str, query: str) -> Any:
        found = await self.batched((version, query))
        if isinstance(found, Exception):
            raise found
        return found


@serve.deployment
@serve.ingress()
class Api:
    """A replica: the service, and the HTTP application around it."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, home: Home, settings: Serve, encoder: DeploymentHandle[Any] | None = None
    ) -> None:
        import torch

        torch.set_num_threads(1)  # replicas share the cores; threads that wait for each other only heat them
        logs.start()
        name = serve.get_replica_context().replica_id.unique_id
        self._keys = local.keyring(settings)
        self._service = local.service(home, settings, name, _remote(encoder) if encoder else None)
        await self._service.start()

    def __serve_build_asgi_app__(self) -> Any:
        return api.create(self._service, self._keys, named=True)

    async def __del__(self) -> None:
        await self._service.stop()
        self._service.store.close()


def _remote(handle: DeploymentHandle[Any]) -> Any:
    def of(version: str) -> Encode:
        async def encode(query: str) -> Any:
            try:
                return await handle.remote(version, query)
            except RayActorError:  # it died with the query in hand; others live, or it is started anew
                return await handle.remote(version, query)

        return encode

    return of


PROXIES = {"head": "HeadOnly", "every node": "EveryNode"}


def start(host: str, port: int, proxies: str = "head") -> None:
    """Ray Serve's proxies, see `serve.proxies`. They time nothing: the replica knows which requests may take long."""
    serve.start(proxy_location=PROXIES[proxies], http_options={"host": host, "port": port}, logging_config=QUIET)


def build(home: Home, settings: Serve) -> serve.Application:
    """The application."""
    places = settings.max_ongoing_requests + settings.max_queued_requests + BEYOND
    given: Sequence[Any] = (home, settings)
    if settings.encoder == "apart":
        given = (*given, _encoder(home, settings))
    return Api.options(  # type: ignore[attr-defined, no-any-return]
        autoscaling_config=_scale(settings.replicas, settings.target_ongoing_requests),
        max_ongoing_requests=places,
        # Beyond even that Ray itself answers 503 at once: the proxy's memory is bounded, too.
        max_queued_requests=places,
        backpressure_config={"retry_after_s": settings.retry_after_seconds},
        graceful_shutdown_timeout_s=settings.drain_seconds,
        ray_actor_options={"num_cpus": settings.cpus},
        logging_config=QUIET,
    ).bind(*given)


def _encoder(home: Home, settings: Serve) -> Any:
    return Encoder.options(  # type: ignore[attr-defined]
        autoscaling_config=_scale(settings.encoder_replicas, settings.batch_size),
        # Fewer than a batch at once, and batches never fill.
        max_ongoing_requests=2 * settings.batch_size,
        graceful_shutdown_timeout_s=settings.drain_seconds,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.encoder_gpus},
    ).bind(home.bundles, settings.batch_size, settings.batch_wait_seconds)


def _scale(replicas: tuple[int, int], target: float) -> dict[str, Any]:
    return {"min_replicas": replicas[0], "max_replicas": replicas[1], "target_ongoing_requests": target}
