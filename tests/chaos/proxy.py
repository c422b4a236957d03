"""A network that can be broken: a TCP proxy between the gateway and one server, changed while it runs.

It passes on whole messages of a client, so that it can be cut between any two of them. A server that is down shows
through it as a reset, not as a refusal: where that matters, let the gateway connect directly.
"""

import asyncio
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Self

from gateway.demo.ports import port_of, reserve_port
from tests.chaos.background import Background
from tests.chaos.messages import Answers, Requests

COMMIT = re.compile(rb"\bcommit\b", re.IGNORECASE)
_CHUNK = 65536
_LAST_WORDS = 5.0
"""Seconds a server has to finish what it was asked by a client that is cut off."""
_FILLERS = 4
"""Connections that fill a backlog of 0; Linux takes one or two before it drops."""


class Mode(Enum):
    """What the proxy does with connections; those that are open are meant as well, unless it says otherwise."""

    PASS = auto()
    REFUSE = auto()
    """New ones are refused by the kernel; open ones live on."""
    STOP = auto()
    """New ones are accepted, nothing is forwarded; what was held back arrives when it passes again."""
    DEAF = auto()
    """New ones are accepted; what is said is swallowed for good."""
    RESET = auto()
    """Open ones are reset, new ones are accepted and reset."""
    BLACK_HOLE = auto()
    """New ones get no answer to their first packet; open ones as with STOP."""


class When(Enum):
    """On which side of a message the line is cut."""

    BEFORE = auto()
    """The server never sees it."""
    AFTER = auto()
    """The server carries it out; its answer is lost."""


@dataclass
class Cut:
    """Reset the gateway's connection at a message that matches, ``times`` times in all (None: always)."""

    pattern: re.Pattern[bytes]
    when: When
    times: int | None = 1
    made: int = 0

    def wants(self, message: bytes) -> bool:
        """Whether this message is to be cut off; then it counts as done."""
        if (self.times is not None and self.made >= self.times) or not self.pattern.search(message):
            return False
        self.made += 1
        return True


@dataclass
class Swap:
    """Put other words into queries that match: so a server seems to do what it cannot be made to."""

    pattern: re.Pattern[bytes]
    words: bytes
    made: int = 0

    def apply(self, message: bytes) -> bytes:
        """The message that the server gets."""
        if message[:1] != b"Q" or not self.pattern.search(message):
            return message
        self.made += 1
        text = self.pattern.sub(self.words, message[5:])
        return b"Q" + (len(text) + 4).to_bytes(4, "big") + text


class Proxy:
    """Listens on a port of its own; everything may be asked and changed from any thread, at any time."""

    def __init__(
        self, background: Background, server_port: int, *, address: str = "127.0.0.1", port: int | None = None
    ) -> None:
        """``address`` and ``port`` to listen on, by default any free one."""
        self._background = background
        self._server = ("127.0.0.1", server_port)
        self._reservation = reserve_port() if port is None else None
        self.address = address
        self.port = port_of(self._reservation) if self._reservation is not None else port or 0
        self.open = 0
        """Connections to the server now."""
        self.most = 0
        """The most there have been at the same time."""
        self.opened = 0
        """How many have been opened in all."""
        self.seen: list[tuple[float, bytes]] = []
        """When which message (the pattern's first group) of ``watched`` came by."""
        self._mode = Mode.PASS
        self._delay = 0.0
        self._cut: Cut | None = None
        self._cut_after: int | None = None
        self._swap: Swap | None = None
        self._watched: re.Pattern[bytes] | None = None
        self._links: set[_Link] = set()
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._flowing = asyncio.Event()

    def __enter__(self) -> Self:
        self._background.call(self._apply)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._background.call(self._close)

    def __repr__(self) -> str:
        return f"<Proxy :{self.port} -> :{self._server[1]} {self._mode.name} [{self.open} open, {self.most} most]>"

    def dsn(self, dbname: str, user: str) -> str:
        """How libpq connects through it."""
        return f"host={self.address} port={self.port} dbname={dbname} user={user}"

    # What is done to the line

    @property
    def mode(self) -> Mode:
        """What is done with connections; it holds when setting it has returned."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        def change() -> None:
            self._mode = mode
            self._apply()

        self._background.call(change)

    @contextmanager
    def being(self, mode: Mode) -> Iterator[None]:
        """In this mode for a while, then passing again."""
        self.mode = mode
        try:
            yield
        finally:
            self.mode = Mode.PASS

    def delay(self, seconds: float) -> None:
        """Every piece of an answer comes this much later from now on."""
        self._background.call(lambda: setattr(self, "_delay", seconds))

    def cut(self, cut: Cut | None) -> None:
        """Cut the line at messages that match, from now on; None ends it."""
        self._background.call(lambda: setattr(self, "_cut", cut))

    def cut_after(self, count: int | None) -> None:
        """Reset each connection once it has brought so many more bytes from the server; None ends it."""

        def change() -> None:
            self._cut_after = count
            for link in self._links:
                link.brought = 0

        self._background.call(change)

    def swap(self, swap: Swap | None) -> None:
        """Put other words into messages, from now on; None ends it."""
        self._background.call(lambda: setattr(self, "_swap", swap))

    def watch(self, pattern: re.Pattern[bytes] | None) -> None:
        """Note in ``seen`` which messages come by that match; None ends it."""
        self._background.call(lambda: setattr(self, "_watched", pattern))

    # On the loop

    def _apply(self) -> None:
        if self._mode in (Mode.REFUSE, Mode.BLACK_HOLE):
            self._stop_listening()
        if self._mode is Mode.BLACK_HOLE:
            self._fill_backlog()
        elif self._mode is not Mode.REFUSE:
            self._listen()
        if self._mode in (Mode.STOP, Mode.BLACK_HOLE):
            self._flowing.clear()
        else:
            self._flowing.set()
        if self._mode is Mode.RESET:
            for link in tuple(self._links):
                link.reset()

    def _listen(self) -> None:
        if self._fillers:
            self._stop_listening()
        if self._listener is None:
            self._listener = self._bind(128)
            self._background.loop.add_reader(self._listener, self._accept, self._listener)

    def _bind(self, backlog: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.address, self.port))
        listener.setblocking(False)
        listener.listen(backlog)
        return listener

    def _fill_backlog(self) -> None:
        """NOTE: Linux drops the first packet of a connection when the backlog is full: a black hole made of air."""
        self._listener = self._bind(0)
        for _ in range(_FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((self.address, self.port))
            self._fillers.append(filler)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._background.loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for filler in self._fillers:
            _abort(filler)
        self._fillers.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionError):
            client, _ = listener.accept()
            client.setblocking(False)
            if self._mode is Mode.RESET:
                _abort(client)
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(self, client)
            self._links.add(link)
            link.start(self._links.discard)

    def _close(self) -> None:
        self._stop_listening()
        for link in tuple(self._links):
            link.reset()
        if self._reservation is not None:
            self._reservation.close()


class _Link:
    """One connection of the gateway and, once it flows, one to the server."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._server = socket.socket()
        self._server.setblocking(False)
        self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._task: asyncio.Task[None] | None = None
        self.brought = 0

    def start(self, done: "Callable[[_Link], None]") -> None:
        self._task = self._loop.create_task(self._live())
        self._task.add_done_callback(lambda _: done(self))

    def reset(self) -> None:
        """Break it off, towards both sides."""
        if self._task is not None:
            self._task.cancel()

    async def _live(self) -> None:
        proxy = self._proxy
        counted = False
        try:
            await proxy._flowing.wait()
            if proxy._mode is Mode.DEAF:
                while await self._loop.sock_recv(self._client, _CHUNK):
                    pass
                return
            await self._loop.sock_connect(self._server, proxy._server)
            counted = True
            proxy.open += 1
            proxy.opened += 1
            proxy.most = max(proxy.most, proxy.open)
            await self._pump_both()
        except OSError:
            pass  # a side broke off: so does the other
        finally:
            proxy.open -= counted
            _abort(self._client)
            self._server.close()

    async def _pump_both(self) -> None:
        requests = self._loop.create_task(self._pump_requests())
        answers = self._loop.create_task(self._pump_answers())
        try:
            await asyncio.wait((requests, answers), return_when=asyncio.FIRST_COMPLETED)
            if answers.done() and not answers.cancelled() and answers.exception() is None:
                self._client.shutdown(socket.SHUT_WR)  # the server closed in order: its last words are delivered
                await asyncio.sleep(0)
                self._client.close()
            elif requests.done() and requests.exception() is None and requests.result():
                answers.cancel()
                _abort(self._client)
                await self._hear_out()
        finally:
            for pump in (requests, answers):
                pump.cancel()
            await asyncio.gather(requests, answers, return_exceptions=True)

    async def _pump_requests(self) -> bool:
        """Pass on what the gateway says; True when it was cut off behind a message that the server has."""
        proxy, split = self._proxy, Requests()
        while data := await self._loop.sock_recv(self._client, _CHUNK):
            await proxy._flowing.wait()
            if proxy._mode is Mode.DEAF:
                continue
            for message in split.feed(data):
                if proxy._watched is not None and (found := proxy._watched.search(message)):
                    proxy.seen.append((time.monotonic(), found.group(found.re.groups and 1)))
                cut = proxy._cut
                cuts = cut is not None and cut.wants(message)
                if cuts and cut is not None and cut.when is When.BEFORE:
                    raise ConnectionAbortedError
                swap = proxy._swap
                await self._loop.sock_sendall(self._server, message if swap is None else swap.apply(message))
                if cuts:
                    return True
        return False

    async def _pump_answers(self) -> None:
        proxy = self._proxy
        while data := await self._loop.sock_recv(self._server, _CHUNK):
            if proxy._delay:
                await asyncio.sleep(proxy._delay)
            await proxy._flowing.wait()
            if proxy._mode is Mode.DEAF:
                continue
            limit = proxy._cut_after
            if limit is not None and self.brought + len(data) >= limit:
                await self._loop.sock_sendall(self._client, data[: max(0, limit - self.brought)])
                raise ConnectionAbortedError
            self.brought += len(data)
            await self._loop.sock_sendall(self._client, data)

    async def _hear_out(self) -> None:
        """Let the server finish; nobody hears its answer."""
        answers = Answers()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                while data := await self._loop.sock_recv(self._server, _CHUNK):
                    if answers.ready(data):
                        return


def _abort(connection: socket.socket) -> None:
    """Close with a reset; a closed one stays so."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
