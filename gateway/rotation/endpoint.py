"""What is known of one endpoint at a moment: its view."""

from enum import StrEnum

import msgspec


class Role(StrEnum):
    """What a server is at this moment: it is asked, never configured."""

    PRIMARY = "primary"
    REPLICA = "replica"


class Reason(StrEnum):
    """Why an endpoint is not in the rotation."""

    REFUSED = "refused"
    TIMEOUT = "timeout"
    LOST = "lost"
    LAGGING = "lagging"
    NOT_STREAMING = "not_streaming"
    WRONG_ROLE = "wrong_role"
    OLD_TIMELINE = "old_timeline"
    AUTH = "auth"
    TLS = "tls"
    STARTING_UP = "starting_up"
    DRAINED = "drained"
    UNKNOWN = "unknown"


class EndpointState(StrEnum):
    """Whether an endpoint may be given new work."""

    UNKNOWN = "unknown"
    IN = "in"
    SUSPECT = "suspect"
    """Was IN until a connection broke: gets no new work until it has been probed, which is done at once."""
    OUT = "out"


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of an endpoint at one moment. Never changed, only replaced as a whole.

    Points in time are of ``time.monotonic``, which all processes of a machine share, unless they say otherwise; None
    means not known.
    """

    name: str
    state: EndpointState = EndpointState.UNKNOWN
    reason: Reason | None = None
    """Why it is OUT, SUSPECT or held; None elsewhere."""
    message: str = ""
    """One line about the last thing that went wrong; empty while it serves."""
    role: Role | None = None
    since: float
    """When the state last changed."""
    since_wall: float
    """When the state last changed, in seconds of the Unix epoch."""
    in_until: float | None = None
    """When it last left the rotation; None: never was in it, or is in it."""
    entered_at: float = 0.0
    """When it last came back into the rotation; connections opened before say nothing against it any more."""
    entries: tuple[float, ...] = ()
    """When it came back lately; too many of these are flapping."""
    held: bool = False
    """IN, but came back too often lately: used only where no other endpoint may answer."""
    drained: bool = False
    """Taken out by an operator; it is still probed."""
    wanted_at: float = 0.0
    """A probe that begins later than this was asked for; 0: none was."""
    ping_ok: bool | None = None
    ping_ms: float | None = None
    ping_at: float | None = None
    lag_ms: float | None = None
    lag_bytes: int | None = None
    lagging: tuple[str, ...] = ()
    """Groups whose limit its lag has crossed, and has not come back below half of."""
    system: str | None = None
    """The cluster's system identifier."""
    timeline: int | None = None
    position: int | None = None
    """In bytes of WAL: where a primary inserts, how far a replica has replayed, when ``ping_at`` was."""
    streaming: bool | None = None
    """Whether a replica has a WAL receiver."""
    deaf_since: float | None = None
    """When a replica was first seen to have lost its WAL receiver; None: it has one, or never had."""
    server_version: str | None = None
    unprepared: bool = False
    """A pooler in front of it loses what is prepared: its queries are run without prepared statements."""
    addresses: tuple[str, ...] = ()
    """What its host name resolves to; empty where there is nothing to look up."""

    @property
    def hides_wal(self) -> bool:
        """Whether it answers, and does not tell its position: nothing can be said of tokens there."""
        return bool(self.ping_ok) and self.position is None

    def __str__(self) -> str:
        """Return the view as error details show it: ``replica1: out, refused (could not connect)``."""
        words = [str(self.state)]
        if self.reason is not None:
            words.append(str(self.reason))
        elif self.role is not None:
            words.append(str(self.role))
        if self.drained:
            words.append("drained")
        return f"{self.name}: {', '.join(words)}{f' ({self.message})' if self.message else ''}"


def same_system(one: EndpointView, other: EndpointView) -> bool:
    """Whether two servers are of one cluster, or may be as far as is known."""
    return one.system is None or other.system is None or one.system == other.system
