"""What a node holds, once a second: memory, descriptors, connections to its servers, and files."""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

from tests.live.gateways import Gateway

EVERY = 1.0
LOOKS = 5
"""At rest: the least of so many counts, as a file may be open for the moment in which it is written."""
_LISTENS = "0A"
_ANONYMOUS = re.compile(r"^Anonymous:\s+(\d+) kB", re.MULTILINE)
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_OF_WORKERS = re.compile(r"(metrics|events)-\d+|(worker|news|answer)-\d+-\d+|.*\.draft")
"""Files of which there are as many as there were workers at once, and those of the moment."""


@dataclass
class Series:
    """One quantity over time."""

    name: str
    unit: str = ""
    more_at_rest: float = 0.0
    """By how much it may be larger at rest than it was at the first rest."""
    growth: float | None = None
    """By what share it may grow from the third quarter to the last of the time in which the same workers serve."""
    most: float | None = None
    """What it never exceeds."""
    values: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, and the value."""
    rests: list[float] = field(default_factory=list)
    """The value at each rest."""

    def between(self, began: float, ended: float) -> float:
        """The median of what was sampled between two points in time."""
        return median([value for at, value in self.values if began <= at <= ended] or [0.0])

    def faults(self, began: float, ended: float) -> Iterator[str]:
        """Where it has grown, a sentence each; the same workers have served between these two points in time."""
        first, *later = self.rests
        if max(later) > first + self.more_at_rest:
            yield f"{self.name} grew: {first:.1f} at the first rest, then {', '.join(f'{each:.1f}' for each in later)}"
        if self.growth is not None:
            third, last = self.quarters(began, ended)
            if last > third * (1 + self.growth):
                yield f"{self.name} grew while the same workers served: {third:.1f}, then {last:.1f}"
        if self.most is not None and (greatest := max(value for _, value in self.values)) > self.most:
            yield f"{self.name}: {greatest:.0f}, where {self.most:.0f} are the most"

    def quarters(self, began: float, ended: float) -> tuple[float, float]:
        """What it was in the third quarter of this time, and in the last."""
        quarter = (ended - began) / 4
        return self.between(ended - 2 * quarter, ended - quarter), self.between(ended - quarter, ended)


def all_series(most_connections: int) -> dict[str, Series]:
    """Those that are sampled, without a value."""
    return {
        # Python rarely gives memory back: a queue of hundreds of requests shows at the next rest.
        "memory": Series("memory of all processes", "MB", more_at_rest=15, growth=0.04),
        "master": Series("memory of the master alone", "MB", more_at_rest=1),
        "descriptors": Series("descriptors, but for connections"),
        # At rest a pool keeps what it has opened: how many these are is chance.
        "connections": Series("connections to the servers", more_at_rest=most_connections, most=most_connections),
        "files": Series("files in the runtime directory, but for those of each worker"),
    }


class Sampling:
    """``with Sampling(node, ports, …):`` samples in a thread of its own; ``ports``: those of the servers."""

    def __init__(self, node: Gateway, ports: frozenset[int], *, most_connections: int) -> None:
        self.series = all_series(most_connections)
        self.began = time.monotonic()
        self.most_workers = 0
        """That were there at once."""
        self._node = node
        self._ports = ports
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

    def rest(self) -> None:
        """Note what is held now, when nobody asks anything."""
        looks = []
        for _ in range(LOOKS):
            looks.append(self._look())
            time.sleep(EVERY / LOOKS)
        for name, series in self.series.items():
            series.rests.append(min(look[name] for look in looks))

    def descriptors(self) -> Counter[str]:
        """Open descriptors of all processes, by what they are."""
        return sum((_kinds(pid, self._node.port, self._ports) for pid in self._processes()), Counter[str]())

    def slots(self) -> int:
        """For how many workers at once there are files of counts."""
        return sum(1 for _ in self._node.runtime.glob("metrics-*[0-9]"))

    def _processes(self) -> list[int]:
        return [self._node.program.pid, *self._node.workers()]

    def _look(self) -> Mapping[str, float]:
        """What is held now, by the name of the series; raises OSError where a process has just ended."""
        processes = self._processes()
        self.most_workers = max(self.most_workers, len(processes) - 1)
        kinds = self.descriptors()
        own = kinds.total() - kinds["connection to a server"] - kinds["connection of a client"]
        return {
            "memory": sum(_memory(pid, _PSS) for pid in processes),
            "master": _memory(processes[0], _ANONYMOUS),
            "descriptors": own,
            # Counted at one moment, as one may be closed in a process and opened in another between two.
            "connections": list(_sockets(self._node.port, self._ports).values()).count("connection to a server"),
            "files": sum(1 for path in self._node.runtime.iterdir() if not _OF_WORKERS.fullmatch(path.name)),
        }

    def _run(self) -> None:
        while not self._ended.wait(EVERY):
            with suppress(OSError):  # of a process that has just ended: no sample then
                for name, value in self._look().items():
                    self.series[name].values.append((self.now, value))


def _memory(pid: int, kind: re.Pattern[str]) -> float:
    """Megabytes."""
    match = kind.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    return int(match[1]) / 1024 if match else 0.0


def _kinds(pid: int, listening: int, servers: frozenset[int]) -> Counter[str]:
    """What the descriptors of a process are; connections that nobody reads any more are some, too."""
    found = Counter[str]()
    kind_of = _sockets(listening, servers).get
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            target = str(descriptor.readlink())
            found[kind_of(target) or re.sub(r"[0-9a-f]{6,}|\d+", "*", target.rpartition("/")[2])] += 1
    return found


def _sockets(listening: int, servers: frozenset[int]) -> dict[str, str]:
    """Of each connection that a process has, by the link of its descriptor: which kind it is."""
    kinds = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        here, there = (int(address.rpartition(":")[2], 16) for address in words[1:3])
        if words[9] == "0" or words[3] == _LISTENS:  # nobody's any more, or the listener
            continue
        if there in servers:
            kinds[f"socket:[{words[9]}]"] = "connection to a server"
        elif here == listening:
            kinds[f"socket:[{words[9]}]"] = "connection of a client"
    return kinds
