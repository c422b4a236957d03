"""What happens to endpoints and to connections."""

from gateway.events.event import Event, Level


class EndpointMoved(Event, frozen=True, kw_only=True):
    """The standing of an endpoint in the rotation changed."""

    name = "endpoint_moved"
    endpoint: str
    standing: str
    """As a phrase: ``in the rotation as replica``, ``out of the rotation, refused``."""
    serves: bool
    """Whether it may be given new work now."""
    detail: str = ""
    """The last thing that went wrong, in one line."""

    @property
    def level(self) -> Level:
        """A warning where the endpoint does not serve."""
        return Level.INFO if self.serves else Level.WARNING

    def __str__(self) -> str:
        return f"endpoint {self.endpoint}: {self.standing}{f': {self.detail}' if self.detail else ''}"


class EndpointLagged(Event, frozen=True, kw_only=True):
    """The lag of a replica crossed a group's limit, or fell below half of it."""

    name = "endpoint_lagged"
    endpoint: str
    group: str
    lags: bool
    lag_ms: float | None = None

    @property
    def level(self) -> Level:
        """A warning where the replica is too far behind."""
        return Level.WARNING if self.lags else Level.INFO

    def __str__(self) -> str:
        told = (
            f"too far behind for group {self.group}: {self.lag_ms} ms"
            if self.lags
            else f"fresh enough for {self.group}"
        )
        return f"endpoint {self.endpoint}: {told}"


class EndpointUnprepared(Event, frozen=True, kw_only=True):
    """A pooler in front of an endpoint loses prepared statements, so that none is used there from now on."""

    name = "endpoint_unprepared"
    endpoint: str

    def __str__(self) -> str:
        return (
            f"endpoint {self.endpoint}: a pooler in between loses prepared statements; queries run without them from"
            " now on, which costs more for each. Set prepare = false for it, or connect without that pooler"
        )


class EndpointDrained(Event, frozen=True, kw_only=True):
    """An operator took an endpoint out of the rotation, or put it back."""

    name = "endpoint_drained"
    severity = Level.INFO
    endpoint: str
    drained: bool
    request_id: str | None = None
    """Of the request that asked for it, in the worker that received it."""

    def __str__(self) -> str:
        by = f" by request {self.request_id}" if self.request_id else ""
        return f"endpoint {self.endpoint}: {'drained' if self.drained else 'no longer drained'}{by}"


class ConnectionOpened(Event, frozen=True, kw_only=True):
    """A connection to a server was opened for a group."""

    name = "connection_opened"
    severity = Level.DEBUG
    endpoint: str
    group: str
    ms: float

    def __str__(self) -> str:
        return f"endpoint {self.endpoint}: a connection was opened for group {self.group} in {self.ms} ms"


class ConnectFailed(Event, frozen=True, kw_only=True):
    """No connection could be opened for a group."""

    name = "connect_failed"
    severity = Level.DEBUG
    endpoint: str
    group: str
    reason: str
    """As in ``/health``; ``cap`` where the node may have no further connection, ``full`` where the server may not."""
    detail: str

    def __str__(self) -> str:
        return f"endpoint {self.endpoint}: no connection for group {self.group}, {self.reason}: {self.detail}"


class ConnectionClosed(Event, frozen=True, kw_only=True):
    """A connection of a group ended."""

    name = "connection_closed"
    severity = Level.DEBUG
    endpoint: str
    group: str
    reason: str
    """``retired``: idle, closed by the gateway; ``cut``: in use, closed by the gateway; ``lost``: by the server."""

    def __str__(self) -> str:
        return f"endpoint {self.endpoint}: a connection of group {self.group} ended: {self.reason}"


class MembersChanged(Event, frozen=True, kw_only=True):
    """An endpoint with ``discover`` stands for other servers now, so that the node is reloaded."""

    name = "members_changed"
    severity = Level.INFO
    endpoint: str
    members: tuple[str, ...]

    def __str__(self) -> str:
        return f"endpoint {self.endpoint} stands for {', '.join(self.members)} from now on"


class MembersNotFound(Event, frozen=True, kw_only=True):
    """It cannot be learnt for which servers an endpoint stands, or a new one cannot serve: nothing is changed."""

    name = "members_not_found"
    endpoint: str
    detail: str

    def __str__(self) -> str:
        return f"the servers of endpoint {self.endpoint} stay as they are: {self.detail}"
