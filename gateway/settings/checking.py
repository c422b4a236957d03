"""Checks settings against each other, beyond the type of each."""

import grp
import re
import ssl
from collections.abc import Iterator
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Protocol

from gateway.errors import Fault
from gateway.settings.dsn import faults_of
from gateway.settings.model import Settings
from gateway.settings.sources import Source

_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


class SourceOf(Protocol):
    """Tells where a key was written, for the fault to name."""

    def __call__(self, *path: str) -> Source:
        """Return the source of ``section, key`` or ``section, name, key``."""


def faults_between(settings: Settings, source_of: SourceOf) -> Iterator[Fault]:
    """Find every fault of the settings as a whole."""
    yield from _bind_faults(settings, source_of)
    yield from _admin_faults(settings, source_of)
    yield from _socket_faults(settings, source_of)
    yield from _auth_faults(settings, source_of)
    yield from _tls_faults(settings, source_of)
    yield from _proxy_faults(settings, source_of)
    yield from _browser_faults(settings, source_of)
    yield from _endpoint_faults(settings, source_of)
    yield from _group_faults(settings, source_of)


def is_local(bind: str) -> bool:
    """Tell whether only this machine can connect there: a unix socket or a loopback address."""
    if bind.startswith("unix:"):
        return True
    host = bind.rpartition(":")[0].strip("[]")
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
        elif settings.auth.mode == "none" and not settings.auth.allow_anonymous and not is_local(bind):
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
    elif settings.auth.mode == "none" and not is_local(bind):
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
    if auth.mode != "none":
        yield source_of("auth", "mode").fault(
            f'auth.mode: this version cannot check "{auth.mode}" yet, only "none" can be served'
        )
        return
    for key, value in (("keys_file", auth.keys_file), ("jwks_url", auth.jwks_url), ("audience", auth.audience)):
        if value:
            yield source_of("auth", key).fault(
                f'auth.{key}: has no effect while auth.mode is "none": nobody is checked'
            )


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
