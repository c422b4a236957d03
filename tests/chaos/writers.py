"""Clients that write, repeat keys when they do not know, and ask for outcomes."""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from tests.chaos.asking import Line, NoAnswer, get
from tests.chaos.ledger import COMMITTED, DENIED, KNOWN, Said, Write
from tests.chaos.load import Lines
from tests.chaos.rig import Node

AGAIN_FOR_NOTHING = 0.08
"""Share of the keys repeated though the answer came."""
AT_ONCE = 0.05
"""Share of the keys whose first request is sent three times at once."""
LEAVING = 0.01
"""Share of the requests whose client hangs up at once."""
MOST_REPEATS = 6
MOST_QUESTIONS = 3
BETWEEN_QUESTIONS = 0.3
_SETTLING = 20.0

Make = Callable[[int, random.Random], Write]
"""A new write with this number."""


class Writers:
    """``with Writers(node, make, rate=300) as writers: …``: so many clients write until its end, then all is settled.

    A client waits for its answer before it writes again; together they send about ``rate`` writes a second.
    """

    def __init__(self, node: Node, make: Make, *, rate: float, clients: int = 48) -> None:
        self._node = node
        self._make = make
        self._pause = clients / rate
        self._clients = clients
        self._lines = Lines(node.port)
        self._random = random.Random(9)  # noqa: S311 -- the same mix each time
        self._working = list[Future[None]]()
        self._over = False
        self.writes: list[Write] = []

    def __enter__(self) -> Self:
        for _ in range(self._clients):
            self._working.append(asyncio.run_coroutine_threadsafe(self._work(), self._node.background.loop))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        for working in self._working:
            working.result()
        if error is None:
            self._node.background.run(self._settle(), 10 * _SETTLING)
        self._node.background.call(self._lines.close)

    async def _work(self) -> None:
        await asyncio.sleep(self._random.random() * self._pause)
        while not self._over:
            due = time.monotonic() + self._pause * self._random.uniform(0.5, 1.5)
            write = self._make(next(self._node.tags), self._random)
            self.writes.append(write)
            await self._write(write)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _write(self, write: Write) -> None:
        if write.key is None:
            await self._send(write)
            return
        crowd = 3 if self._random.random() < AT_ONCE else 1
        await asyncio.gather(*(self._send(write) for _ in range(crowd)))
        while len(write.said) < MOST_REPEATS and self._wants_again(write):
            await self._send(write)

    def _wants_again(self, write: Write) -> bool:
        last = write.said[-1].outcome
        if last == COMMITTED:
            return self._random.random() < AGAIN_FOR_NOTHING
        return last not in DENIED

    async def _send(self, write: Write) -> None:
        """One request, and where the answer is ``unknown`` with a mark, at once the question for it."""
        said = Said()
        try:
            if self._random.random() < LEAVING:
                await self._leave(write)
            said = Said.of(await self._lines.ask(write.request))
        except NoAnswer as error:
            said.detail = str(error)
        if said.outcome == "unknown" and said.mark is not None:
            await self._find(said)
        write.said.append(said)

    async def _leave(self, write: Write) -> None:
        line = await Line.open(self._node.port)
        try:
            await line.ask(write.request, self._random.uniform(0.001, 0.01))
        finally:
            line.close()
        raise NoAnswer("did not listen")

    async def _find(self, said: Said) -> None:
        """Ask what became of it, and again where nobody could tell or be asked."""
        for _ in range(MOST_QUESTIONS):
            try:
                answer = await self._lines.ask(get(f"/outcome/{said.mark}"))
            except NoAnswer:
                said.found.append("no answer")
            else:
                said.found.append(answer.json["outcome"] if answer.status == 200 else answer.json["code"])
            if said.found[-1] in KNOWN:
                return
            await asyncio.sleep(BETWEEN_QUESTIONS)

    async def _settle(self) -> None:
        """Now that nothing breaks any more: ask for every mark again, and repeat keys of which nobody knows."""
        for write in self.writes:
            for said in write.said:
                if said.outcome == "unknown" and said.mark is not None:
                    await self._find(said)
            if write.key is not None and not any(one.outcome == COMMITTED for one in write.said):
                give_up = time.monotonic() + _SETTLING
                while write.said[-1].outcome != COMMITTED and not write.denied and time.monotonic() < give_up:
                    await self._send(write)
