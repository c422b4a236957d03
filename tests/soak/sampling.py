"""What a node holds, once a second: memory, descriptors, sessions on its servers, and files."""

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

from gateway.demo.server import Server
from tests.chaos import servers
from tests.live.gateways import Gateway

EVERY = 1.0
LONG = 120.0
"""Seconds from which on a quarter of them has several reloads."""
SIZES = 24
"""Of both groups together, by default."""
_ESTABLISHED = "01"
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass
class Series:
    """One quantity over time."""

    name: str
    unit: str
    growth: float
    """By what share of itself it may be larger in the end."""
    slack: float
    """And by how much besides."""
    before: float = 0.0
    """At rest, before the load."""
    after: float = 0.0
    """At rest, behind it."""
    values: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, and the value."""

    def between(self, first: float, last: float) -> float:
        """The median of a part of the time, whose ends are shares of it."""
        end = self.values[-1][0]
        return median(value for at, value in self.values if first * end <= at <= last * end)

    @property
    def growths(self) -> Iterator[tuple[float, float, str]]:
        """What is compared: the first may not be much below the second."""
        yield self.before, self.after, "at rest, before and after"
        # The first quarter is for caches to fill, and for the clients to connect. In a short run a reload at its end,
        # when there are twice the workers, would count as growth.
        if self.values[-1][0] >= LONG:
            yield self.between(0.25, 0.5), self.between(0.75, 1.0), "in the second quarter and in the last"

    @property
    def faults(self) -> Iterator[str]:
        """Where it has grown, a sentence each."""
        for early, late, when in self.growths:
            if late > early * (1 + self.growth) + self.slack:
                yield f"{self.name} grew: {early:.0f}, then {late:.0f} ({when})"


def all_series() -> dict[str, Series]:
    """Those that are sampled, without a value."""
    return {
        "memory": Series("memory of all processes", "MB", 0.20, 16),
        "descriptors": Series("descriptors, but for clients", "", 0.10, SIZES),
        # As many may be kept idle as the groups have.
        "sessions": Series("sessions on the servers", "", 0.10, SIZES),
        "files": Series("files in the runtime directory", "", 0.10, 8),
    }


class Sampling:
    """``with Sampling(node, servers):`` samples in a thread of its own."""

    def __init__(self, node: Gateway, all_servers: Sequence[Server]) -> None:
        self.series = all_series()
        self.began = time.monotonic()
        self._node = node
        self._servers = all_servers
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def look(self) -> dict[str, float]:
        """What is held now, by the name of the series; raises OSError where a process has just ended."""
        processes = [self._node.program.pid, *self._node.workers()]
        return {
            "memory": sum(map(_memory, processes)),
            "descriptors": sum(map(_descriptors, processes)) - self._clients(),
            "sessions": sum(len(servers.sessions(server)) for server in self._servers),
            "files": sum(1 for _ in self._node.runtime.rglob("*")),
        }

    def _run(self) -> None:
        while not self._ended.wait(EVERY):
            with suppress(Exception):  # a server that is down, a process that has just ended: no sample then
                for name, value in self.look().items():
                    self.series[name].values.append((self.now, value))

    def _clients(self) -> int:
        """Connections to the port that it listens on, as the kernel lists them."""
        wanted = f":{self._node.port:04X}"
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return sum(1 for line in lines if line.split()[1].endswith(wanted) and line.split()[3] == _ESTABLISHED)


def _memory(pid: int) -> float:
    """Megabytes; what processes share counts once."""
    match = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    return int(match[1]) / 1024 if match else 0.0


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
