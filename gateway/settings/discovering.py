"""An endpoint that stands for several servers: settings with those servers, its members, in its place."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from gateway.settings.dsn import SCHEMES
from gateway.settings.model import EndpointSettings, Member, Settings

DNS = "dns"
"""As ``discover``: every address of the dsn's host is a member. Anything else is a URL of Patroni's REST API."""


def with_members(settings: Settings, members: Mapping[str, Sequence[Member]]) -> Settings:
    """Put members, by the name of the endpoint that stands for them, in its place, in groups too.

    An endpoint without any stays, and is served as it is written.
    """
    endpoints = dict(_endpoints(settings, members))
    standing_for = {
        name: tuple(f"{name}-{each.name}" for each in members[name]) for name in settings.sources if members.get(name)
    }
    groups = {
        name: replace(group, endpoints=tuple(dict.fromkeys(_expanded(group.endpoints, standing_for))))
        for name, group in settings.groups.items()
    }
    known = {name: tuple(members[name]) for name in standing_for}
    return replace(settings, endpoints=endpoints, groups=groups, members=known)


def member_endpoint(source: EndpointSettings, member: Member) -> EndpointSettings:
    """Return the endpoint of a member: as its source, but for where it is."""
    given = {"host": member.host, "hostaddr": member.address, "port": str(member.port or "")}
    pairs = [f"{key}={value}" for key, value in given.items() if value]
    # What is given later in a DSN takes the place of what was given before, in both of its forms.
    if source.dsn.startswith(SCHEMES):
        dsn = f"{source.dsn}{'&' if '?' in source.dsn else '?'}{'&'.join(pairs)}"
    else:
        dsn = " ".join((source.dsn, *pairs))
    return replace(source, dsn=dsn, discover=())


def _endpoints(settings: Settings, members: Mapping[str, Sequence[Member]]) -> Iterator[tuple[str, EndpointSettings]]:
    for name, endpoint in settings.endpoints.items():
        if name not in settings.sources or not members.get(name):
            yield name, endpoint
            continue
        for member in members[name]:
            yield f"{name}-{member.name}", member_endpoint(endpoint, member)


def _expanded(endpoints: Sequence[str], standing_for: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for name in endpoints:
        yield from standing_for.get(name, (name,))
