"""From a user's DSN to what libpq is given: verified TLS off loopback, addresses resolved, our session settings."""

import errno
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from psycopg2 import ProgrammingError
from psycopg2.extensions import make_dsn, parse_dsn

LOOPBACK_NAMES = frozenset({"", "localhost"})
OWN_ROOTS = "~/.postgresql/root.crt"
"""Where libpq looks for certificates of the user's own choice."""
OWN_CERTIFICATE = "~/.postgresql/postgresql.crt"
"""Where libpq looks for the certificate that it shows to a server."""
OWN_SERVICES = "~/.pg_service.conf"
SYSTEM_SERVICES = "/etc/postgresql-common"
"""The folder of ``pg_service.conf`` where ``PGSYSCONFDIR`` names none: that of Debian's libpq."""
ENVIRONMENT = {
    "service": "PGSERVICE",
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "options": "PGOPTIONS",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslcertmode": "PGSSLCERTMODE",
    "gssencmode": "PGGSSENCMODE",
    "application_name": "PGAPPNAME",
}
"""What libpq takes from the environment, as far as something here depends on it or would take its place."""
SESSION_KINDS = {"read-write": "primary", "read-only": "standby"}
"""What is asked for instead: by these words libpq judges a session by ``default_transaction_read_only`` as well, which
each session of ours is given by its group and not by its server."""
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Linux distributions keep the certificates they trust."""
VERIFIED = "verify-full"
"""The one ``sslmode`` that proves that the server is the one named."""
OUTDATED = ("TLSv1", "TLSv1.1")
APPLICATION = "pg-query-gateway"
"""What sessions and statements say that they are of."""
LIVENESS = {
    "keepalives": "1",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "2",
    "tcp_user_timeout": "4000",
}
"""Defaults of ours, with which a server that is silently gone is noticed within 5 s, on idle
connections (keepalives) and on those with something under way that it does not acknowledge."""
POSTGRESQL = 5432
"""The port where none is named."""
_PROTECTED = re.compile(r"[\\\s]")


def complete(
    dsn: str, *, password: str | None = None, settings: Mapping[str, str] = {}, application: str = APPLICATION
) -> dict[str, str]:
    """Turn a DSN (URI or key=value) into libpq parameters.

    What the DSN leaves out is taken from its service and then from the environment, as libpq does it.
    ``settings`` become connect options in front of those found so. A host off loopback without ``sslmode`` is
    verified in full: a password is never sent to whoever answers. Where no certificates were chosen, the system's
    are trusted. The encoding is always UTF-8.
    Raises psycopg2.ProgrammingError for a DSN that libpq cannot read.
    """
    parameters = _as_libpq_finds_them(dict(parse_dsn(dsn)))
    if password is not None:
        parameters["password"] = password
    if "sslmode" not in parameters and not _stays_here(parameters):
        parameters["sslmode"] = VERIFIED
    if parameters.get("sslmode") == VERIFIED and _wants_system_roots(parameters):
        parameters["sslrootcert"] = system_roots()
    if "sslcert" not in parameters and _is_there(OWN_CERTIFICATE) is None:
        # libpq fails where it may not look; where there is no file it connects without a certificate.
        parameters.setdefault("sslcertmode", "disable")
    if (kind := parameters.get("target_session_attrs")) in SESSION_KINDS:
        parameters["target_session_attrs"] = SESSION_KINDS[kind]
    parameters.setdefault("gssencmode", "disable")
    parameters.setdefault("application_name", application)
    parameters["client_encoding"] = "UTF8"
    for name, value in LIVENESS.items():
        parameters.setdefault(name, value)
    if settings:
        ours = " ".join(f"-c {name}={_escape(value)}" for name, value in settings.items())
        parameters["options"] = f"{ours} {parameters.get('options', '')}".strip()
    return parameters


def place_of(dsn: str) -> tuple[str, int, str]:
    """Where a DSN leads: its first host or socket, the port, and the database; empty where it does not say.

    Raises psycopg2.ProgrammingError for a DSN that libpq cannot read.
    """
    parameters = _as_libpq_finds_them(dict(parse_dsn(dsn)))
    host, port = (parameters.get(name, "").partition(",")[0] for name in ("host", "port"))
    return host or parameters.get("hostaddr", ""), int(port or POSTGRESQL), parameters.get("dbname", "")


def weakness(parameters: Mapping[str, str]) -> str | None:
    """Name the completed parameter that lets others read or answer what goes to a server off this machine.

    None where nothing does. Kerberos encryption, where it is required, authenticates the server as well.
    """
    if _stays_here(parameters) or parameters.get("gssencmode") == "require":
        return None
    if (mode := parameters.get("sslmode", "prefer")) != VERIFIED:
        return f"sslmode={mode}"
    if (version := parameters.get("ssl_min_protocol_version")) in OUTDATED:
        return f"ssl_min_protocol_version={version}"
    return "sslkeylogfile" if parameters.get("sslkeylogfile") else None


def resolve(parameters: Mapping[str, str], look_up: Callable[[str], Sequence[str]] | None = None) -> dict[str, str]:
    """Look host names up here, since libpq would do it where no deadline holds; every address becomes a host.

    Raises what ``look_up`` raised last (as ``addresses_of`` does: OSError) where no name has an address.
    """
    out = dict(parameters)
    names = names_of(parameters)
    if not names:
        return out
    ports = out.get("port", "").split(",")
    each_its_own = len(ports) > 1
    if each_its_own and len(ports) != len(names):
        return out  # libpq reports what is wrong with that
    found: list[tuple[str, str, str]] = []
    failure: OSError | None = None
    for name, port in zip(names, ports if each_its_own else ports * len(names), strict=True):
        try:
            found += [(name, address, port) for address in _addresses(name, look_up or addresses_of)]
        except OSError as error:
            failure = error
    if not found and failure is not None:
        raise failure
    out |= {"host": ",".join(name for name, _, _ in found), "hostaddr": ",".join(address for _, address, _ in found)}
    if each_its_own:
        out["port"] = ",".join(port for _, _, port in found)
    return out


def names_of(parameters: Mapping[str, str]) -> list[str]:
    """The hosts to be looked up, and the sockets between them; empty where there is nothing to look up."""
    if parameters.get("hostaddr") or not parameters.get("host"):
        return []
    names = parameters["host"].split(",")
    return [] if all(map(is_socket, names)) else names


def looked_up(dsn: str) -> list[str]:
    """The host names of a DSN that are looked up when connecting; none, where libpq cannot read it."""
    try:
        names = names_of(complete(dsn))
    except ProgrammingError:
        return []
    return [name for name in names if not is_address(name) and not is_socket(name)]


def addresses_of(name: str) -> list[str]:
    """The addresses of a host, each once, in the resolver's order. Blocks without limit; raises OSError."""
    infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


def _addresses(name: str, look_up: Callable[[str], Sequence[str]]) -> Sequence[str]:
    return [""] if is_socket(name) else [name] if is_address(name) else look_up(name)


def render(parameters: Mapping[str, str]) -> str:
    """Write parameters as libpq's key=value form."""
    return str(make_dsn(**parameters))


def is_local(host: str) -> bool:
    """Tell whether a host is this machine: a unix socket's directory or a loopback name or address."""
    if host in LOOPBACK_NAMES or host.startswith(("/", "@")):
        return True
    return is_address(host) and ipaddress.ip_address(host).is_loopback


def is_address(host: str) -> bool:
    """Whether this is an IP address, which needs no looking up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_socket(host: str) -> bool:
    """Whether libpq takes this for a Unix socket: a directory, an abstract name, or its default place."""
    return not host or host.startswith(("/", "@"))


def system_roots() -> str:
    """The file with the certificates this system trusts, ``system`` where libpq has to find it.

    NOTE: the OpenSSL inside psycopg2's wheels looks for them where it was built, which is nowhere.
    """
    if "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ:
        return "system"
    candidates = (ssl.get_default_verify_paths().cafile, *BUNDLES)
    return next((path for path in candidates if path and Path(path).is_file()), "system")


def _as_libpq_finds_them(parameters: dict[str, str]) -> dict[str, str]:
    """The parameters of a DSN with those of its service, and with those of the environment that matter here."""
    if service := parameters.get("service") or os.environ.get("PGSERVICE"):
        parameters = _service(service, parameters.get("servicefile")) | parameters
    given = {name: os.environ.get(variable, "") for name, variable in ENVIRONMENT.items()}
    return {name: value for name, value in given.items() if value} | parameters


def _service(name: str, file: str | None) -> dict[str, str]:
    """The parameters of a service; none, where it is not found: then libpq reports that when connecting."""
    named = file or os.environ.get("PGSERVICEFILE")
    folder = os.environ.get("PGSYSCONFDIR") or SYSTEM_SERVICES
    for path in (Path(named) if named else _own(OWN_SERVICES), Path(folder) / "pg_service.conf"):
        try:
            lines = path.read_text(encoding="utf-8").splitlines() if path else []
        except (OSError, UnicodeDecodeError):
            continue
        if (found := _section(lines, name)) is not None:
            return found
    return {}


def _section(lines: Iterable[str], name: str) -> dict[str, str] | None:
    """The pairs below ``[name]``; None, if there is no such line."""
    found: dict[str, str] | None = None
    for line in map(str.strip, lines):
        if line.startswith("["):
            if found is not None:
                break
            found = {} if line == f"[{name}]" else None
        elif found is not None and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, value)
    return found


def _stays_here(parameters: Mapping[str, str]) -> bool:
    """Whether every host that libpq may talk to is this machine; one from a service that was not found may not be."""
    if "service" in parameters and not {"host", "hostaddr"} & parameters.keys():
        return False
    hosts = [parameters.get("host", ""), parameters.get("hostaddr", "")]
    return all(is_local(host) for some in hosts for host in some.split(","))


def _wants_system_roots(parameters: Mapping[str, str]) -> bool:
    chosen = parameters.get("sslrootcert")
    return chosen == "system" or (not chosen and not _is_there(OWN_ROOTS))


def _own(path: str) -> Path | None:
    """A path in the user's home; None, if the user has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return None


def _is_there(path: str) -> bool | None:
    """Whether there is such a file in the user's home; None, if we may not look."""
    try:
        file = _own(path)
        return file is not None and bool(file.stat())
    except OSError as error:
        return None if error.errno == errno.EACCES else False


def _escape(value: str) -> str:
    """Escape a value for ``options``: libpq's server splits at white space, a backslash protects."""
    return _PROTECTED.sub(r"\\\g<0>", value)
