"""From a user's DSN to what libpq is given: verified TLS off loopback, addresses resolved, our session settings."""

import ipaddress
import os
import socket
from collections.abc import Mapping

from psycopg2.extensions import make_dsn, parse_dsn

LOOPBACK_NAMES = frozenset({"", "localhost"})


def complete(dsn: str, *, password: str | None = None, settings: Mapping[str, str] = {}) -> dict[str, str]:
    """Turn a DSN (URI or key=value) into libpq parameters.

    ``settings`` become connect options in front of the DSN's own. A host off loopback without ``sslmode`` is
    verified in full against the system's certificates: a password is never sent to whoever answers.
    Raises psycopg2.ProgrammingError for a DSN that libpq cannot read.
    """
    parameters: dict[str, str] = dict(parse_dsn(dsn))
    if password is not None:
        parameters["password"] = password
    hosts = (parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST") or "").split(",")
    if "sslmode" not in parameters and "PGSSLMODE" not in os.environ and not all(map(is_local, hosts)):
        parameters["sslmode"] = "verify-full"
        if "sslrootcert" not in parameters and "PGSSLROOTCERT" not in os.environ:
            parameters["sslrootcert"] = "system"
    parameters.setdefault("gssencmode", "disable")
    parameters.setdefault("application_name", "pg-query-gateway")
    parameters.setdefault("client_encoding", "UTF8")
    if settings:
        ours = " ".join(f"-c {name}={_escape(value)}" for name, value in settings.items())
        parameters["options"] = f"{ours} {parameters.get('options', '')}".strip()
    return parameters


def resolve(parameters: Mapping[str, str]) -> dict[str, str]:
    """Look host names up here, since libpq would do it where no deadline holds; every address becomes a host.

    Raises OSError (``socket.gaierror``) where no name has an address.
    """
    out = dict(parameters)
    if out.get("hostaddr") or not out.get("host"):
        return out
    names = out["host"].split(",")
    if all(name.startswith("/") or not name for name in names):
        return out
    ports = out.get("port", "5432").split(",")
    if len(ports) == 1:
        ports *= len(names)
    hosts, addresses, numbers = [], [], []
    failure: OSError | None = None
    for name, port in zip(names, ports, strict=True):
        if name.startswith("/"):
            found = [""]
        else:
            try:
                found = list(
                    dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
                )
            except OSError as error:
                failure = error
                continue
        for address in found:
            hosts.append(name)
            addresses.append(address)
            numbers.append(port)
    if not hosts and failure is not None:
        raise failure
    out |= {"host": ",".join(hosts), "hostaddr": ",".join(addresses), "port": ",".join(numbers)}
    return out


def render(parameters: Mapping[str, str]) -> str:
    """Write parameters as libpq's key=value form."""
    return str(make_dsn(**parameters))


def is_local(host: str) -> bool:
    """Tell whether a host is this machine: a unix socket's directory or a loopback name or address."""
    if host in LOOPBACK_NAMES or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _escape(value: str) -> str:
    """Escape a value for ``options``: libpq splits at white space, a backslash protects."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
