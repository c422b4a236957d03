"""Opens connections for the pool, and says in its words why it could not."""

import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import psycopg2

from gateway.errors import DeadlineExceeded, GatewayError
from gateway.pool.driver import ConnectError
from gateway.postgres import dsn as dsns
from gateway.postgres import waiting
from gateway.postgres.dsn import APPLICATION
from gateway.postgres.passwords import Passwords
from gateway.postgres.resolving import Resolver
from gateway.postgres.session import Session
from gateway.postgres.waiting import DeadlinePassed
from gateway.rotation.endpoint import Reason
from gateway.settings import EndpointSettings
from gateway.settings.dsn import masked

PINNED = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    "array_nulls": "on",
    "default_transaction_isolation": "read committed",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "client_min_messages": "warning",
    "client_connection_check_interval": "250ms",
}
"""Settings that change the bytes of an answer, how an argument is read, what a transaction promises, or how soon a
server notices that we closed the socket."""

INSECURE = (
    "not enough off this machine: others on the way could read passwords and data, or answer in the server's place; "
    "use sslmode=verify-full (the default), or set allow_insecure = true for the endpoint if that is meant"
)

MOST_ADDRESSES = 64
"""Of one endpoint, to be followed: behind more is not one server."""

_SIGNS: tuple[tuple[str, Reason | None], ...] = (
    ("too many clients", None),
    ("remaining connection slots", None),
    ("too many connections", None),
    ("starting up", Reason.STARTING_UP),
    ("not yet accepting connections", Reason.STARTING_UP),
    ("in recovery mode", Reason.STARTING_UP),
    ("shutting down", Reason.REFUSED),
    ("connection refused", Reason.REFUSED),
    ("error response during ssl exchange", Reason.REFUSED),
    ("certificate", Reason.TLS),
    ("ssl", Reason.TLS),
    ("authentication", Reason.AUTH),
    ("password", Reason.AUTH),
    ("pg_hba.conf", Reason.AUTH),
    ("role ", Reason.AUTH),
    ("permission denied", Reason.AUTH),
    ("timeout", Reason.TIMEOUT),
    ("timed out", Reason.TIMEOUT),
    ("no such file", Reason.REFUSED),
    ("unreachable", Reason.REFUSED),
    ("closed the connection", Reason.LOST),
    ("reset by peer", Reason.LOST),
)
"""libpq gives no SQLSTATE for a failed connect: its sentence is all there is. First sign found wins."""
_NAMES = re.compile(r'"[^"]*"')
_PREAMBLE = re.compile(r'connection to server (?:at|on socket) "[^"]*"(?: \([^)]*\))?(?:, port \d+)? failed: ')


class Address(msgspec.Struct, frozen=True):
    """Where an endpoint is and how to get in."""

    dsn: str
    password: str = ""
    """Takes the place of one in the dsn."""
    password_file: str = ""
    """Read at every connect; beats ``password``."""
    password_command: tuple[str, ...] = ()
    """Prints the password; beats both."""
    password_ttl: float = 600.0
    """Seconds for which what it printed is used."""
    prepare: bool = True
    allow_insecure: bool = False
    """Whether what goes to a server off this machine may be read or answered by others."""

    def __repr__(self) -> str:
        """Show the address without its secrets."""
        return f"Address({masked(self.dsn)!r})"


def addresses(endpoints: Mapping[str, EndpointSettings]) -> dict[str, Address]:
    """The addresses of configured endpoints."""
    return {
        name: Address(
            dsn=endpoint.dsn,
            password=endpoint.password,
            password_file=endpoint.password_file,
            password_command=endpoint.password_command,
            password_ttl=endpoint.password_ttl,
            prepare=endpoint.prepare,
            allow_insecure=endpoint.allow_insecure,
        )
        for name, endpoint in endpoints.items()
    }


def weaknesses(endpoints: Mapping[str, EndpointSettings]) -> dict[str, str]:
    """Return for each endpoint whose server is not verified in full what weakens that, as ``dsn.weakness`` names it."""
    found = {}
    for name, endpoint in endpoints.items():
        with suppress(psycopg2.ProgrammingError):  # connecting says so
            if weakness := dsns.weakness(dsns.complete(endpoint.dsn)):
                found[name] = weakness
    return found


class Driver:
    """Connects to endpoints by name, every session with the same settings. Satisfies ``pool.driver.Driver``."""

    def __init__(
        self,
        addresses: Mapping[str, Address],
        *,
        read_only: bool,
        time_zone: str = "UTC",
        longest: float | None = None,
        prepared: int = 200,
        resolver: Resolver | None = None,
        passwords: Passwords | None = None,
        application: str = APPLICATION,
    ) -> None:
        """``longest``: the longest timeout in seconds of what runs here, a net below our own deadline.

        ``resolver``, ``passwords``: one for all drivers of a process, so that they know what any of them has found;
        ``application``: the sessions' ``application_name``, where the DSN has none.
        """
        self._passwords = passwords or Passwords()
        self._resolver = resolver or Resolver()
        self._application = application
        self._addresses = addresses
        self._prepared = prepared
        self._settings = PINNED | {"TimeZone": time_zone, "default_transaction_read_only": "on" if read_only else "off"}
        if longest is not None and read_only:
            self._settings["statement_timeout"] = display_milliseconds(round((longest + 1) * 1000))
        waiting.install()

    def connect(self, endpoint: str, deadline: float) -> Session:
        """Open a connection before ``deadline``; raises ConnectError with the reason.

        A password that a command gave some time ago may have been replaced since: if it is refused, that command is
        run again at once, and what it prints is tried.
        """
        address = self._addresses[endpoint]
        password = self._password(address, deadline)
        try:
            return self._connect(address, password, deadline)
        except ConnectError as error:
            command = address.password_command
            if error.reason is not Reason.AUTH or not command:
                raise
            if not self._passwords.refused(command, address.password_ttl, password or ""):
                raise
        return self._connect(address, self._password(address, deadline), deadline)

    def _connect(self, address: Address, password: str | None, deadline: float) -> Session:
        connection = None
        try:
            parameters = dsns.complete(
                address.dsn, password=password, settings=self._settings, application=self._application
            )
            # Looked at for each connection: a service file or the environment may have changed since the start.
            if not address.allow_insecure and (weakness := dsns.weakness(parameters)):
                raise ConnectError(Reason.TLS, f"{weakness} is {INSECURE}")
            connection = Session(
                dsns.render(dsns.resolve(parameters, lambda name: self._resolver.addresses(name, deadline))),
                deadline=deadline,
                prepared_limit=self._prepared,
                prepare=address.prepare,
            )
            connection.address = peer_of(connection.fileno())
            connection.establish(self._settings, deadline)
        except DeadlinePassed as error:
            raise ConnectError(Reason.TIMEOUT, "no connection in time") from error
        except GatewayError as error:
            if connection is not None:
                connection.close()
            raise _unestablished(error) from error
        except psycopg2.ProgrammingError as error:
            # SECURITY: libpq's sentence shows a piece of the DSN, which may be one of an unquoted password.
            raise ConnectError(Reason.UNKNOWN, "libpq cannot read the dsn") from error
        except (psycopg2.Error, OSError, ValueError) as error:
            raise explained(error) from error
        return connection

    def _password(self, address: Address, deadline: float) -> str | None:
        """Raises ConnectError."""
        try:
            if address.password_command:
                return self._passwords.get(address.password_command, address.password_ttl, deadline)
            return read_secret(address.password_file) if address.password_file else address.password or None
        except (OSError, UnicodeDecodeError) as error:
            raise explained(error) from error

    def resolve(self, endpoint: str, deadline: float) -> tuple[str, ...] | None:
        """What the host names of an endpoint stand for now, in no order; empty where there is nothing to look up.

        None, if the resolver does not say before the deadline, or says that one of them has no address (it may be at
        fault: that is no reason to leave a server).
        """
        try:
            names = dsns.names_of(dsns.complete(self._addresses[endpoint].dsn))
        except psycopg2.ProgrammingError:
            return None  # connecting says so
        found: set[str] = {name for name in names if dsns.is_address(name)}
        asked = [name for name in names if name not in found and not dsns.is_socket(name)]
        for name in asked:
            addresses = self._resolver.newest(name, deadline)
            if addresses is None:
                return None
            found.update(addresses)
        return tuple(sorted(found)) if asked and len(found) <= MOST_ADDRESSES else ()


def peer_of(descriptor: int) -> str:
    """The address a socket is connected to; empty for a Unix socket, or if it is not connected any more."""
    try:
        with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as peer:
            name = peer.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


def explained(error: Exception) -> ConnectError:
    """Classify a failed connect by libpq's sentence (or that of the resolver, or of the password file)."""
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError):
        is_name = "Errno -" in message
        return ConnectError(Reason.REFUSED if is_name else Reason.AUTH, message)
    # Names, which may be anything, say nothing.
    lowered = _NAMES.sub("", _PREAMBLE.sub("", message)).lower().rpartition("fatal:")[2]
    for sign, reason in _SIGNS:
        if sign in lowered:
            return ConnectError(reason, message)
    return ConnectError(Reason.UNKNOWN, message)


def _unestablished(error: GatewayError) -> ConnectError:
    """Say why a connection that was opened could not be made one of ours."""
    if isinstance(error, DeadlineExceeded):
        return ConnectError(Reason.TIMEOUT, "connected, but no answer in time")
    reason = Reason.LOST if error.sqlstate is None else Reason.UNKNOWN
    return ConnectError(reason, f"connected, but {error.server_message or error.detail}")


def read_secret(path: str) -> str:
    """The content of a secret's file without its last newline, read anew at every connect: passwords change."""
    return Path(path).read_text(encoding="utf-8").rstrip("\r\n")


def display_milliseconds(value: int) -> str:
    """A duration as PostgreSQL shows a setting in milliseconds: ``250ms``, ``6s``, ``1min``."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return f"{value}ms"
