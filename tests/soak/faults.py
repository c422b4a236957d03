"""What is done to a node and its servers while it is soaked; they survive all of it."""

import random
import re
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from os import kill
from pathlib import Path

from gateway.demo.cluster import Cluster
from tests.chaos import servers
from tests.chaos.proxy import Mode
from tests.chaos.rig import Node
from tests.chaos.scenarios.reloading import reload

REST = (1.0, 4.0)
"""Seconds between two faults, at least and at most."""


class Faults:
    """The faults of one run: the same each time it has the same seed."""

    def __init__(self, cluster: Cluster, node: Node, queries: Path, seed: int) -> None:
        """``queries``: a folder that the node's catalogue names, for queries that change with each reload."""
        self._cluster = cluster
        self._node = node
        self._queries = queries
        self._file = node.gateway.folder / "gateway.toml"
        self._settings = self._file.read_text()
        self._random = random.Random(seed)  # noqa: S311 -- the same faults each time
        self._count = 0
        self.outside: Mapping[str, Callable[[], object]] = {
            "server: sessions ended": lambda: servers.terminate_backends(cluster.servers),
            "server: replica killed": self._kill_replica,
            "server: replica frozen": self._freeze_replica,
            "network: stands still": lambda: self._break(Mode.STOP),
            "network: resets": lambda: self._break(Mode.RESET),
        }
        """Faults that every worker lives through."""
        self.all: Mapping[str, Callable[[], object]] = {
            **self.outside,
            "reload: SIGHUP": lambda: kill(node.gateway.program.pid, signal.SIGHUP),
            "reload: other settings": lambda: self.reload(is_other=True),
            "reload: the first settings": self.reload,
            "worker: SIGKILL": lambda: self._signal_worker(signal.SIGKILL),
            "worker: SIGTERM": lambda: self._signal_worker(signal.SIGTERM),
        }

    def pause(self) -> None:
        """Wait until the next one."""
        time.sleep(self._random.uniform(*REST))

    def strike(self, some: Mapping[str, Callable[[], object]]) -> str:
        """Do one of these; its name."""
        name = self._random.choice(list(some))
        some[name]()
        return name

    def reload(self, *, is_other: bool = False) -> bool:
        """Have it serve other queries than before; ``is_other``: without the last replica, too. Whether it did."""
        self._count += 1
        (self._queries / "changing.sql").write_text(f"-- name: changing$\nSELECT {self._count};\n")
        self._file.write_text(_without(self._settings, self._cluster.replicas[-1].name) if is_other else self._settings)
        return reload(self._file).returncode == 0

    def _signal_worker(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, IndexError):  # one that was about to end
            kill(self._random.choice(self._node.gateway.workers()), number)

    def _kill_replica(self) -> None:
        replica = self._random.choice(self._cluster.replicas)
        replica.kill()
        self.pause()
        replica.start()

    def _freeze_replica(self) -> None:
        replica = self._random.choice(self._cluster.replicas)
        replica.freeze()
        self.pause()
        replica.thaw()

    def _break(self, mode: Mode) -> None:
        with self._random.choice(list(self._node.proxies.values())).being(mode):
            time.sleep(0.5)


def _without(settings: str, endpoint: str) -> str:
    """Remove the section of an endpoint."""
    changed = re.sub(rf"^\[endpoints\.{re.escape(endpoint)}\]\n(?:[^\[\n].*\n)*", "", settings, flags=re.MULTILINE)
    assert changed != settings, endpoint
    return changed
