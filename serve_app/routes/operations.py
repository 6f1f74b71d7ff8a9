"""Running the service: health, what is served, and who decides that."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from serve_app.logs import FACTS, log
from serve_app.problems import Problem, busy
from serve_app.rollout import Plan
from serve_app.routes.common import Serving, problems
from serve_app.schemas import operations as shown
from serve_app.schemas.shoppers import ForgetRequest, Forgotten
from serve_app.service import Service

router = APIRouter(tags=["operations"], responses=problems())
admin = APIRouter(prefix="/v1/admin", tags=["admin"], responses=problems(404, 409))


@router.get("/healthz")
async def healthz() -> shown.Health:
    """Whether the process answers at all. Needs no key."""
    return shown.Health()


@router.get("/readyz")
async def readyz(service: Serving) -> shown.Ready:
    """Whether it can serve: a bundle is loaded and the store answers."""
    if not service.ready():
        raise busy(service.settings.retry_after_seconds, "the store does not answer, or no bundle is loaded yet")
    return shown.Ready(bundle=service.plan.bundle, products=service.current.index.size)


@router.get("/metrics", response_class=Response)
async def metrics(service: Serving) -> Response:
    """Counts and times of this replica, for Prometheus."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/bundle")
async def bundle(service: Serving) -> shown.BundleInfo:
    """What is being served: its lineage, its metrics, and how far it has followed live changes."""
    loaded, manifest = service.current, service.current.bundle.manifest
    names = ("name", "made", "system", "encoder", "recommender", "metrics", "lineage")
    return shown.BundleInfo(
        version=loaded.version,
        products=loaded.index.size,
        revision=loaded.index.revision,
        parts=loaded.parts,
        **{name: manifest.get(name) for name in names},
    )


@admin.post("/bundle")
async def swap(request: shown.SwapRequest, service: Serving) -> shown.Rollout:
    """Serve another version: to all, to a share of the shoppers, or in the shadow.

    It is loaded beside the one that serves, warmed and checked; if that fails nothing changes (409). The other
    replicas follow within seconds.
    """

    def change(plan: Plan) -> Plan:
        whole = request.percent == 100 and not request.shadow
        if not whole and request.version == plan.bundle:
            raise Problem(409, f"{request.version} is what everybody gets already", "try another version")
        _note(service, "swap", **request.model_dump())
        return plan.swapped(request.version) if whole else plan.trial(request.version, request.percent, request.shadow)

    await service.adopt(change)
    return shown.Rollout(**service.plan.row())


@admin.post("/rollback")
async def rollback(service: Serving) -> shown.Rollout:
    """End the trial; where there is none, serve the version before."""

    def change(plan: Plan) -> Plan:
        before = plan.back()
        if before is None:
            raise Problem(409, "there is no version to go back to", "POST /v1/admin/bundle names one")
        _note(service, "rollback", to=before.bundle)
        return before

    await service.adopt(change)
    return shown.Rollout(**service.plan.row())


@admin.get("/rollout")
async def rollout(service: Serving) -> shown.Report:
    """How the versions compare, on this replica."""
    arms: dict[str, Any] = {version: arm.told() for version, arm in service.arms.items()}
    return shown.Report(rollout=shown.Rollout(**service.plan.row()), arms=arms, **service.comparison.told())


@admin.post("/forget")
async def forget(request: ForgetRequest, service: Serving) -> Forgotten:
    """Erase a shopper's events and feedback here. `synthrec forget` does so in the run directory."""
    shopper = str(service.shopper(request.user_id))
    _note(service, "forget from the store", user=shopper)
    return Forgotten(rows=await service.stored(lambda: service.store.forget(shopper)))


def _note(service: Service, what: str, **facts: Any) -> None:
    """On record before it is done: who asked, by key."""
    facts["key"] = (FACTS.get() or {}).get("key")
    service.audit(what, **facts)
    log.warning("admin", extra={"facts": {"what": what, **facts}})
