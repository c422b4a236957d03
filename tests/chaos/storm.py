"""Everything that can happen to a primary, again and again, with promotions that lose nothing that was answered.

``synchronous_standby_names`` is ``ANY 1 (*)``: a COMMIT is answered when a replica has it, and the replica that has
received most is promoted, so it has all that was answered. What a dead primary had beyond that is read from it
afterwards, when it is started once more by itself.
"""

import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from os import kill
from typing import Any

from gateway.demo.cluster import Cluster
from gateway.demo.server import Server, Stop
from gateway.postgres.idempotency import DDL
from tests.chaos import servers
from tests.chaos.ledger import Run, runs_on
from tests.chaos.proxy import COMMIT, Cut, Mode, Proxy, When
from tests.chaos.rig import FOLDER, QUERIES, Node, Stage

STATEMENT = re.compile(rb"EXECUTE gw_")
_TABLES = FOLDER / "ledgers" / "tables.sql"
_SETTINGS: dict[str, dict[str, Any]] = {
    "catalogue": {"paths": [str(QUERIES), str(FOLDER / "ledgers" / "queries")]},
    "groups.read": {"access": "read"},
    "groups.write": {"access": "write", "size": 32},
}
_WAY = 0.01
"""Seconds that answers of servers take on their way during a storm: so that a fault meets many writes."""
_FAR = 0.2
"""The same at times, in which short deadlines pass between a COMMIT and its answer."""
_MANY = 8
"""COMMITs."""
_LONG = 6000
_RECEIVED = "(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::int8"


@contextmanager
def ledgers(stage: Stage, cluster: Cluster) -> Iterator[Node]:
    """A gateway over new, empty tables of the audit, with a proxy in front of every server."""
    servers.ask(cluster.primary, DDL)
    cluster.primary.run_file(_TABLES, servers.DATABASE)
    cluster.wait_until_caught_up()
    everybody = [server.name for server in cluster.servers]
    with stage.serve(cluster, proxied=everybody, settings=_SETTINGS) as node:
        yield node
        found = node.gateway.log.find("Traceback")
        if found >= 0:
            stage.remark(node.gateway.log[found : found + _LONG])


class Storm:
    """Faults on whoever is primary; counts them."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self._node = node
        self.primary = cluster.primary
        self.replicas = list(cluster.replicas)
        self.dead: list[Server] = []
        """Primaries that were killed for good."""
        self.counts: Counter[str] = Counter()
        for proxy in node.proxies.values():
            proxy.delay(_WAY)

    def replicate_synchronously(self) -> None:
        """From now on every answered COMMIT is on a replica. Nothing undoes it: the cluster is to be spoilt."""
        for server in (self.primary, *self.replicas):
            servers.ask(server, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'")
            servers.ask(server, "SELECT pg_reload_conf()")
        servers.wait_for(self.primary, "EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'quorum')")

    def cut(self, pause: float) -> None:
        """Cut lines before and behind COMMITs and statements, and in the middle of answers."""
        for pattern in (COMMIT, STATEMENT):
            for when in When:
                cut = Cut(pattern, when, times=3)
                self._proxy.cut(cut)
                time.sleep(pause)
                self.counts[f"cut {when.name.lower()}"] += cut.made
        self._proxy.cut(None)
        self._proxy.cut_after(200)
        time.sleep(pause)
        self._proxy.cut_after(None)
        self.counts["cut in answers"] += 1
        time.sleep(pause)

    def slow_down(self, seconds: float) -> None:
        """The network is so slow for a while that short deadlines pass."""
        self.counts["network slow"] += 1
        self._proxy.delay(_FAR)
        time.sleep(seconds)
        self._proxy.delay(_WAY)

    def hold_back(self, seconds: float) -> None:
        """COMMITs lose their answers, and the network forwards nothing while they are asked about or tried again."""
        cut = Cut(COMMIT, When.AFTER, times=16)
        self._proxy.delay(_FAR / 4)
        self._proxy.cut(cut)
        give_up = time.monotonic() + seconds
        while cut.made < _MANY and time.monotonic() < give_up:
            time.sleep(0.001)
        time.sleep(_FAR / 8)  # those that were cut first are under way again
        self.counts["network stood still"] += 1
        with self._proxy.being(Mode.STOP):
            time.sleep(seconds)
        self._proxy.cut(None)
        self._proxy.delay(_WAY)
        self.counts["cut after"] += cut.made

    def terminate(self) -> None:
        """End all sessions of the gateway."""
        self.counts["backends terminated"] += servers.terminate_backends([self.primary])

    def kill_backend(self) -> None:
        """SIGKILL one session: the server ends all others and recovers as from a crash."""
        pid = next(iter(servers.sessions(self.primary)), None)
        if pid is not None:
            self.counts["backends SIGKILLed"] += 1
            kill(pid, signal.SIGKILL)
            servers.wait_for(self.primary, "true")

    def kill_worker(self, how: signal.Signals) -> None:
        """End one of its workers."""
        self.counts[f"workers {how.name}ed"] += 1
        kill(self._node.gateway.workers()[0], how)

    def restart(self, how: Stop | None) -> None:
        """The primary crashes or stops, and starts again."""
        self.counts["primary crashed" if how is None else "primary restarted"] += 1
        self.primary.kill() if how is None else self.primary.stop(how)
        self.primary.start()

    def promote(self) -> None:
        """The primary dies for good, and the replica that has received most takes its place."""
        self.counts["primary killed, replica promoted"] += 1
        self.primary.kill()
        for server in self.replicas:
            servers.wait_for(server, "NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')")
        self.dead.append(self.primary)
        self.primary = max(self.replicas, key=_received)
        self.replicas.remove(self.primary)
        self.primary.promote()
        for server in self.replicas:
            servers.follow(server, self.primary)

    def left_behind(self, table: str, part: str) -> dict[int, list[Run]]:
        """The runs that dead primaries have; they are started for it, so no gateway may run any more."""
        found: dict[int, list[Run]] = {}
        for server in self.dead:
            server.start()
            found.update(runs_on(server, table, part))
        return found

    @property
    def _proxy(self) -> Proxy:
        return self._node.proxies[self.primary.name]


def rage(storm: Storm, rounds: int, promotions: int, pause: float) -> None:
    """So many rounds of every fault, with promotions at the end of the last ones.

    A single round with a promotion has no crash before it, so that each of both is seen by itself.
    """
    for number in range(rounds):
        time.sleep(pause)
        storm.slow_down(4 * pause)
        time.sleep(pause)
        storm.cut(pause / 2)
        storm.hold_back(0.6)
        time.sleep(2 * pause)
        storm.terminate()
        time.sleep(pause)
        storm.kill_worker(signal.SIGTERM if number % 2 else signal.SIGKILL)
        time.sleep(pause)
        if number % 2:
            storm.kill_backend()
            time.sleep(2 * pause)
        storm.restart(Stop.FAST if number % 2 or rounds == promotions else None)
        time.sleep(2 * pause)
        if number >= rounds - promotions:
            storm.promote()
            time.sleep(4 * pause)


def _received(server: Server) -> int:
    ((position,),) = servers.ask(server, f"SELECT {_RECEIVED}")
    return int(str(position))
