"""What a client's connection needs of the worker it belongs to."""

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from gateway.auth.proxies import Proxies
from gateway.events import Observer

READ = 1
"""As ``events`` of ``Service.watch``: to be readable."""


class Phase(Enum):
    """What a connection is doing."""

    READING = "waiting for a request, or in one"
    BUSY = "a request is in flight"
    STREAMING = "a request is in flight, and its answer has begun"
    SENDING = "an answer does not fit into the socket"
    LINGERING = "answered and closing, while the other side may still be sending"
    CLOSED = "closed"


class Service(Protocol):
    """Satisfied by ``worker.GatewayWorker``."""

    wsgi: Callable[..., Any]
    max_body: int
    head_timeout: float
    body_timeout: float
    idle_timeout: float
    is_draining: bool
    proxies: Proxies
    observe: Observer

    def watch(self, fd: int, events: int) -> Any:
        """A watcher of the loop, not started."""

    def soon(self, work: Callable[[], None]) -> None:
        """Do the work in the loop's next turn."""

    def begin(self, work: Callable[[], None]) -> None:
        """Begin the work in a green thread; it must not raise."""

    def sleep(self) -> None:
        """Wait, in a green thread, until somebody switches to it or throws into it."""

    def date(self) -> str:
        """The Date header's line."""

    def sending(self, client: Any) -> None:
        """Look often whether the client's time to take its answer is over."""

    def hold(self, size: int) -> bool:
        """Count so many bytes more of requests in progress, or fewer; False if the node has more than it may."""

    def closed(self, client: object) -> None:
        """Forget a connection."""

    def answered(self) -> None:
        """Count a request."""
