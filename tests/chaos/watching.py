"""Looks at ``/health`` of every worker all the time: who of them knew what, and when."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.chaos.asking import Line, NoAnswer, find_worker, get
from tests.chaos.background import Background

EVERY = 0.015
_HEALTH = get("/health")


@dataclass(frozen=True, slots=True)
class Sight:
    """What a worker said of an endpoint."""

    role: str | None
    groups: frozenset[str]
    """In whose rotation it is."""
    reason: str | None
    lag_ms: float | None = field(compare=False, default=None)

    @property
    def inside(self) -> bool:
        """Whether some group uses it."""
        return bool(self.groups)


@dataclass(frozen=True, slots=True)
class Change:
    """From this moment on a worker said something else of an endpoint."""

    at: float
    worker: int
    endpoint: str
    sight: Sight


class Watch:
    """``with Watch(loop, port, workers): …``; ``workers`` says who they are now, they may be replaced.

    A worker that gives no answer (it is frozen, or dead) has said nothing new.
    """

    def __init__(self, background: Background, port: int, workers: Callable[[], Sequence[int]]) -> None:
        self._background = background
        self._port = port
        self._workers = workers
        self._watching = list[Future[None]]()
        self.changes: list[Change] = []
        self.latest: dict[int, dict[str, Sight]] = {}
        """What each worker said last, by its pid and the endpoint's name."""
        self.heard: dict[int, float] = {}
        """When each worker gave its last answer."""
        self.bodies: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._watching.append(asyncio.run_coroutine_threadsafe(self._watch(), self._background.loop))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for watching in self._watching:
            watching.cancel()

    def known(
        self,
        condition: Callable[[dict[str, Sight]], bool],
        *,
        timeout: float = 10.0,
        since: float = 0.0,
        workers: Sequence[int] = (),
    ) -> float:
        """When the last of the workers came to say what satisfies the condition, waiting for it; else infinity.

        ``since``: only words from then on count; ``workers``: whose, by default all there are. The moment is that of
        the answer, so up to 15 ms late.
        """
        give_up = time.monotonic() + timeout
        begin: dict[int, float] = {}
        while time.monotonic() < give_up:
            now = list(workers or self._workers())
            for pid in now:
                if self.heard.get(pid, 0.0) < since:
                    continue
                if condition(self.latest.get(pid, {})):
                    begin.setdefault(pid, max(self._said_since(pid), since))
                else:
                    begin.pop(pid, None)
            if now and all(pid in begin for pid in now):
                return max(begin[pid] for pid in now)
            time.sleep(0.003)
        return math.inf

    def out(self, *endpoints: str, since: float, timeout: float = 10.0, workers: Sequence[int] = ()) -> float:
        """When every worker had these out of all groups, by what was said after ``since``; else infinity."""
        return self.known(
            lambda sights: all(name in sights and not sights[name].inside for name in endpoints),
            since=since,
            timeout=timeout,
            workers=workers,
        )

    def back(self, *endpoints: str, since: float, timeout: float = 10.0) -> float:
        """When every worker had these in some group again; else infinity."""
        return self.known(
            lambda sights: all(name in sights and sights[name].inside for name in endpoints),
            since=since,
            timeout=timeout,
        )

    def spread(self, endpoint: str, since: float) -> float:
        """Seconds between the first and the last worker's word that it is out of all groups."""
        first: dict[int, float] = {}
        for one in self.changes:
            if one.endpoint == endpoint and one.at >= since and not one.sight.inside:
                first.setdefault(one.worker, one.at)
        return max(first.values()) - min(first.values()) if first else math.inf

    def reasons(self, endpoint: str, since: float = 0.0) -> list[str]:
        """Why it was out, in order, by anybody's words."""
        found = [one for one in self.changes if one.endpoint == endpoint and one.at >= since and one.sight.reason]
        return list(dict.fromkeys(str(one.sight.reason) for one in found))

    def entries(self, endpoint: str, since: float = 0.0) -> int:
        """How often it came (back) into some group: the most that any one worker saw."""
        counts: dict[int, int] = {}
        was: dict[int, bool] = {}
        for one in self.changes:
            if one.endpoint == endpoint:
                if one.at >= since and one.sight.inside and not was.get(one.worker, True):
                    counts[one.worker] = counts.get(one.worker, 0) + 1
                was[one.worker] = one.sight.inside
        return max(counts.values(), default=0)

    def withdrawals(self, since: float = 0.0) -> list[Change]:
        """Every time an endpoint left all groups, by anybody's words."""
        was: dict[tuple[int, str], bool] = {}
        found = []
        for one in self.changes:
            key = (one.worker, one.endpoint)
            if one.at >= since and was.get(key) and not one.sight.inside:
                found.append(one)
            was[key] = one.sight.inside
        return found

    def _said_since(self, pid: int) -> float:
        return max((one.at for one in reversed(self.changes) if one.worker == pid), default=0.0)

    async def _watch(self) -> None:
        watchers: dict[int, asyncio.Task[None]] = {}
        while True:
            now = set(self._workers())
            for pid in now - watchers.keys():
                watchers[pid] = asyncio.create_task(self._follow(pid))
            for pid in watchers.keys() - now:
                watchers.pop(pid).cancel()
            await asyncio.sleep(0.05)

    async def _follow(self, pid: int) -> None:
        """NOTE: whom a connection lands on is the kernel's choice: more are opened until it is this worker."""
        while True:
            try:
                line = await self._reach(pid)
                while True:
                    answer = await line.ask(_HEALTH)
                    self._note(pid, time.monotonic(), answer.json)
                    await asyncio.sleep(EVERY)
            except NoAnswer:
                await asyncio.sleep(EVERY)

    async def _reach(self, pid: int) -> Line:
        tried = []
        try:
            while True:
                line = await Line.open(self._port)
                tried.append(line)
                await line.ask(_HEALTH)
                if find_worker(line, self._port, [pid]) == pid:
                    tried.remove(line)
                    return line
                if len(tried) > 64:
                    raise NoAnswer(f"no connection lands on worker {pid}")
        finally:
            for line in tried:
                line.close()

    def _note(self, pid: int, now: float, body: Any) -> None:
        self.heard[pid] = now
        self.bodies[pid] = body
        latest = self.latest.setdefault(pid, {})
        for name, endpoint in body["endpoints"].items():
            groups = frozenset(group for group, about in body["groups"].items() if name in about["rotation"])
            sight = Sight(endpoint["role"], groups, endpoint["reason"], endpoint["lag_ms"])
            if latest.get(name) != sight:
                self.changes.append(Change(now, pid, name, sight))
            latest[name] = sight
