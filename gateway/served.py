"""How a call was served, and where its caller stands with its limits: what answers and errors both tell."""

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
    """The same, as the field ``RateLimit-Policy`` says it."""


class Allowance(msgspec.Struct, frozen=True, gc=False):
    """Where a caller stands with one limit."""

    limit: Limit
    left: int
    """How many may be made now."""
    rest: int
    """Seconds until as many as ever may be made."""
