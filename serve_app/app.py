"""Deployments: an ingress that ranks, and the encoder it asks, whose requests are batched."""

from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException
from ray import serve
from ray.serve.handle import DeploymentHandle

import synthrec
from serve_app.schemas import Health, Hit, Hits, SearchRequest, SimilarRequest
from synthrec import bundle
from synthrec.config import Serve
from synthrec.retrieval.ranking import rank

api = FastAPI(title="synthrec", version=synthrec.__version__, description="Product search and similar products.")
SHOWN = ("product_id", "title", "brand", "category", "price", "language")


@serve.deployment
class Encoder:
    """Queries -> unit vectors, a batch at a time."""

    def __init__(self, model: str, batch_size: int, wait_seconds: float) -> None:
        from synthrec.compression.encoder import load

        self._model = load(model)
        batched: Any = self.batched  # serve.batch adds the setters
        batched.set_max_batch_size(batch_size)
        batched.set_batch_wait_timeout_s(wait_seconds)

    @serve.batch
    async def batched(self, queries: list[str]) -> list[Any]:
        return list(self._model.encode(queries, query=True))

    async def __call__(self, query: str) -> Any:
        return await self.batched(query)


@serve.deployment
@serve.ingress(api)
class Api:
    def __init__(self, folder: str, encoder: DeploymentHandle[Any]) -> None:
        self._bundle = bundle.load(Path(folder))
        self._encoder = encoder
        self._products = self._bundle.catalogue.select(SHOWN).to_pylist()
        self._place = {product["product_id"]: i for i, product in enumerate(self._products)}
        self._languages = np.array([product["language"] for product in self._products])

    @api.post("/v1/search")
    async def search(self, request: SearchRequest) -> Hits:
        """The products that best fit a query, in either language."""
        hybrid = self._bundle.hybrid
        vector = await self._encoder.remote(request.query) if hybrid.weight(request.query) > 0 else None
        unwanted = self._languages != request.language if request.language else np.zeros(len(self._products), bool)
        return self._hits(hybrid.scores(request.query, vector), request.k, np.flatnonzero(unwanted))

    @api.post("/v1/similar")
    async def similar(self, request: SimilarRequest) -> Hits:
        """Products like a given one, by what their texts mean."""
        place = self._place.get(request.product_id)
        if place is None:
            raise HTTPException(404, f"no product {request.product_id!r} in this bundle")
        vectors = self._bundle.hybrid.vectors
        unwanted = self._languages != self._languages[place] if request.same_language else np.zeros(len(vectors), bool)
        unwanted[place] = True
        return self._hits(vectors @ vectors[place], request.k, np.flatnonzero(unwanted))

    @api.get("/healthz")
    async def healthz(self) -> Health:
        manifest = self._bundle.manifest
        return Health(status="ok", bundle=manifest["name"], products=manifest["products"], system=manifest["system"])

    def _hits(self, scores: Any, k: int, unwanted: Any) -> Hits:
        found = rank(scores[None, :], min(k, len(self._products)), [unwanted])[0]
        return Hits(hits=[Hit(score=round(float(scores[i]), 6), **self._products[i]) for i in found if i >= 0])


def build(folder: Path, settings: Serve) -> serve.Application:
    """The application over one bundle."""
    scale = {
        "min_replicas": settings.replicas[0],
        "max_replicas": settings.replicas[1],
        "target_ongoing_requests": settings.batch_size,
    }
    encoder = Encoder.options(  # type: ignore[attr-defined]
        autoscaling_config=scale,
        # Fewer than a batch at once, and batches never fill.
        max_ongoing_requests=max(settings.max_ongoing_requests, settings.batch_size),
        ray_actor_options={"num_cpus": 0.5},
    ).bind(str(folder / "model"), settings.batch_size, settings.batch_wait_seconds)
    return Api.options(  # type: ignore[attr-defined, no-any-return]
        autoscaling_config=scale,
        max_ongoing_requests=settings.max_ongoing_requests,
        ray_actor_options={"num_cpus": 0.25},
    ).bind(str(folder), encoder)
