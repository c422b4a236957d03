"""Checks settings against each other, beyond the type of each."""

import grp
import importlib.util
import re
import ssl
from collections.abc import Iterator
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from gateway.faults import Fault
from gateway.settings.discovering import DNS
from gateway.settings.dsn import faults_of
from gateway.settings.model import AuthSettings, EndpointSettings, Settings
from gateway.settings.sources import Source

_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

SHORTEST_SECRET = 16
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_CUSTOM_SETTING = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+", re.ASCII)
"""A setting that belongs to no part of the server (PostgreSQL's documentation, "Customized Options")."""
_OF_MODES = {
    "keys_file": ("keys",),
    "issuer": ("jwt",),
    "audience": ("jwt",),
    "jwks_url": ("jwt",),
    "jwks_file": ("jwt",),
    "jwt_secret_file": ("jwt",),
    "algorithms": ("jwt",),
    "roles_claim": ("jwt",),
    "leeway": ("jwt",),
    "certificates": ("certificates",),
    "trusted_identity_header": ("certificates",),
}
"""Keys of ``[auth]`` with the modes in which they have an effect."""


class SourceOf(Protocol):
    """Tells where a key was written, for the fault to name."""

    def __call__(self, *path: str) -> Source:
        """Return the source of ``section, key`` or ``section, name, key``."""


_FIRST_SEGMENTS = frozenset(
    {
        "admin",
        "docs",
        "health",
        "metrics",
        "openapi.json",
        "outcome",
        "queries",
        "query",
        "transaction",
        ".well-known",
    }
)
"""What the paths of the gateway's other routes begin with."""


def faults_between(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    """Find every fault of the settings as a whole."""
    yield from _bind_faults(settings, source_of)
    yield from _admin_faults(settings, source_of)
    yield from _socket_faults(settings, source_of)
    yield from _auth_faults(settings, source_of)
    yield from _tls_faults(settings, source_of)
    yield from _secret_faults(settings, source_of)
    yield from _proxy_faults(settings, source_of)
    yield from _browser_faults(settings, source_of)
    yield from _endpoint_faults(settings, source_of)
    yield from _group_faults(settings, source_of)
    yield from _mcp_faults(settings, source_of)
    yield from _traces_faults(settings, source_of)


def _traces_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    endpoint, source = settings.traces.endpoint, source_of("traces", "endpoint")
    if not endpoint:
        return
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or not endpoint.isascii():
        yield source.fault('traces.endpoint: must be a URL, such as "http://127.0.0.1:4318/v1/traces"')
    if not _has_sdk():
        yield source.fault('traces.endpoint needs OpenTelemetry\'s SDK: pip install "pg-query-gateway[otel]"')


def _has_sdk() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.common") is not None
    except ModuleNotFoundError:  # of a package around it
        return False


def is_local(bind: str) -> bool:
    """Tell whether only this machine can connect there: a unix socket or a loopback address."""
    return bind.startswith("unix:") or _is_loopback(bind.rpartition(":")[0].strip("[]"))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    source = source_of("server", "bind")
    seen = set()
    for bind in settings.server.bind:
        if bind in seen:
            yield source.fault(f"server.bind: {bind} is there twice")
        seen.add(bind)
        if not _is_address(bind):
            yield source.fault(f'server.bind: {bind!r} is none of "host:port", "[ipv6]:port", "unix:/path"')
        elif settings.server.reuse_port and bind.startswith("unix:"):
            yield source_of("server", "reuse_port").fault("server.reuse_port: a unix socket cannot be shared so")
        elif not settings.auth.is_on and not settings.auth.allow_anonymous and not is_local(bind):
            yield source.fault(
                f'server.bind: {bind} is not loopback, and with auth.mode = "none" whoever reaches it may run every '
                "query; bind to 127.0.0.1, or set allow_anonymous = true in [auth] if that is meant"
            )


def _admin_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    bind, source = settings.server.admin_bind, source_of("server", "admin_bind")
    if not bind:
        return
    if not _is_address(bind):
        yield source.fault(f'server.admin_bind: {bind!r} is none of "host:port", "[ipv6]:port", "unix:/path"')
    elif bind in settings.server.bind:
        yield source.fault(f"server.admin_bind: {bind} is in server.bind, where clients are served")
    elif not settings.auth.is_on and not is_local(bind):
        yield source.fault(
            f'server.admin_bind: {bind} is not loopback, and with auth.mode = "none" whoever reaches it could drain '
            "every server; use a loopback address or a unix socket"
        )


def _socket_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    group = settings.server.socket_group
    try:
        if group and not group.isdecimal():
            grp.getgrnam(group)
    except KeyError:
        yield source_of("server", "socket_group").fault(f"server.socket_group: there is no group {group!r} here")


def _is_address(bind: str) -> bool:
    if bind.startswith("unix:"):
        return bind.startswith("unix:/") and "\0" not in bind and len(bind.encode()) - len("unix:") < 108
    host, _, port = bind.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        try:
            is_host = ip_address(host[1:-1]).version == 6
        except ValueError:
            is_host = False
    else:
        is_host = bool(host) and host.isascii() and host.replace("-", "").replace(".", "").isalnum()
    return is_host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535


def _auth_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    auth = settings.auth
    if len(set(auth.mode)) < len(auth.mode) or ("none" in auth.mode and len(auth.mode) > 1):
        yield source_of("auth", "mode").fault('auth.mode: "none" stands alone, and no mode is there twice')
    for key, modes in _OF_MODES.items():
        if getattr(auth, key) != getattr(AuthSettings(), key) and not {*modes} & {*auth.mode}:
            wanted = " or ".join(f'"{mode}"' for mode in modes)
            yield source_of("auth", key).fault(f"auth.{key}: has no effect without {wanted} in auth.mode")
    if "keys" in auth.mode and not auth.keys_file:
        yield source_of("auth", "mode").fault(
            'auth.mode: "keys" needs auth.keys_file, where `gateway key new NAME` writes the first key'
        )
    if "jwt" in auth.mode:
        yield from _jwt_faults(auth, source_of)
    if "certificates" in auth.mode:
        yield from _certificate_faults(settings, source_of)
    if auth.anonymous_roles and not auth.allow_anonymous:
        yield source_of("auth", "anonymous_roles").fault(
            "auth.anonymous_roles: has no effect without allow_anonymous = true"
        )
    yield from _session_faults(settings, source_of)


def _jwt_faults(auth: AuthSettings, source_of: SourceOf) -> Iterator[Fault]:
    source = source_of("auth", "mode")
    for key in ("issuer", "audience"):
        if not getattr(auth, key):
            yield source.fault(f'auth.mode: "jwt" needs auth.{key}: a token made for somebody else is not for us')
    keys = [key for key in ("jwks_url", "jwks_file", "jwt_secret_file") if getattr(auth, key)]
    if len(keys) != 1:
        yield source.fault('auth.mode: "jwt" needs one of auth.jwks_url, auth.jwks_file and auth.jwt_secret_file')
    symmetric = {algorithm for algorithm in auth.algorithms if algorithm.startswith("HS")}
    if auth.jwt_secret_file and symmetric != {*auth.algorithms}:
        yield source_of("auth", "algorithms").fault(
            "auth.algorithms: with jwt_secret_file only HS256, HS384 and HS512 may be named, and one must be"
        )
    elif symmetric and not auth.jwt_secret_file:
        yield source_of("auth", "algorithms").fault(
            f"auth.algorithms: {min(symmetric)} needs jwt_secret_file; with public keys anybody could sign by it"
        )
    url = urlsplit(auth.jwks_url)
    is_safe = url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.hostname or ""))
    if auth.jwks_url and not (is_safe and url.hostname):
        yield source_of("auth", "jwks_url").fault("auth.jwks_url: must be https://…, or http:// to loopback")


def _certificate_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    auth, server = settings.auth, settings.server
    source = source_of("auth", "mode")
    if not auth.certificates:
        yield source.fault('auth.mode: "certificates" needs [auth.certificates], which says who has which roles')
    if not server.client_ca and not auth.trusted_identity_header:
        yield source.fault('auth.mode: "certificates" needs server.client_ca, or auth.trusted_identity_header')
    if auth.trusted_identity_header and not server.trusted_proxies:
        yield source_of("auth", "trusted_identity_header").fault(
            "auth.trusted_identity_header: is believed from server.trusted_proxies only, and there are none"
        )
    if auth.trusted_identity_header and not _HEADER.fullmatch(auth.trusted_identity_header):
        yield source_of("auth", "trusted_identity_header").fault(
            "auth.trusted_identity_header: is no name of a header, such as x-forwarded-client-cert"
        )


def _session_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    """What is wrong with settings that are sent in front of statements."""
    auth = settings.auth
    source = source_of("auth", "settings")
    for name, value in auth.settings.items():
        if name != "role" and not _CUSTOM_SETTING.fullmatch(name):
            yield source.fault(
                f"auth.settings: {name!r} is no setting of your own, such as app.tenant or request.jwt.claims, nor role"
            )
        if value != "claims" and not (value.startswith("claim:") and len(value) > len("claim:")):
            yield source.fault(f'auth.settings: {name} must be "claims" or "claim:PATH", not {value!r}')
    if auth.settings.get("role") == "claims":
        yield source.fault('auth.settings: role must be "claim:PATH": one name')
    if "role" in auth.settings and not auth.database_roles:
        yield source.fault("auth.settings: role needs auth.database_roles, the names that it may be")
    if auth.database_roles and "role" not in auth.settings:
        yield source_of("auth", "database_roles").fault("auth.database_roles: has no effect without role in settings")
    asking = [name for name, group in settings.groups.items() if group.settings]
    for name in asking if not auth.settings else ():
        yield source_of("groups", name, "settings").fault(
            f"groups.{name}.settings: there are no [auth] settings to send"
        )
    if auth.settings and not asking:
        yield source.fault("auth.settings: has no effect unless a group has settings = true")


def _tls_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    server = settings.server
    for key, value in (("keyfile", server.keyfile), ("client_ca", server.client_ca)):
        if value and not server.certfile:
            yield source_of("server", key).fault(f"server.{key}: has no effect without server.certfile")
    faults = {}
    for key, value in (("certfile", server.certfile), ("keyfile", server.keyfile), ("client_ca", server.client_ca)):
        if value and (reason := _unreadable(Path(value))):
            faults[key] = f"server.{key}: {value} cannot be read: {reason}"
    yield from (source_of("server", key).fault(message) for key, message in faults.items())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        if server.certfile and not {"certfile", "keyfile"} & faults.keys():
            # A key that wants a passphrase gets an empty one: else OpenSSL would ask on the terminal.
            context.load_cert_chain(server.certfile, server.keyfile or None, password="")
    except (ssl.SSLError, OSError) as error:
        yield source_of("server", "certfile").fault(f"server.certfile: certificate and key do not load: {error}")
    try:
        if server.client_ca and "client_ca" not in faults:
            context.load_verify_locations(server.client_ca)
    except (ssl.SSLError, OSError) as error:
        yield source_of("server", "client_ca").fault(f"server.client_ca: {server.client_ca} does not load: {error}")


def _secret_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    file = settings.server.secret_file
    if not file:
        return
    if reason := _unreadable(Path(file)):
        yield source_of("server", "secret_file").fault(f"server.secret_file: {file} cannot be read: {reason}")
    elif len(Path(file).read_bytes().strip()) < SHORTEST_SECRET:
        message = f"server.secret_file: {file} has less than {SHORTEST_SECRET} bytes: openssl rand -hex 32 > {file}"
        yield source_of("server", "secret_file").fault(message)


def _unreadable(file: Path) -> str | None:
    try:
        file.open("rb").close()
    except OSError as error:
        return error.strerror
    return None


def _proxy_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    for proxy in settings.server.trusted_proxies:
        try:
            ip_network(proxy)
        except ValueError as error:
            yield source_of("server", "trusted_proxies").fault(
                f"server.trusted_proxies: {proxy!r} is no address or network: {error}"
            )


def _browser_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    for host in settings.server.allowed_hosts:
        if not _HOST_NAME.fullmatch(host):
            yield source_of("server", "allowed_hosts").fault(
                f'server.allowed_hosts: {host!r} is no name of a host, such as "db.example.com" (without a port)'
            )
    for origin in settings.server.cors_origins:
        if not _ORIGIN.fullmatch(origin):
            yield source_of("server", "cors_origins").fault(
                f"server.cors_origins: {origin!r} is no origin as browsers write it, in small letters and without a "
                'path: "https://app.example.com", "http://localhost:3000"'
            )


def _endpoint_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    if not settings.endpoints:
        yield source_of("endpoints").fault(
            "there is no endpoint: set DATABASE_URL=postgresql://..., or write [endpoints.primary] with its dsn"
        )
    for name, endpoint in settings.endpoints.items():
        source = source_of("endpoints", name, "dsn_file" if endpoint.dsn_file else "dsn")
        if endpoint.dsn:
            yield from (source.fault(f"endpoints.{name}.dsn: {message}") for message in faults_of(endpoint.dsn))
        elif not endpoint.dsn_file:
            yield source.fault(f"endpoints.{name}: has no dsn")
        if endpoint.password_command and (endpoint.password or endpoint.password_file):
            yield source_of("endpoints", name, "password_command").fault(
                f"endpoints.{name}.password_command: excludes password and password_file; say one of them"
            )
        yield from map(source_of("endpoints", name, "discover").fault, _discovery_faults(name, endpoint))


def _discovery_faults(name: str, endpoint: EndpointSettings) -> Iterator[str]:
    for place in endpoint.discover if endpoint.discover != (DNS,) else ():
        url = urlsplit(place)
        if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/") or url.query:
            yield f'endpoints.{name}.discover: {place!r} is neither "dns" alone nor like "https://10.0.0.1:8008"'
        elif url.scheme == "http" and not _is_loopback(url.hostname) and not endpoint.allow_insecure:
            yield (
                f"endpoints.{name}.discover: {place} is not https, so that others on the way could name servers of "
                "their own; set allow_insecure = true for the endpoint if that is meant"
            )


def _group_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    workers, workers_source = settings.server.workers, source_of("server", "workers")
    for name, group in settings.groups.items():
        source = source_of("groups", name, "endpoints")
        for endpoint in group.endpoints:
            if endpoint not in settings.endpoints:
                close = get_close_matches(endpoint, settings.endpoints, 1)
                hint = f'; did you mean "{close[0]}"?' if close else ""
                yield source.fault(f"groups.{name}.endpoints: there is no endpoint {endpoint!r}{hint}")
        if len(set(group.endpoints)) < len(group.endpoints):
            yield source.fault(f"groups.{name}.endpoints: names an endpoint twice")
        if group.size < workers:
            # Blame what was given last: --workers 32 is at fault, not the default size.
            size_source = source_of("groups", name, "size")
            blamed = workers_source if workers_source.rank > size_source.rank else size_source
            yield blamed.fault(
                f"groups.{name}.size: {group.size} connections cannot be split over {workers} workers; "
                f"make it at least {workers}, or lower server.workers"
            )


def _mcp_faults(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    path = settings.mcp.path
    if path.split("/")[1] in _FIRST_SEGMENTS:
        yield source_of("mcp", "path").fault(f"mcp.path: {path} is among the gateway's other routes; use /mcp")
