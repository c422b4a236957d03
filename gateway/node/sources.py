"""Asks who the servers are that an endpoint with ``discover`` stands for: the DNS, or Patroni's REST API."""

import re
from collections.abc import Iterable, Iterator
from time import monotonic

import msgspec

from gateway.node.fetching import FetchFailed, fetch
from gateway.postgres.dsn import looked_up
from gateway.postgres.resolving import Resolver
from gateway.postgres.waiting import DeadlinePassed
from gateway.settings import EndpointSettings, Member
from gateway.settings.discovering import DNS

PATIENCE = 3.0
"""Seconds for one answer."""
LARGEST = 1 << 20
"""Bytes of an answer."""
MOST = 64
"""Members of one endpoint: behind more is no cluster."""
LONGEST = 40
"""Characters of a member's name."""

_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_UNFIT = re.compile(r"[^A-Za-z0-9_]")


class NotFound(Exception):
    """There was no answer, or none that can be used; the message says why."""


class _PatroniMember(msgspec.Struct):
    """What ``GET /cluster`` says of a member; where it listens is missing until it has started once."""

    name: str
    host: str | None = None
    port: int | str | None = None


class _PatroniCluster(msgspec.Struct):
    members: list[_PatroniMember]


def members_of(source: EndpointSettings) -> tuple[Member, ...]:
    """Return the members as they are now, by name; at least one. Raises NotFound."""
    found = _by_dns(source) if source.discover == (DNS,) else _by_patroni(source.discover)
    if not found:
        raise NotFound("the answer names no server")
    if len(found) > MOST:
        raise NotFound(f"the answer names {len(found)} servers, and more than {MOST} are no cluster")
    if len({member.name for member in found}) < len(found):
        raise NotFound("the answer names two servers alike")
    return tuple(sorted(found, key=lambda member: member.name))


def _by_dns(source: EndpointSettings) -> list[Member]:
    (host,) = looked_up(source.dsn)
    try:
        # A new one each time: it remembers what was found, and an answer that is old is none here.
        addresses = Resolver().addresses(host, monotonic() + PATIENCE)
    except OSError as error:
        raise NotFound(f"{host} cannot be looked up: {error.strerror or error}") from None
    except DeadlinePassed:
        raise NotFound(f"{host} cannot be looked up: no answer within {PATIENCE:g} s") from None
    return [Member(_name(address), address=address) for address in addresses if _HOST.fullmatch(address)]


def _by_patroni(urls: Iterable[str]) -> list[Member]:
    """Ask one member after the other; any of them knows all."""
    failures = []
    for url in urls:
        try:
            answer = fetch(f"{url.rstrip('/')}/cluster", seconds=PATIENCE, most=LARGEST)
            cluster = msgspec.json.decode(answer, type=_PatroniCluster)
        except FetchFailed as error:
            failures.append(f"{url}: {error}")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            failures.append(f"{url}: the answer is not that of Patroni's GET /cluster")
        else:
            return list(_listening(cluster))
    raise NotFound("; ".join(failures))


def _listening(cluster: _PatroniCluster) -> Iterator[Member]:
    for each in cluster.members:
        # SECURITY: what is not a host or a port by its form would be read as more of the dsn.
        if each.host and _HOST.fullmatch(each.host) and str(each.port).isdecimal() and 0 < int(str(each.port)) < 65536:
            yield Member(_name(each.name), host=each.host, port=int(str(each.port)))


def _name(text: str) -> str:
    return _UNFIT.sub("-", text)[:LONGEST]
