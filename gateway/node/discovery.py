"""Follows who the servers are: where that changes, writes it down for the master and has it reload.

One worker of the node asks the sources for all. A source that does not answer, or names nobody, changes nothing. A
server that is new is connected to before it becomes a member, and one that is not named any more stays for some
answers: whether it serves is the rotation's business, which looks at each of them all the time.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

import msgspec

from gateway.events import MembersChanged, MembersNotFound, NodeNotShared, Observer
from gateway.node.election import Election
from gateway.node.files import replace
from gateway.node.sources import PATIENCE, NotFound, members_of
from gateway.node.tasks import Task
from gateway.settings import EndpointSettings, Member, Settings
from gateway.settings.discovering import member_endpoint

FILE = "members"
ABSENT = 6
"""Good answers one after the other that must not name a member before it is one no more."""
TRY_EVERY = 0.25
"""Seconds between two tries at being elected."""
ASKED_AGAIN = 60.0
"""Seconds after which a reload that has not brought the members is asked for again."""

Members = Mapping[str, tuple[Member, ...]]
"""By the name of the endpoint that stands for them."""


class _Known(msgspec.Struct, frozen=True):
    source: str
    """What tells the endpoint from another by its name."""
    members: tuple[Member, ...]


def recall(directory: Path, sources: Mapping[str, EndpointSettings]) -> Members:
    """Return the members that were written down for these endpoints as they are now."""
    try:
        known = msgspec.json.decode((directory / FILE).read_bytes(), type=dict[str, _Known])
    except (OSError, msgspec.MsgspecError):
        return {}
    return {name: known[name].members for name in sources if name in known and known[name].source == str(sources[name])}


class Discovery:
    """The endpoints with ``discover`` of one node, while this process is elected to ask after them."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        *,
        objection: Callable[[EndpointSettings], str | None],
        reload: Callable[[], object],
        is_draining: Callable[[], bool],
        observe: Observer,
        ask: Callable[[EndpointSettings], tuple[Member, ...]] = members_of,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``objection`` connects to a server; why it cannot serve, None if it can. ``reload`` asks the master for one.

        ``is_draining``: whether this worker was told to end, so that what it serves tells nothing of the node.
        ``ask`` returns an endpoint's members as they are now, or raises NotFound.
        """
        self._sources = settings.sources
        self._every = settings.probe.discovery
        self._file = directory / FILE
        self._objection = objection
        self._reload = reload
        self._is_draining = is_draining
        self._observe = observe
        self._ask = ask
        self._clock = clock
        self._served: Members = {name: settings.members.get(name, ()) for name in self._sources}
        self._members: dict[str, tuple[Member, ...]] = dict(self._served)
        self._asked: tuple[Members, float] | None = None
        """The members that the last reload was asked for, and when."""
        self._absent: dict[tuple[str, str], int] = {}
        """How many answers in a row have not named a member, by endpoint and member."""
        self._told: dict[str, str] = {}
        longest = len(self._sources) * 3 * PATIENCE
        self._election = Election(directory, name="discovery", stale_after=self._every + longest, clock=clock)
        self._task = Task("the discovery of servers", self.turn, observe=observe)

    def start(self) -> None:
        """Begin, at once if nobody else does."""
        self._task.start()

    def close(self) -> None:
        """End after the question in progress, and let another worker ask."""
        self._task.close()
        self._election.close()

    def turn(self) -> float:
        """Ask every source, if this process is to."""
        if self._is_draining():
            self._election.close()
        if not self._election.is_elected():
            return TRY_EVERY
        for name, source in self._sources.items():
            self._members[name] = self._now(name, source)
        self._election.stamp()
        if self._members != self._served:
            self._hand_in()
        else:
            self._asked = None
        return self._every

    def _now(self, name: str, source: EndpointSettings) -> tuple[Member, ...]:
        """The members of an endpoint as they are to be served from now on."""
        known = {member.name: member for member in self._members[name]}
        try:
            found = {member.name: member for member in self._ask(source)}
        except NotFound as error:
            self._tell(name, str(error))
            return self._members[name]
        trouble = ""
        for key, member in found.items():
            self._absent.pop((name, key), None)
            if known.get(key) != member:
                if objection := self._objection(member_endpoint(source, member)):
                    trouble = f"{key} is not served yet: {objection}"
                else:
                    known[key] = member
        # An answer of which nobody serves says nothing of the others: it may be of another cluster, or a mistake.
        for key in known.keys() - found.keys() if known.keys() & found.keys() else ():
            self._absent[name, key] = self._absent.get((name, key), 0) + 1
            if self._absent[name, key] >= ABSENT:
                del known[key], self._absent[name, key]
        self._tell(name, trouble)
        return tuple(sorted(known.values(), key=lambda member: member.name))

    def _hand_in(self) -> None:
        """Have the members served; where that was refused, once more later on."""
        members, now = dict(self._members), self._clock()
        if self._asked is not None and self._asked[0] == members and now - self._asked[1] < ASKED_AGAIN:
            return
        known = {name: _Known(str(self._sources[name]), members[name]) for name in members}
        try:
            replace(self._file, msgspec.json.encode(known))
        except OSError as error:
            self._observe(NodeNotShared(what="servers that are new are not served", detail=str(error)))
            return
        self._asked = members, now
        for name in members:
            if members[name] != self._served[name]:
                self._observe(MembersChanged(endpoint=name, members=tuple(each.name for each in members[name])))
        self._reload()

    def _tell(self, name: str, detail: str) -> None:
        """Report what is in the way, once."""
        if detail and detail != self._told.get(name):
            self._observe(MembersNotFound(endpoint=name, detail=detail))
        self._told[name] = detail
