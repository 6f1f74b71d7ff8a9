"""The service behind the routes: which versions are loaded, who is answered by which, and the store they follow.

It knows no HTTP and no Ray: the same under bare uvicorn, in tests and in a replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from serve_app.batching import Encode
from serve_app.loaded import Loaded, load
from serve_app.logs import Metrics, fact, log
from serve_app.people import People
from serve_app.problems import Problem
from serve_app.rollout import NOTE, Arm, Comparison, Plan
from synthrec.config import Serve
from synthrec.errors import UserError
from synthrec.retrieval.filters import FilterError
from synthrec.stores import Store, StoreError
from synthrec.stores.base import Row

T = TypeVar("T")
SHADOWS = 8  # answers on the side at once; more are skipped, so that a slow candidate harms nobody
STALE_SECONDS = 10.0  # for which looks at the store may fail before a replica calls itself not ready


POPULAR, LATELY = 2_000, 1.0  # products that popularity ranks, and seconds for which a ranking stands
MOST_SECONDS = 60.0  # between two tries of a plan whose versions cannot be loaded


@dataclass(frozen=True)
class Failed:
    """A plan whose versions could not be loaded, and when to try again: opening a large bundle is dear."""

    plan: Plan
    error: UserError
    wait: float
    until: float

    @classmethod
    def again(cls, before: Failed | None, plan: Plan, error: UserError) -> Failed:
        """Twice as long after each try in vain."""
        wait = min(MOST_SECONDS, 2 * before.wait) if before and before.plan == plan else 1.0
        return cls(plan, error, wait, time.monotonic() + wait)


class Service:
    """Args:
    root: the folder whose subfolders are bundles, each known by its name, its version.
    version: that answers where the store names none.
    remote: version -> its encoder in another process; None: encode here.
    audit: keeps what an administrator did.
    """

    def __init__(
        self,
        root: Path,
        version: str,
        store: Store,
        settings: Serve,
        metrics: Metrics,
        people: People,
        remote: Callable[[str], Encode] | None = None,
        audit: Callable[..., None] = lambda what, **facts: None,
    ) -> None:
        self.root, self.store, self.settings, self.metrics, self.audit = root, store, settings, metrics, audit
        self.plan = Plan(version)
        self.comparison = Comparison()
        self._shadows: set[asyncio.Task[None]] = set()
        self.people = people
        self._remote = remote
        self._loaded: dict[str, Loaded] = {}
        self._arms: dict[str, Arm] = {}
        cores = len(os.sched_getaffinity(0))
        self._searching = ThreadPoolExecutor(min(2, cores), "search")
        self._aside = ThreadPoolExecutor(1, "shadow")
        self._storing = ThreadPoolExecutor(4, "store")
        self._following = ThreadPoolExecutor(1, "follow")  # applies changes and plans, in order
        self._loading = ThreadPoolExecutor(1, "load")  # opens bundles, which takes minutes: changes do not wait for it
        self._planning = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._failing: dict[str, float] = {}  # what is looked at -> since when it fails
        self._failed: Failed | None = None
        self._popular: tuple[float, list[tuple[str, float]]] = (-LATELY, [])

    async def popular(self) -> list[tuple[str, float]]:
        """Products that are taken most, best first, as it was less than `LATELY` seconds ago: it is dear to count."""
        now = time.monotonic()
        if now - self._popular[0] >= LATELY:
            self._popular = now, await self.stored(lambda: self.store.popular(POPULAR))
        return self._popular[1]

    async def start(self) -> None:
        """Load what the plan names; then follow the store until `stop`. Raises UserError where it cannot be served."""
        await self.stored(lambda: self.people.agree(self.store))
        await self._follow_plan()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._polled("changes", self.follow)),
            loop.create_task(self._polled("plan", self._follow_plan)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for pool in (self._searching, self._aside, self._storing, self._following, self._loading):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _polled(self, what: str, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self.settings.poll_seconds)
            start = time.monotonic()
            try:
                await look()
                self._failing.pop(what, None)
            except Exception as error:  # whatever it is: what is loaded answers on, and /readyz tells
                since = self._failing.setdefault(what, start)
                told = error.problem if isinstance(error, UserError) else repr(error)
                facts = {"what": what, "why": told, "seconds": round(time.monotonic() - since, 1)}
                log.error("cannot follow the store", extra={"facts": facts})

    async def follow(self) -> None:
        """Apply now what has changed in the store, as after a write: whoever wrote here finds it here."""
        await self._on(self._following, self._apply)

    def _apply(self) -> None:
        for one in self._loaded.values():
            one.follow(self.store)
        self.metrics.catalogue(self.current.index.size, self.current.index.revision)

    async def _follow_plan(self) -> None:
        """Load what the store's plan names, and serve by it."""
        async with self._planning:
            _, plan = await self.stored(self._noted)
            if plan == self.plan and self._loaded:
                return
            if self._failed is not None and self._failed.plan == plan and time.monotonic() < self._failed.until:
                raise self._failed.error
            try:
                made = await self._on(self._loading, lambda: self._load(plan))
            except UserError as error:
                self._failed = Failed.again(self._failed, plan, error)
                raise
            await self._on(self._following, lambda: self._take(plan, made))

    async def adopt(self, change: Callable[[Plan], Plan]) -> None:
        """Make of everybody's plan another, once what it needs is loaded and checked here.

        Args:
            change: of the plan as the store has it now, whatever this replica has seen of it. Raises Problem to refuse.

        Raises:
            Problem: 409 where a version cannot be served, or where another replica made another plan meanwhile.
        """
        async with self._planning:
            noted, now = await self.stored(self._noted)
            plan = change(now)
            try:
                made = await self._on(self._loading, lambda: self._load(plan))
            except StoreError:
                raise
            except UserError as error:
                raise Problem(409, error.problem, error.hint) from None
            if not await self.stored(lambda: self.store.renote(NOTE, noted, plan.row())):
                raise Problem(409, "somebody else changed the rollout meanwhile", "see `GET /v1/bundle`, and ask again")
            await self._on(self._following, lambda: self._take(plan, made))

    def _noted(self) -> tuple[Row | None, Plan]:
        """The store's note of the plan, and the plan that it comes to."""
        noted = self.store.noted(NOTE)
        return noted, Plan.read(noted) if noted else self.plan

    def _load(self, plan: Plan) -> dict[str, Loaded]:
        """What a plan needs and is not loaded yet, beside what answers: opened, warmed, checked and up to date."""
        made = {}
        for version in plan.versions:
            if version not in self._loaded:
                remote = self._remote(version) if self._remote else None
                # One batch of a version at a time: its next gathers meanwhile, and no other version waits for it.
                pool = ThreadPoolExecutor(1, "encode")
                made[version] = load(self.root / version, self.settings, pool, remote)
                made[version].skip_settled(self.store)
                made[version].follow(self.store)
        return made

    def _take(self, plan: Plan, made: dict[str, Loaded]) -> None:
        """Serve by a plan, whose versions are loaded; what it does not name is dropped."""
        for one in made.values():
            try:
                one.follow(self.store)  # what came while the last ones were opened
            except StoreError as error:  # the plan is everybody's by now; the next look at the store makes up for it
                log.error("cannot follow the store", extra={"facts": {"what": "changes", "why": error.problem}})
        if plan != self.plan:
            self._arms, self.comparison = {}, Comparison()
            log.info("rollout", extra={"facts": plan.row()})
        self._loaded = {**self._loaded, **made}
        self.plan = plan  # one assignment: a request sees the old plan or the new one
        self._loaded = {version: one for version, one in self._loaded.items() if version in plan.versions}
        self._failed = None
        self.metrics.catalogue(self.current.index.size, self.current.index.revision)
        self.metrics.bundles({"bundle": plan.bundle} | ({"candidate": plan.candidate} if plan.candidate else {}))

    @property
    def current(self) -> Loaded:
        return self._loaded[self.plan.bundle]

    @property
    def candidate(self) -> Loaded | None:
        return self._loaded.get(self.plan.candidate) if self.plan.candidate else None

    @property
    def arms(self) -> dict[str, Arm]:
        return self._arms

    def ready(self) -> bool:
        """Whether the version is loaded, and the store was seen lately. (A look that takes long has not failed.)"""
        since = min(self._failing.values(), default=time.monotonic())
        return self.plan.bundle in self._loaded and time.monotonic() - since < STALE_SECONDS

    @asynccontextmanager
    async def answering(self, shopper: str | None = None) -> AsyncIterator[Loaded]:
        """The version that answers a shopper, its time and failures noted."""
        plan, loaded = self.plan, self._loaded
        version = plan.version(shopper)
        fact(bundle=version, **({"shopper": shopper} if shopper and plan.candidate else {}))
        arm = self._arms.setdefault(version, Arm())
        start, failed = time.perf_counter(), True
        try:
            yield loaded[version]
            failed = False
        except Problem as problem:
            failed = problem.status >= 500
            raise
        except FilterError:  # the caller's mistake
            failed = False
            raise
        except asyncio.CancelledError:  # of a caller who left, or whose batch has a wrong entry; or it took too long
            failed = time.perf_counter() - start >= 0.9 * self.settings.timeout_seconds
            raise
        finally:
            arm.note(time.perf_counter() - start, failed)

    def shopper(self, user_id: str | None) -> str | None:
        """The pseudonym that a shop's id is kept under, the same as in the run directory."""
        return None if user_id is None else self.people.shopper(user_id)

    async def searched(self, work: Callable[[], T]) -> T:
        """Processor work off the event loop, which meanwhile reads and writes sockets."""
        return await self._on(self._searching, work)

    async def aside(self, work: Callable[[], T]) -> T:
        """The same of a shadow, for which no shopper waits."""
        return await self._on(self._aside, work)

    async def stored(self, work: Callable[[], T]) -> T:
        """A call of the store, which may wait for a disk or a network."""
        return await self._on(self._storing, work)

    async def _on(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def shadow(self, work: Callable[[Loaded], Awaitable[list[str]]], shown: list[str]) -> None:
        """Have the candidate do the same on the side, and compare the ids."""
        candidate = self.candidate
        if candidate is None or not self.plan.shadow or len(self._shadows) >= SHADOWS:
            return
        task = asyncio.get_running_loop().create_task(self._shadow(candidate, work, shown))
        self._shadows.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._shadows.discard)

    async def _shadow(
        self, candidate: Loaded, work: Callable[[Loaded], Awaitable[list[str]]], shown: list[str]
    ) -> None:
        arm = self._arms.setdefault(candidate.version, Arm())
        start, failed = time.perf_counter(), True
        try:
            self.comparison.note(shown, await work(candidate))
            failed = False
        except Exception as error:  # nobody sees it but the report
            log.warning("the shadow failed", extra={"facts": {"why": repr(error), "bundle": candidate.version}})
        finally:
            arm.note(time.perf_counter() - start, failed)
