"""The service behind the routes: which versions are loaded, who is answered by which, and the store they follow.

It knows no HTTP and no Ray: the same under bare uvicorn, in tests and in a replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from serve_app.batching import Encode
from serve_app.loaded import Loaded, load
from serve_app.logs import Metrics, fact, log
from serve_app.problems import Problem
from serve_app.rollout import NOTE, Arm, Comparison, Plan
from synthrec.config import Serve
from synthrec.errors import UserError
from synthrec.privacy import Pseudonymiser, load_key
from synthrec.stores import Store

T = TypeVar("T")
PSEUDONYM = re.compile("u_[0-9a-f]{16}")
SHADOWS = 8  # answers on the side at once; more are skipped, so that a slow candidate harms nobody
STALE_POLLS = 20  # looks at the store that may fail in a row before a replica calls itself not ready


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
        remote: Callable[[str], Encode] | None = None,
        audit: Callable[..., None] = lambda what, **facts: None,
    ) -> None:
        self.root, self.store, self.settings, self.metrics, self.audit = root, store, settings, metrics, audit
        self.plan = Plan(version)
        self.comparison = Comparison()
        self._shadows: set[asyncio.Task[None]] = set()
        self._people = Pseudonymiser(load_key())
        self._remote = remote
        self._loaded: dict[str, Loaded] = {}
        self._arms: dict[str, Arm] = {}
        cores = len(os.sched_getaffinity(0))
        self._encoding = ThreadPoolExecutor(1, "encode")  # one batch at a time: the next gathers meanwhile
        self._searching = ThreadPoolExecutor(min(2, cores), "search")
        self._storing = ThreadPoolExecutor(4, "store")
        self._following = ThreadPoolExecutor(1, "follow")  # loads bundles and applies changes, in order
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

    async def start(self) -> None:
        """Load what the plan names; then follow the store until `stop`. Raises UserError where it cannot be served."""
        await self._on(self._following, self._look)
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for pool in (self._encoding, self._searching, self._storing, self._following):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.settings.poll_seconds)
            try:
                await self._on(self._following, self._look)
                self._failures = 0
            except Exception as error:  # whatever it is: what is loaded answers on, and /readyz tells
                self._failures += 1
                told = error.problem if isinstance(error, UserError) else repr(error)
                log.error("cannot follow the store", extra={"facts": {"why": told, "times": self._failures}})

    def _look(self) -> None:
        """Do what the store says: apply changed products, load and drop versions."""
        for one in self._loaded.values():  # first: a version that will not load holds up no product
            one.follow(self.store)
        noted = self.store.noted(NOTE)
        plan = Plan.read(noted) if noted else self.plan
        self._prepare(plan)
        if plan != self.plan:
            self._arms, self.comparison = {}, Comparison()
            log.info("rollout", extra={"facts": plan.row()})
        self.plan = plan  # one assignment: a request sees the old plan or the new one
        self._loaded = {version: one for version, one in self._loaded.items() if version in plan.versions}
        self.metrics.catalogue(self.current.index.size, self.current.index.revision)
        self.metrics.bundles({"bundle": plan.bundle} | ({"candidate": plan.candidate} if plan.candidate else {}))

    def _prepare(self, plan: Plan) -> None:
        """Load, beside what answers, what a plan needs: opened, warmed, checked and up to date."""
        for version in plan.versions:
            if version not in self._loaded:
                remote = self._remote(version) if self._remote else None
                made = load(self.root / version, self.settings, self._encoding, remote)
                made.follow(self.store)
                self._loaded = {**self._loaded, version: made}

    async def follow(self) -> None:
        """Do now what the store says, as after a write: whoever wrote here finds it here."""
        await self._on(self._following, self._look)

    async def adopt(self, plan: Plan) -> None:
        """Make a plan everybody's, once what it needs is loaded and checked here. Raises Problem 409 where it fails."""
        try:
            await self._on(self._following, lambda: self._prepare(plan))
        except UserError as error:
            raise Problem(409, error.problem, error.hint) from None
        await self.stored(lambda: self.store.note(NOTE, plan.row()))
        await self.follow()

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
        return self.plan.bundle in self._loaded and self._failures < STALE_POLLS

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
        finally:
            arm.note(time.perf_counter() - start, failed)

    def shopper(self, user_id: str | None) -> str | None:
        """The pseudonym that a shop's id is kept under, the same as in the run directory."""
        if user_id is None or PSEUDONYM.fullmatch(user_id):
            return user_id
        return self._people.user(user_id)

    async def searched(self, work: Callable[[], T]) -> T:
        """Processor work off the event loop, which meanwhile reads and writes sockets."""
        return await self._on(self._searching, work)

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
