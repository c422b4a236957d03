"""How a call was served, and where its caller stands with its limits: what answers and errors both tell."""

from typing import Self

import msgspec


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """How a query was run; answers and errors have one, as both come from a server."""

    endpoint: str
    attempts: int = 1
    """Which attempt it was."""
    queued: float = 0.0
    """Seconds it waited for a connection."""
    took: float = 0.0
    """Seconds it had the connection for."""
    lag_ms: float | None = None
    """How far a replica was behind; None on a primary, and where it is not known."""
    token: str | None = None
    """The consistency token of what was committed, where one was taken."""


class Limit(msgspec.Struct, frozen=True, gc=False):
    """A limit on how often a caller may call."""

    name: str
    burst: int
    """How many calls may be made at once, after a rest."""
    window: int
    """Seconds after which all of them may be made again."""
    text: str
    """Burst and window, as the field ``RateLimit-Policy`` says them."""
    line: str
    """That field's line, and the beginning of the field ``RateLimit``, where there is no other limit."""

    @classmethod
    def of(cls, name: str, burst: int, window: int) -> Self:
        """Return the limit of this name, with all that is told of it."""
        text = f'"{name}";q={burst};w={window}'
        return cls(name, burst, window, text, f'RateLimit-Policy: {text}\r\nRateLimit: "{name}";r=')


class Allowance(msgspec.Struct, frozen=True, gc=False):
    """Where a caller stands with one limit."""

    limit: Limit
    left: int
    """How many may be made now."""
    rest: int
    """Seconds until as many as ever may be made."""
