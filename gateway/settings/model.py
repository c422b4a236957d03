"""What can be configured: one frozen struct a section of ``gateway.toml``, with the defaults of the contract.

Durations are float seconds, sizes are int bytes; how their text is read is in ``converting``.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gateway.settings.dsn import HIDDEN, masked

LONGEST_TIMEOUT = 2_147_483.0
"""Seconds; PostgreSQL counts ``statement_timeout`` in milliseconds, in an int4."""
LONGEST = 10 * 366 * 86_400.0

Timeout = Annotated[float, Meta(ge=0.001, le=LONGEST_TIMEOUT, extra={"kind": "duration"})]
"""A duration that PostgreSQL, too, may be told."""
Duration = Annotated[float, Meta(ge=0.001, le=LONGEST, extra={"kind": "duration"})]
Size = Annotated[int, Meta(ge=1, le=2**40, extra={"kind": "size"})]
File = Annotated[str, Meta(extra={"kind": "file"})]
"""A path; a relative one counts from the folder of ``gateway.toml``. Empty: none."""
Paths = Annotated[tuple[str, ...], Meta(min_length=1, extra={"kind": "paths"})]
Secret = Annotated[str, Meta(extra={"kind": "secret"})]
"""Never shown. Where a struct has a secret ``x`` it has ``x_file``, whose content takes its place."""


class ServerSettings(Struct, frozen=True, kw_only=True):
    """``[server]``: how HTTP is served."""

    bind: Annotated[tuple[str, ...], Meta(min_length=1)] = ("127.0.0.1:8080",)
    """``host:port``, ``[ipv6]:port`` or ``unix:/path``."""
    reuse_port: bool = False
    """Listen with SO_REUSEPORT: several gateways may serve one port, and each worker has a backlog of its own."""
    workers: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Never 0 once loaded: then it is one a processor, but no more than the smallest group has connections."""
    worker: Literal["gateway", "gthread", "sync"] = "gateway"
    threads: Annotated[int, Meta(ge=1, le=1000)] = 8
    max_body: Size = 1024**2
    max_result_bytes: Size = 64 * 1024**2
    timeout: Timeout = 5.0
    """Deadline of a query without ``@timeout``."""
    max_batch: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    prepared: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    """Statements kept prepared per connection."""
    time_zone: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[\x21-\x7e]+$")] = "UTC"
    retry_budget: Annotated[float, Meta(ge=0, le=1)] = 0.1
    head_timeout: Duration = 5.0
    body_timeout: Duration = 10.0
    idle_timeout: Duration = 75.0
    certfile: File = ""
    keyfile: File = ""
    client_ca: File = ""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose ``X-Forwarded-*`` headers are believed."""
    verbose_errors: bool = False
    runtime_dir: File = ""
    """Empty: a private folder in memory-backed storage, removed on exit."""


class CatalogueSettings(Struct, frozen=True, kw_only=True):
    """``[catalogue]``: where the query files are."""

    paths: Paths = ("queries",)
    """Joined to the folder of ``gateway.toml``, but left relative if that is, so that faults show short paths."""


class EndpointSettings(Struct, frozen=True, kw_only=True):
    """``[endpoints.NAME]``: one PostgreSQL server. Its role is asked from it, never declared."""

    dsn: Secret = ""
    """URI or key=value pairs; what ``dsn_file`` holds, if that is given."""
    dsn_file: File = ""
    password: Secret = ""
    """Takes the place of a password in the dsn; what ``password_file`` held when the settings were loaded."""
    password_file: File = ""
    """Kept, so that a changed password can be read again."""
    prepare: bool = True
    """False behind a transaction pooler."""

    def __repr__(self) -> str:
        """Show the endpoint without its secrets."""
        return (
            f"EndpointSettings(dsn={masked(self.dsn)!r}, dsn_file={self.dsn_file!r}, "
            f"password={HIDDEN if self.password else ''!r}, password_file={self.password_file!r}, "
            f"prepare={self.prepare!r})"
        )


class GroupSettings(Struct, frozen=True, kw_only=True):
    """``[groups.NAME]``: connections with one purpose."""

    access: Literal["read", "write"] = "read"
    """The default is ``write`` for the group of that name."""
    endpoints: tuple[str, ...] = ()
    """Never empty once loaded: by default every endpoint, in the order they are written."""
    fallback: Literal["primary", "none"] = "primary"
    size: Annotated[int, Meta(ge=1, le=100_000)] = 16
    """Connections of this node, split over the workers; the default is 8 for a group that writes."""
    queue: Annotated[int, Meta(ge=0, le=1_000_000)] = 256
    max_lag: Duration = 10.0
    balance: Literal["least_busy", "round_robin"] = "least_busy"


class ProbeSettings(Struct, frozen=True, kw_only=True):
    """``[probe]``: how often servers are looked at."""

    interval: Duration = 0.5
    timeout: Timeout = 0.5


class IdempotencySettings(Struct, frozen=True, kw_only=True):
    """``[idempotency]``: how long answers are kept for their key."""

    retention: Duration = 86_400.0


class AuthSettings(Struct, frozen=True, kw_only=True):
    """``[auth]``: who may call."""

    mode: Literal["none", "keys", "jwt"] = "none"
    """Only ``none`` can be served by this version; the others are faults when loading."""
    allow_anonymous: bool = False
    keys_file: File = ""
    jwks_url: str = ""
    audience: str = ""
    roles_claim: str = "roles"
    settings: dict[str, str] = field(default_factory=lambda: {"request.jwt.claims": "claims"})


class Settings(Struct, frozen=True, kw_only=True):
    """Everything configured, checked as a whole, with every default filled in."""

    server: ServerSettings = ServerSettings()
    catalogue: CatalogueSettings = CatalogueSettings()
    endpoints: dict[str, EndpointSettings] = {}
    groups: dict[str, GroupSettings] = {}
    probe: ProbeSettings = ProbeSettings()
    idempotency: IdempotencySettings = IdempotencySettings()
    auth: AuthSettings = AuthSettings()
