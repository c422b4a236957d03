"""From a user's DSN to what libpq is given: verified TLS off loopback, addresses resolved, our session settings."""

import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from psycopg2.extensions import make_dsn, parse_dsn

LOOPBACK_NAMES = frozenset({"", "localhost"})
OWN_ROOTS = Path("~/.postgresql/root.crt")
"""Where libpq looks for certificates of the user's own choice."""
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Linux distributions keep the certificates they trust."""
LIVENESS = {
    "keepalives": "1",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "2",
    "tcp_user_timeout": "4000",
}
"""What libpq is told where the DSN does not say it: a server that went without a word is noticed within 5 s, on idle
connections (keepalives) and on those with something under way that it does not acknowledge."""
_PROTECTED = re.compile(r"[\\\s]")


def complete(dsn: str, *, password: str | None = None, settings: Mapping[str, str] = {}) -> dict[str, str]:
    """Turn a DSN (URI or key=value) into libpq parameters.

    ``settings`` become connect options in front of the DSN's own. A host off loopback without ``sslmode`` is
    verified in full: a password is never sent to whoever answers. Where no certificates were chosen, the system's
    are trusted.
    Raises psycopg2.ProgrammingError for a DSN that libpq cannot read.
    """
    parameters: dict[str, str] = dict(parse_dsn(dsn))
    if password is not None:
        parameters["password"] = password
    if "sslmode" not in parameters and "PGSSLMODE" not in os.environ and not _stays_here(parameters):
        parameters["sslmode"] = "verify-full"
    if parameters.get("sslmode") == "verify-full" and _wants_system_roots(parameters):
        parameters["sslrootcert"] = system_roots()
    parameters.setdefault("gssencmode", "disable")
    parameters.setdefault("application_name", "pg-query-gateway")
    parameters.setdefault("client_encoding", "UTF8")
    for name, value in LIVENESS.items():
        parameters.setdefault(name, value)
    if settings:
        ours = " ".join(f"-c {name}={_escape(value)}" for name, value in settings.items())
        parameters["options"] = f"{ours} {parameters.get('options', '')}".strip()
    return parameters


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
        return out  # libpq says what is wrong with that
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


def _stays_here(parameters: Mapping[str, str]) -> bool:
    """Whether every host that libpq may talk to is this machine; one from a service file is not known to be."""
    if "service" in parameters or "PGSERVICE" in os.environ:
        return False
    names = parameters.get("host") or os.environ.get("PGHOST") or ""
    addresses = parameters.get("hostaddr") or os.environ.get("PGHOSTADDR") or ""
    return all(is_local(host) for hosts in (names, addresses) for host in hosts.split(","))


def _wants_system_roots(parameters: Mapping[str, str]) -> bool:
    chosen = parameters.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    return chosen == "system" or (not chosen and not OWN_ROOTS.expanduser().exists())


def _escape(value: str) -> str:
    """Escape a value for ``options``: libpq's server splits at white space, a backslash protects."""
    return _PROTECTED.sub(r"\\\g<0>", value)
