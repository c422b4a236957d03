"""HTTP/1.1 over keep-alive connections, as little of it as a load generator needs, and who of a node answers them."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

PATIENCE = 20.0
_ESTABLISHED = "01"


class Answer(NamedTuple):
    """What came back; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class NoAnswer(Exception):
    """The connection ended, could not be had, or patience did."""


class Line(asyncio.Protocol):
    """One connection to a gateway, for one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waiting: asyncio.Future[Answer] | None = None
        self.worker: int | None = None
        """The process at its other end, if that was asked with ``find_worker``."""

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect; raises NoAnswer."""
        try:
            async with asyncio.timeout(PATIENCE):
                _, line = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        except OSError as error:  # a TimeoutError is one
            raise NoAnswer(str(error)) from error
        return line

    @property
    def closed(self) -> bool:
        """Whether it can be used no more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def own_port(self) -> int:
        """The port at this end."""
        assert self._transport is not None
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    async def ask(self, request: bytes, patience: float = PATIENCE) -> Answer:
        """Send a request and wait for its whole answer; raises NoAnswer, and then the connection is closed."""
        if self._transport is None or self.closed:
            raise NoAnswer("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(patience):
                return await self._waiting
        except TimeoutError:
            self.close()
            raise NoAnswer(f"none within {patience:g} s") from None
        finally:
            self._waiting = None

    def close(self) -> None:
        """Close it; again does nothing."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio tells."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Asyncio tells."""
        self._received += data
        answer = self._parse()
        if answer is not None and self._waiting is not None and not self._waiting.done():
            if answer.headers.get("connection") == "close":
                self.close()
            self._waiting.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio tells."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(NoAnswer(f"the connection ended: {error}"))

    def _parse(self) -> Answer | None:
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers["content-length"])
        if len(rest) < length:
            return None
        self._received = rest[length:]
        return Answer(int(first.split(" ", 2)[1]), headers, rest[:length])


def post(path: str, body: Any, **headers: str) -> bytes:
    """A POST of JSON; ``idempotency_key="x"`` becomes ``idempotency-key: x``."""
    return _request("POST", path, msgspec.json.encode(body), headers)


def get(path: str, **headers: str) -> bytes:
    """A GET."""
    return _request("GET", path, b"", headers)


def _request(method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def find_worker(line: Line, port: int, workers: Iterable[int]) -> int | None:
    """Which of these processes has the other end of this connection; None where none has accepted it (yet).

    The kernel knows (proc(5): ``/proc/net/tcp``), so that it need not be asked of the gateway, whose workers all
    answer alike.
    """
    ours, theirs = f":{line.own_port:04X}", f":{port:04X}"
    for entry in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = entry.split()
        if words[1].endswith(theirs) and words[2].endswith(ours) and words[3] == _ESTABLISHED:
            return next((pid for pid in workers if _has_open(pid, f"socket:[{words[9]}]")), None)
    return None


def _has_open(pid: int, what: str) -> bool:
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            if os.readlink(descriptor) == what:  # noqa: PTH115 -- Path.readlink makes paths of what are none
                return True
        except OSError:
            continue
    return False
