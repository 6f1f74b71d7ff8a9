"""The live catalogue."""

from __future__ import annotations

from fastapi import APIRouter

from serve_app.logs import fact
from serve_app.routes.common import Serving, problems
from serve_app.schemas.operations import Changed, ProductsRequest
from synthrec.sources.documents import product_row
from synthrec.sources.records import Product

router = APIRouter(prefix="/v1", tags=["catalogue"], responses=problems())


@router.post("/products")
async def products(request: ProductsRequest, service: Serving) -> Changed:
    """Add, replace and delete products; what is both put and deleted is deleted.

    The reply comes when it is safe on disk and searchable here. Texts are cleaned as `prepare` cleans them, and
    personal data in them replaced.
    """

    def write() -> int:  # all of it off the event loop: to clean five hundred texts takes its time
        told = service.people.clean
        rows = [product_row(Product.model_validate(one.model_dump()), told) for one in request.upsert]
        put = service.store.put_products(rows) if rows else 0
        deleted = service.store.delete_products(request.delete) if request.delete else 0
        return max(put, deleted)

    revision = await service.stored(write)
    await service.follow()
    fact(upserted=len(request.upsert), deleted=len(request.delete))
    return Changed(upserted=len(request.upsert), deleted=len(request.delete), revision=revision)
