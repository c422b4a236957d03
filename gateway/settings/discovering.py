"""An endpoint that stands for several servers: settings with those servers, its members, in its place."""

from collections.abc import Mapping, Sequence
from itertools import chain

from msgspec.structs import replace

from gateway.settings.dsn import SCHEMES
from gateway.settings.model import EndpointSettings, Member, Settings

DNS = "dns"
"""As ``discover``: every address of the dsn's host is a member. Anything else is a URL of Patroni's REST API."""


def with_members(settings: Settings, members: Mapping[str, Sequence[Member]]) -> Settings:
    """Put members, by the name of the endpoint that stands for them, in its place, in groups too.

    Members that are there already are replaced. An endpoint without any stays, and is served as it is written.
    """
    found = {name: tuple(members[name]) for name in settings.sources if members.get(name)}
    written = {f"{name}-{member.name}": name for name, known in settings.members.items() for member in known}
    endpoints: dict[str, EndpointSettings] = {}
    for name in dict.fromkeys(written.get(name, name) for name in settings.endpoints):
        endpoint = settings.sources.get(name) or settings.endpoints[name]
        places = {f"{name}-{member.name}": member_endpoint(endpoint, member) for member in found.get(name, ())}
        endpoints |= places or {name: endpoint}
    groups = {}
    for label, group in settings.groups.items():
        named = dict.fromkeys(written.get(name, name) for name in group.endpoints)
        names = [[f"{name}-{member.name}" for member in found.get(name, ())] or [name] for name in named]
        groups[label] = replace(group, endpoints=tuple(dict.fromkeys(chain.from_iterable(names))))
    return replace(settings, endpoints=endpoints, groups=groups, members=found)


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
