"""The node's connection cap: never more server connections than the groups' sizes and one probe for each endpoint.

A connection needs a place (``places``), which bounds what a group has on all its endpoints together and is shared
fairly between workers; and it needs to be counted as a session of its server (``sessions``), which it is until that
server has ended it. Both belong to the node, so that the cap holds when workers are killed and during a reload, when
two generations of workers share them.

Probes have one place for each endpoint and are not counted as sessions: somebody must be able to ask a server which
sessions it has. Nothing that a probe asks waits for a lock or cannot be interrupted, so that the time after which its
place is free again (``AFTER_CUT``) is enough unless the whole server stands still.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from gateway.errors import GatewayError
from gateway.events import NodeNotShared, Observer
from gateway.node.counting import C, Count, CountedDriver, Quota
from gateway.node.places import Places
from gateway.node.rows import remove_unused
from gateway.node.sessions import Sessions
from gateway.pool.driver import Driver
from gateway.postgres.backends import Asking, alive

SWEEP_EVERY = 0.5
"""Seconds between two looks for what dead processes have left."""
ASK_EVERY = 0.25
"""Seconds between two questions about sessions that still exist."""
ASK_TIMEOUT = 1.0
KEPT = 3600.0
"""Seconds for which the file of a group or an endpoint is kept that no process has any more: it may come back, and
sessions that are counted there may exist still."""
_PLACES, _SESSIONS = "places", "sessions"
"""What files are about, as their names begin."""


class Lender(Protocol):
    """A group of connections that can do with fewer."""

    def close_idle(self, count: int, *, or_leased: bool) -> None:
        """Close so many idle connections; ``or_leased``: if none is idle, one more when it is returned."""


class Ledger:
    """What the workers of a node count their connections in, as one of them has access to it."""

    def __init__(
        self,
        directory: Path,
        *,
        workers: int,
        is_draining: Callable[[], bool],
        observe: Observer,
        tell: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``directory``: the node's runtime directory; ``is_draining``: whether this process is to end.

        ``tell`` has the other workers call ``tend`` soon.
        """
        self._directory = directory
        self._tell = tell
        self._workers = workers
        self._is_draining = is_draining
        self._observe = observe
        self._clock = clock
        self._sleep = sleep
        self._groups: dict[str, Places] = {}
        self._quotas: defaultdict[str, list[Quota]] = defaultdict(list)
        """Of the groups, by endpoint."""
        self._probes: dict[str, Places] = {}
        self._borrowed: list[tuple[str, Count]] = []
        self._lenders: list[tuple[Places, Lender]] = []
        self._on_due: Callable[[str], None] = lambda _endpoint: None
        self._asked_at: dict[str, float] = {}
        self._swept_at = 0.0
        self._is_closed = False

    def slots(self, size: int) -> int:
        """Return how many connections one worker may have of a group of this size: its share, rounded up."""
        return -(-size // self._workers)

    def for_group(self, name: str, driver: Driver[C], *, size: int, endpoints: Iterable[str]) -> Driver[C]:
        """Return a driver for a group that may have ``size`` connections on this node."""
        try:
            places = self._places(f"group-{name}", size=size, share=size // self._workers)
            quotas = {endpoint: [Quota(places, self._sessions(name, endpoint, size))] for endpoint in endpoints}
        except OSError as error:
            return self._uncounted(f"group {name}", driver, error)
        self._groups[name] = places
        for endpoint, own in quotas.items():
            self._quotas[endpoint] += own
        return CountedDriver(
            driver,
            purpose=f"group {name}",
            quotas=quotas,
            is_draining=self._is_draining,
            clock=self._clock,
            sleep=self._sleep,
        )

    def for_probes(self, driver: Driver[C], endpoints: Mapping[str, str]) -> Driver[C]:
        """Return a driver for one probe of each endpoint; to be called after ``for_group`` for all groups.

        ``endpoints``: names, with what tells one server from another by the same name.

        The worker that probed may be stopped, or dead for less time than its place takes to become free. The one that
        takes over then borrows from a group, and gives that back as soon as the place for the probe is free.
        """
        quotas = {}
        try:
            for name, told in endpoints.items():
                self._probes[name] = own = self._places(f"probe-{name}\n{told}", size=1, share=1)
                quotas[name] = [Quota(own, None), *self._quotas[name]]
        except OSError as error:
            return self._uncounted("probe", driver, error)
        for kind in (_PLACES, _SESSIONS):
            remove_unused(self._directory, f"{kind}-*", after=KEPT)
        return CountedDriver(
            driver,
            purpose="probe",
            quotas=quotas,
            is_draining=self._is_draining,
            on_borrowed=lambda endpoint, count: self._borrowed.append((endpoint, count)),
            clock=self._clock,
            sleep=self._sleep,
        )

    def enlist(self, name: str, lender: Lender) -> None:
        """Let a group give up connections that others need more."""
        if name in self._groups:
            self._lenders.append((self._groups[name], lender))

    def tend(self) -> bool:
        """Give what others need more, and look for what the dead have left. Whether there may be more to do very soon.

        To be called when others tell, some twenty times a second while there is more to do, and now and then anyway.
        """
        if self._is_closed:
            return False
        for places, lender in self._lenders:
            self._give(places, lender)
        self._return_borrowed()
        now = self._clock()
        if now - self._swept_at >= SWEEP_EVERY:
            self._swept_at = now
            for places in (*self._groups.values(), *self._probes.values()):
                places.sweep()
            for sessions in self._all_sessions():
                sessions.sweep()
        are_wanted = [sessions.make_way() for sessions in self._all_sessions()]
        is_closing = [self._tend_closing(endpoint) for endpoint in self._quotas]
        is_wanted = any(places.are_wanted() for places, _ in self._lenders)
        return bool(self._borrowed) or any(are_wanted) or any(is_closing) or is_wanted

    def close(self) -> None:
        """Give up everything as if the process had died: connections that are still open count as closing.

        Connections may be closed later; nothing else is done any more.
        """
        counted = self._all_sessions()
        self._is_closed = True
        for places in (*self._groups.values(), *self._probes.values()):
            places.close()
        for sessions in counted:
            sessions.close()

    # --- sessions that were given up -----------------------------------------------------------------------------

    def closing(self, endpoint: str) -> int:
        """Return how many sessions on an endpoint were given up by the node, and are not known to have ended."""
        return sum(len(sessions.closing()) for sessions in self._sessions_on(endpoint))

    def on_due(self, listener: Callable[[str], None]) -> None:
        """Have ``listener`` called with the name of an endpoint when ``ask`` should be called soon."""
        self._on_due = listener

    def ask(self, endpoint: str, connection: Asking) -> None:
        """Ask a server which of the sessions that were given up have ended. An error is left for the next time."""
        began = self._clock()
        asked = [(sessions, sessions.closing()) for sessions in self._sessions_on(endpoint)]
        if not any(rows for _, rows in asked):
            return
        self._asked_at[endpoint] = began
        backends = [row.backend for _, rows in asked for row in rows.values() if row.backend is not None]
        try:
            # With no session to ask for: whether the server answers at all.
            found = alive(connection, backends, self._clock() + ASK_TIMEOUT)
        except GatewayError:
            return
        for sessions, rows in asked:
            sessions.resolve(rows, found)

    def _tend_closing(self, endpoint: str) -> bool:
        """Have the server asked if a session began to close since it was last asked, or that is some time ago.

        Returns whether any is closing.
        """
        asked_at = self._asked_at.get(endpoint, 0.0)
        closing = [row.at for sessions in self._sessions_on(endpoint) for row in sessions.closing().values()]
        if closing and (max(closing) > asked_at or self._clock() - asked_at >= ASK_EVERY):
            self._on_due(endpoint)
        return bool(closing)

    def _sessions_on(self, endpoint: str) -> list[Sessions]:
        if self._is_closed:
            return []
        return [quota.sessions for quota in self._quotas.get(endpoint, []) if quota.sessions is not None]

    def _all_sessions(self) -> list[Sessions]:
        return [sessions for endpoint in self._quotas for sessions in self._sessions_on(endpoint)]

    # --- between the workers -------------------------------------------------------------------------------------

    def _give(self, places: Places, lender: Lender) -> None:
        mine = places.mine
        if mine == 0 or places.make_way():
            return
        if self._is_draining():
            if places.wants_first() or places.wants_share():
                lender.close_idle(mine, or_leased=False)
        elif places.wants_first() or (mine > places.share and places.wants_share()):
            lender.close_idle(1, or_leased=mine > places.share)

    def _return_borrowed(self) -> None:
        """Give back what probes have borrowed, where their own place has become free."""
        for borrowed in tuple(self._borrowed):
            endpoint, count = borrowed
            own = self._probes[endpoint]
            place = None if count.is_released else own.take(is_draining=self._is_draining())
            if place is not None:
                count.move_to(own, place)
            if place is not None or count.is_released:
                self._borrowed.remove(borrowed)

    # --- files ---------------------------------------------------------------------------------------------------

    def _places(self, purpose: str, *, size: int, share: int) -> Places:
        return Places(self._file(_PLACES, purpose), size=size, share=share, tell=self._tell, clock=self._clock)

    def _sessions(self, group: str, endpoint: str, size: int) -> Sessions:
        return Sessions(self._file(_SESSIONS, f"{group}\n{endpoint}"), size=size, tell=self._tell, clock=self._clock)

    def _file(self, kind: str, purpose: str) -> Path:
        name = hashlib.blake2b(purpose.encode(), digest_size=8).hexdigest()  # names may hold anything
        return self._directory / f"{kind}-{name}"

    def _uncounted(self, purpose: str, driver: Driver[C], error: OSError) -> Driver[C]:
        """Serve without the cap rather than not at all: the runtime directory is gone, or full."""
        what = f"connections of this worker for {purpose} are not counted with the node's"
        self._observe(NodeNotShared(what=what, detail=str(error)))
        return driver
