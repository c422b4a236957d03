"""One PostgreSQL server as this process knows it: a name and the newest view of it."""

from enum import StrEnum

import msgspec

from gateway.pool.driver import Reason, Role


class EndpointState(StrEnum):
    """Whether an endpoint may be given new work."""

    UNKNOWN = "unknown"
    IN = "in"
    OUT = "out"


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of an endpoint at one moment. Never changed, only replaced as a whole.

    Points in time are of ``time.monotonic`` unless they say otherwise; None means not known.
    """

    name: str
    state: EndpointState = EndpointState.UNKNOWN
    reason: Reason | None = None
    """Why it is OUT; None elsewhere."""
    message: str = ""
    """One line about the last thing that went wrong; empty while IN."""
    role: Role | None = None
    since: float
    """When the state last changed."""
    since_wall: float
    """The same in seconds of the Unix epoch."""
    in_until: float | None = None
    """When it last left the rotation; None: never was in it, or is in it."""
    ping_ok: bool | None = None
    ping_ms: float | None = None
    ping_at: float | None = None
    lag_ms: float | None = None
    lag_bytes: int | None = None
    timeline: int | None = None
    server_version: str | None = None

    def __str__(self) -> str:
        """The view as error details show it: ``replica1: out, refused (could not connect)``."""
        words = [str(self.state)]
        if self.reason is not None:
            words.append(str(self.reason))
        elif self.role is not None:
            words.append(str(self.role))
        return f"{self.name}: {', '.join(words)}{f' ({self.message})' if self.message else ''}"


class Endpoint:
    """A name and the newest view; readers take ``view`` once and look at nothing else."""

    __slots__ = ("name", "view")

    def __init__(self, name: str, *, now: float, wall: float) -> None:
        self.name = name
        self.view = EndpointView(name=name, since=now, since_wall=wall)

    def __repr__(self) -> str:
        return f"<Endpoint {self.view}>"
