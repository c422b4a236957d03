"""Open-loop load: requests leave at their time whether earlier ones are answered or not; every one is recorded."""

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

from tests.chaos.asking import Answer, Line, NoAnswer, post
from tests.chaos.background import Background

RATE = 200.0
READS = 0.7
_MOST_LINES = 1000


class Kind(StrEnum):
    """What a request asks for."""

    READ = "read"
    WRITE = "write"


@dataclass(slots=True)
class Record:
    """One request and what became of it. Points in time are of ``time.monotonic``."""

    kind: Kind
    tag: int
    """Its own number; that of a write is in the audit table if it took place."""
    sent: float
    answered: float = 0.0
    status: int = 0
    """0: no answer came."""
    code: str | None = None
    outcome: str | None = None
    endpoint: str | None = None
    server: str | None = None
    """Who answered a read, by its own words."""
    attempts: int = 1
    detail: str = ""
    token: str | None = None

    @property
    def good(self) -> bool:
        """Whether it was answered as it should be."""
        return self.status == 200

    @property
    def seconds(self) -> float:
        """How long the answer took."""
        return self.answered - self.sent


Mix = Callable[[Kind, int], bytes]
"""Writes the request of this kind with this tag."""


def mixture(read: str = "look", write: str = "note", **headers: str) -> Mix:
    """Requests for these two queries, all with these headers."""

    def request(kind: Kind, tag: int) -> bytes:
        arguments = {"n": tag % 1000 + 1} if kind is Kind.READ else {"id": tag}
        return post(f"/query/{read if kind is Kind.READ else write}", arguments, **headers)

    return request


class Lines:
    """Connections to a gateway, used by turns, so that all of its workers get their share."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: deque[Line] = deque()
        self._open: set[Line] = set()

    async def warm(self, count: int) -> None:
        """Open so many in advance."""
        self._idle.extend(await asyncio.gather(*(self._connect() for _ in range(count))))

    async def ask(self, request: bytes) -> Answer:
        """Ask over a connection that is idle, else over a new one; raises NoAnswer."""
        line = await self._take()
        answer = await line.ask(request)
        self._idle.append(line)
        return answer

    def close(self) -> None:
        """Close all of them."""
        for line in self._open:
            line.close()

    async def _take(self) -> Line:
        while self._idle:
            line = self._idle.popleft()
            if not line.closed:
                return line
            self._open.discard(line)
        return await self._connect()

    async def _connect(self) -> Line:
        if len(self._open) >= _MOST_LINES:
            self._open = {line for line in self._open if not line.closed}
            if len(self._open) >= _MOST_LINES:
                raise NoAnswer(f"{_MOST_LINES} requests are unanswered")
        line = await Line.open(self._port)
        self._open.add(line)
        return line


class Load:
    """``with Load(loop, port) as load: …``: requests arrive at a fixed rate until its end, then it waits for answers.

    ``records`` grows in the order the requests were sent; one without ``answered`` is under way.
    """

    def __init__(
        self,
        background: Background,
        port: int,
        *,
        tags: Iterator[int] | None = None,
        rate: float = RATE,
        reads: float = READS,
        mix: Mix | None = None,
        lines: int = 32,
    ) -> None:
        """Set it up.

        ``tags`` number the requests: loads on the same audit table share them. ``rate`` is in requests a second,
        ``reads`` their share, ``lines`` the connections open from the start.
        """
        self._background = background
        self._tags = tags or itertools.count(1)
        self._rate = rate
        self._reads = reads
        self._mix = mix or mixture()
        self._lines = Lines(port)
        self._warm = lines
        self._random = random.Random(4)  # noqa: S311 -- the same mix each time
        self._under_way: set[asyncio.Task[None]] = set()
        self._arrivals = list[Future[None]]()
        self._over = False
        self.records: list[Record] = []
        self.stalls: list[tuple[float, float]] = []
        """When this generator itself was late, and by how much: a busy machine, which delays everybody else too."""

    def __enter__(self) -> Self:
        self._background.run(self._lines.warm(self._warm))
        self._arrivals.append(asyncio.run_coroutine_threadsafe(self._arrive(), self._background.loop))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        for arrivals in self._arrivals:
            arrivals.result()
        self._background.run(self._finish())

    def sent_between(self, first: float, last: float, kind: Kind | None = None) -> list[Record]:
        """The requests sent in ``[first, last)``."""
        return [one for one in self.records if first <= one.sent < last and kind in (None, one.kind)]

    def of(self, kind: Kind) -> list[Record]:
        """All requests of this kind."""
        return [one for one in self.records if one.kind is kind]

    def stalled(self, first: float = 0.0) -> float:
        """The longest time in seconds for which the generator itself stood still since."""
        return max((late for at, late in self.stalls if at >= first), default=0.0)

    async def _arrive(self) -> None:
        begin = time.monotonic()
        for number in itertools.count():
            due = begin + number / self._rate
            late = time.monotonic() - due
            if late < 0:
                await asyncio.sleep(-late)
                late = time.monotonic() - due
            if late > 0.02:
                self.stalls.append((due, late))
            if self._over:
                return
            task = asyncio.get_running_loop().create_task(self._send())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _send(self) -> None:
        kind = Kind.READ if self._random.random() < self._reads else Kind.WRITE
        record = Record(kind, next(self._tags), time.monotonic())
        self.records.append(record)
        try:
            answer = await self._lines.ask(self._mix(kind, record.tag))
        except NoAnswer as error:
            record.detail = str(error)
        else:
            note(record, answer)
        record.answered = time.monotonic()

    async def _finish(self) -> None:
        await asyncio.gather(*self._under_way)
        self._lines.close()


def note(record: Record, answer: Answer) -> None:
    """Write an answer into the record of its request."""
    record.status = answer.status
    record.endpoint = answer.headers.get("gateway-endpoint")
    record.attempts = int(answer.headers.get("gateway-attempts", 1))
    record.token = answer.headers.get("gateway-consistency-token")
    body = answer.json
    record.outcome = body.get("outcome")
    if answer.status == 200:
        record.server = (body.get("row") or {}).get("server")
    else:
        record.code = body.get("code")
        record.detail = body.get("detail") or ""


def quantile(records: Sequence[Record], share: float) -> float:
    """This quantile of the answer times in seconds, 0 of none."""
    times = sorted(one.seconds for one in records)
    return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0


def tell(records: Sequence[Record]) -> str:
    """What kinds of failures these are, in a line: ``2 read 503 connection_lost, 1 write no answer``."""
    counts: dict[str, int] = {}
    for one in records:
        words = f"{one.status} {one.code}" if one.status else "no answer"
        words = f"{one.kind} {words}" + (f" ({one.outcome})" if one.outcome else "")
        counts[words] = counts.get(words, 0) + 1
    return ", ".join(f"{count} {words}" for words, count in counts.items())
