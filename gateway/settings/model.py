"""What can be configured: one frozen struct a section of ``gateway.toml``, one field a key.

A field is the only declaration of its key. Its name is the key, and with the section's name the environment variable;
its type says how the value is read and what is refused; its default is the key's default; and its description is
the comment that ``gateway init`` writes beside it. A key without a description is left out there.
"""

from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct

from gateway.settings.dsn import HIDDEN, masked
from gateway.settings.keys import Algorithm, Delay, Duration, File, Often, Paths, Secret, Size, Timeout, keys_of
from gateway.settings.units import rate, seconds, size


class ServerSettings(Struct, frozen=True, kw_only=True):
    """``[server]``: how HTTP is served."""

    bind: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description='several: ["127.0.0.1:8080", "unix:/run/gateway.sock"]'),
    ] = ("127.0.0.1:8080",)
    """``host:port``, ``[ipv6]:port`` or ``unix:/path``."""
    admin_bind: Annotated[
        str, Meta(description="for operators (/admin); default: a socket of mode 0600 in the runtime directory")
    ] = ""
    socket_mode: Annotated[
        str,
        Meta(
            pattern=r"^0?[0-7]{3}$",
            description="of unix sockets in bind: whoever may write to one may run every query",
        ),
    ] = "660"
    """In octal."""
    socket_group: Annotated[str, Meta(description="of the same, by name or number; default: the process's own")] = ""
    reuse_port: Annotated[bool, Meta(description="true: several gateways may listen on one port (SO_REUSEPORT)")] = (
        False
    )
    """Each worker then has a backlog of its own."""
    workers: Annotated[int, Meta(ge=0, le=1024, description="processes; 0: one a processor")] = 0
    """Never 0 once loaded: then it is one a processor, but no more than the smallest group has connections."""
    worker: Annotated[
        Literal["gateway", "gthread", "sync"],
        Meta(description='hundreds of requests at a time; or "gthread", or "sync": one at a time'),
    ] = "gateway"
    threads: Annotated[int, Meta(ge=1, le=1000, description="requests at a time in each process (gthread only)")] = 8
    max_body: Annotated[Size, Meta(description="a longer request body is refused")] = size("1MB")
    body_budget: Annotated[
        Size, Meta(description="requests in progress in all processes; beyond it bodies are refused with 503")
    ] = size("256MB")
    """Bytes of requests that are arriving or being answered."""
    max_bulk: Annotated[Size, Meta(description="a longer body of records (NDJSON, CSV) is refused")] = size("1GB")
    max_bulk_rows: Annotated[int, Meta(ge=0, le=2**40, description="records in one; 0: no limit")] = 0
    max_result_bytes: Annotated[Size, Meta(description="a longer answer is refused")] = size("64MB")
    timeout: Annotated[Timeout, Meta(description="deadline of a query without @timeout")] = seconds("5s")
    max_batch: Annotated[
        int, Meta(ge=1, le=1_000_000, description="objects in an array body, steps in a transaction")
    ] = 1000
    prepared: Annotated[int, Meta(ge=1, le=1_000_000, description="statements kept prepared per connection")] = 200
    shutdown_delay: Annotated[
        Delay, Meta(description="after SIGTERM: not ready, but serving, until balancers know; Kubernetes: 10s")
    ] = 0.0
    time_zone: Annotated[
        str, Meta(min_length=1, max_length=100, pattern=r"^[\x21-\x7e]+$", description="of every session")
    ] = "UTC"
    retry_budget: Annotated[
        float, Meta(ge=0, le=1, description="reads that may be run again, as a share of the reads of the last 10 s")
    ] = 0.1
    join: Annotated[bool, Meta(description="false: reads of different callers are never answered by one statement")] = (
        True
    )
    head_timeout: Annotated[Duration, Meta(description="in which the head of a request must have come")] = seconds("5s")
    body_timeout: Annotated[
        Duration,
        Meta(description="in which its body must have come, and its answer be taken; 64 kB buy a second"),
    ] = seconds("10s")
    idle_timeout: Annotated[Duration, Meta(description="a connection without a request is closed after this")] = (
        seconds("75s")
    )
    certfile: Annotated[File, Meta(description="TLS to clients: the server's certificate chain,")] = ""
    keyfile: Annotated[File, Meta(description="its key,")] = ""
    client_ca: Annotated[File, Meta(description="and, if clients must show a certificate, who may sign it")] = ""
    trusted_proxies: Annotated[
        tuple[str, ...], Meta(description="addresses or networks whose X-Forwarded-* headers are believed")
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="names that requests' Host may give, besides localhost, those of bind, and any IP address"),
    ] = ()
    secret_file: Annotated[
        File, Meta(description="signs the cursors of pages, the same on all nodes; default: a secret of this node")
    ] = ""
    rollback_roles: Annotated[
        tuple[str, ...], Meta(description="callers with one of these roles may try writes out: Prefer: tx=rollback")
    ] = ()
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(description='origins whose web pages may ask: ["https://app.example.com"]'),
    ] = ()
    bigint: Annotated[
        Literal["number", "string"],
        Meta(description="what int8 and numeric are in JSON, where Prefer: bigint= says nothing, and in /openapi.json"),
    ] = "number"
    verbose_errors: Annotated[bool, Meta(description="true: answers may show SQL and the server's details")] = False
    runtime_dir: Annotated[
        File,
        Meta(description="shared state of the processes; default: a private folder in memory-backed storage"),
    ] = ""
    """The private folder is removed on exit."""


class CatalogueSettings(Struct, frozen=True, kw_only=True):
    """``[catalogue]``: where the query files are."""

    paths: Annotated[Paths, Meta(description="files and folders of *.sql")] = ("queries",)
    """Joined to the folder of ``gateway.toml``, but left relative if that is, so that faults show short paths."""
    unservable: Annotated[Literal["fault", "skip"], Meta(description='or "skip": entries left out')] = "fault"
    """What is done with an entry that is well written, but of a kind that cannot be served."""


class EndpointSettings(Struct, frozen=True, kw_only=True):
    """``[endpoints.NAME]``: one PostgreSQL server. Its role is asked from it, never declared."""

    dsn: Annotated[Secret, Meta(examples=["host=127.0.0.1 dbname=postgres user=postgres"], description="")] = ""
    """URI or key=value pairs; what ``dsn_file`` holds, if that is given."""
    password: Annotated[Secret, Meta(description="better: password_file")] = ""
    """Takes the place of a password in the dsn."""
    password_file: Annotated[File, Meta(description="a file with nothing but the password")] = ""
    """Read for each connection, and beats the other two."""
    password_command: Annotated[
        tuple[str, ...], Meta(description="or a program that prints it, with its arguments: for passwords that expire")
    ] = ()
    """Run without a shell, beside requests."""
    password_ttl: Annotated[Duration, Meta(description="how long what it printed is used")] = seconds("10m")
    dsn_file: Annotated[File, Meta(description="or the whole dsn in a file, instead of dsn")] = ""
    prepare: Annotated[bool, Meta(description="false behind a transaction pooler such as PgBouncer")] = True
    allow_insecure: Annotated[
        bool, Meta(description="true: off this machine, TLS may be less than sslmode=verify-full")
    ] = False
    discover: Annotated[
        tuple[str, ...],
        Meta(description='"dns": each address of the host is a server; or URLs of Patroni: ["https://10.0.0.1:8008"]'),
    ] = ()
    """Where the servers are found that this endpoint stands for (``discovering``)."""

    def __repr__(self) -> str:
        """Show the endpoint without its secrets."""
        shown = {key: getattr(self, key) for key in self.__struct_fields__}
        shown["dsn"] = masked(self.dsn)
        shown["password"] = HIDDEN if self.password else ""
        return f"EndpointSettings({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


class GroupSettings(Struct, frozen=True, kw_only=True):
    """``[groups.NAME]``: connections with one purpose."""

    access: Annotated[
        Literal["read", "write"], Meta(description='the default is "write" for the group called write')
    ] = "read"
    endpoints: Annotated[tuple[str, ...], Meta(examples=[["primary"]], description="default: every endpoint")] = ()
    """Never empty once loaded: by default every endpoint, in the order they are written."""
    fallback: Annotated[
        Literal["primary", "none"],
        Meta(description='reads go to replicas; when none may answer: "primary" or "none"'),
    ] = "primary"
    size: Annotated[
        int,
        Meta(ge=1, le=100_000, description='connections of all processes together (8 where access is "write")'),
    ] = 16
    queue: Annotated[int, Meta(ge=0, le=1_000_000, description="requests that may wait for a connection")] = 4096
    max_lag: Annotated[Duration, Meta(description="a replica that lags further behind serves no read")] = seconds("10s")
    max_streams: Annotated[
        int,
        Meta(ge=0, le=100_000, description="streamed answers at a time; 0: half of the size, at least one a process"),
    ] = 0
    balance: Annotated[Literal["least_busy", "round_robin"], Meta(description='or "round_robin"')] = "least_busy"
    settings: Annotated[bool, Meta(description="true: send [auth] settings in front of every statement")] = False

    @classmethod
    def defaults_of(cls, name: str, access: object = None) -> dict[str, Any]:
        """Those defaults that the group's name and the access it was given (None: none) change."""
        access = access if access in ("read", "write") else "write" if name == "write" else "read"
        return {"access": access, "size": 8} if access == "write" else {}


class ProbeSettings(Struct, frozen=True, kw_only=True):
    """``[probe]``: how often servers are looked at."""

    interval: Annotated[Duration, Meta(description="between two looks at a server")] = seconds("500ms")
    timeout: Annotated[Timeout, Meta(description="a server that has not answered by then is unreachable")] = seconds(
        "500ms"
    )
    discovery: Annotated[Duration, Meta(description="between two questions who the servers are (discover)")] = seconds(
        "5s"
    )


class IdempotencySettings(Struct, frozen=True, kw_only=True):
    """``[idempotency]``: how long answers are kept for their key."""

    retention: Annotated[
        Duration,
        Meta(description="how long the answer to an Idempotency-Key is kept; `gateway init-db` makes the table"),
    ] = seconds("24h")


class CacheSettings(Struct, frozen=True, kw_only=True):
    """``[cache]``: answers of queries with @cache."""

    size: Annotated[Size, Meta(description="kept in each process, those that were asked for last")] = size("32MB")


class LogSettings(Struct, frozen=True, kw_only=True):
    """``[log]``: what is written to standard error."""

    format: Annotated[
        Literal["auto", "json", "text"],
        Meta(description='a JSON object a line, or text for people; "auto": text on a terminal'),
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="what is less urgent is left out")
    ] = "info"
    slow: Annotated[Duration, Meta(description="calls that take longer are logged")] = seconds("500ms")
    access: Annotated[
        Literal["off", "errors", "all"],
        Meta(description='a line for each call: "errors" for those that fail, or "all"'),
    ] = "off"
    audit: Annotated[
        Literal["off", "writes"], Meta(description='"writes": a line for each write: who, what, outcome')
    ] = "off"


class McpSettings(Struct, frozen=True, kw_only=True):
    """``[mcp]``: queries with ``@tool`` for agents (Model Context Protocol)."""

    enabled: Annotated[bool, Meta(description="true: queries with @tool are offered to agents")] = False
    path: Annotated[
        str,
        Meta(
            max_length=128,
            pattern=r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$",
            description="where agents send their requests",
        ),
    ] = "/mcp"
    max_result: Annotated[Size, Meta(description="a longer result is a failure: agents read all they are given")] = (
        size("100kB")
    )
    instructions: Annotated[str, Meta(description="what agents are told of all tools, before they choose one")] = ""


class TracesSettings(Struct, frozen=True, kw_only=True):
    """``[traces]``: spans of calls, for a collector of OpenTelemetry's."""

    endpoint: Annotated[str, Meta(description='takes OTLP over HTTP: "http://127.0.0.1:4318/v1/traces"')] = ""
    sample: Annotated[float, Meta(ge=0, le=1, description="share of calls; a `traceparent` decides for its own")] = 1.0


class AuthSettings(Struct, frozen=True, kw_only=True):
    """``[auth]``: who may call."""

    mode: Annotated[
        tuple[Literal["none", "keys", "jwt", "certificates"], ...],
        Meta(min_length=1, description='or of "keys", "jwt", "certificates" one or a list'),
    ] = ("none",)
    """With ``none`` nobody is asked who they are, and only loopback and unix sockets are served."""
    allow_anonymous: Annotated[
        bool, Meta(description="true: requests of nobody known are served, with any bind, and with anonymous_roles")
    ] = False
    anonymous_roles: Annotated[
        tuple[str, ...], Meta(description="what they may then call, besides queries without @role")
    ] = ()
    keys_file: Annotated[File, Meta(description="keys: what `gateway key new` writes")] = ""
    issuer: Annotated[str, Meta(description="jwt: what `iss` must be,")] = ""
    audience: Annotated[str, Meta(description="and what `aud` must be or hold")] = ""
    jwks_url: Annotated[str, Meta(description="jwt: where the issuer's public keys are; looked at beside requests")] = (
        ""
    )
    jwks_file: Annotated[File, Meta(description="or a file with them")] = ""
    jwt_secret_file: Annotated[
        File, Meta(description="or a secret of at least 32 bytes, for HS256 and the like only")
    ] = ""
    algorithms: Annotated[
        tuple[Algorithm, ...],
        Meta(min_length=1, description="signatures that are accepted"),
    ] = ("RS256", "ES256", "EdDSA")
    roles_claim: Annotated[
        str, Meta(min_length=1, description="where a token's roles are: a list or words; dots lead into objects")
    ] = "roles"
    leeway: Annotated[
        float, Meta(ge=0, le=3600, extra={"kind": "duration"}, description="by which the issuer's clock may differ")
    ] = seconds("30s")
    failure_rate: Annotated[
        Often, Meta(description="from one address; beyond it, credentials that are no good are answered with 429")
    ] = rate("10/s")
    settings: Annotated[
        dict[str, str],
        Meta(description='in front of statements: {"request.jwt.claims" = "claims", "app.tenant" = "claim:tenant_id"}'),
    ] = {}
    """For groups with ``settings = true``. ``claims``: all of them as JSON; ``claim:PATH``: one of them as text."""
    database_roles: Annotated[tuple[str, ...], Meta(description="what the setting `role` may be")] = ()
    trusted_identity_header: Annotated[
        str, Meta(description='certificates: header in which trusted_proxies name them: "x-forwarded-client-cert"')
    ] = ""
    certificates: Annotated[
        dict[str, tuple[str, ...]],
        Meta(description='certificates: URI, DNS name or CN of each with its roles: {"spiffe://shop/app" = ["sales"]}'),
    ] = {}

    @property
    def is_on(self) -> bool:
        """Whether anybody is asked who they are."""
        return "none" not in self.mode


class Member(Struct, frozen=True):
    """A server that an endpoint with ``discover`` stands for."""

    name: str
    """What follows the endpoint's own name."""
    host: str = ""
    """Empty: the one in the endpoint's dsn."""
    address: str = ""
    """Of the host; empty: it is looked up."""
    port: int = 0
    """0: the one in the endpoint's dsn."""


class Settings(Struct, frozen=True, kw_only=True):
    """Everything configured, checked as a whole, with every default filled in.

    A field is the only declaration of its section: a struct, or a dict of structs for tables that have names. Fields
    of the kind ``derived`` are no sections.
    """

    server: ServerSettings = ServerSettings()
    catalogue: CatalogueSettings = CatalogueSettings()
    endpoints: Annotated[
        dict[str, EndpointSettings],
        Meta(
            examples=["primary"],
            description="One table for each PostgreSQL server, primaries and replicas alike: "
            "the gateway asks them what they are.",
        ),
    ] = {}
    groups: Annotated[
        dict[str, GroupSettings],
        Meta(
            examples=["read", "write"],
            description="Connections with one purpose. "
            "A query runs in the group its @group names, else in `read` or `write` by what it does.",
        ),
    ] = {}
    probe: ProbeSettings = ProbeSettings()
    idempotency: IdempotencySettings = IdempotencySettings()
    cache: CacheSettings = CacheSettings()
    auth: AuthSettings = AuthSettings()
    log: LogSettings = LogSettings()
    mcp: McpSettings = McpSettings()
    traces: TracesSettings = TracesSettings()
    sources: Annotated[dict[str, EndpointSettings], Meta(extra={"kind": "derived"})] = {}
    """Endpoints with ``discover``, as they were written. They are in ``endpoints`` as long as no member is known."""
    members: Annotated[dict[str, tuple[Member, ...]], Meta(extra={"kind": "derived"})] = {}
    """The members that are in ``endpoints`` in their place."""


def _sections(*, named: bool) -> dict[str, type[Struct]]:
    declared = {name: key for name, key in keys_of(Settings).items() if key.kind != "derived"}
    keys = {name: key for name, key in declared.items() if (key.plain is dict) is named}
    return {name: get_args(key.bare)[1] if named else key.bare for name, key in keys.items()}


SECTIONS = _sections(named=False)
"""``[NAME]``: the struct of every section that is one table."""
NAMED_SECTIONS = _sections(named=True)
"""``[SECTION.NAME]``: the struct of each table of every section whose tables have names."""
