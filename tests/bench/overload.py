"""Three times as many requests as can be answered: what is still answered, and how soon the rest is told."""

import http.client
import statistics
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.bench.contender import Contender
from tests.bench.failures import BenchError
from tests.bench.gateways import Sizes
from tests.bench.workloads import PATH, SLOW

TIMES = 3
"""So many times the peak is offered."""
_PEAK_CONNECTIONS = 32
_CONNECTIONS = 600
"""So many that each rests long between two requests, however soon it is answered: what is offered is then even."""
_PROBES = 2
_PROBE_REST = 0.01
_PATIENCE = 10.0


def sizes(workers: int) -> Sizes:
    """A small pool and a short queue: with them the database sets the limit, not the processors."""
    return Sizes(workers, pool=16, queue=2 * _PEAK_CONNECTIONS)


class Overload(NamedTuple):
    """One round."""

    peak: float
    """Answers a second, as many as there can be without a refusal."""
    offered: float
    """Requests a second under overload."""
    goodput: float
    """Good answers a second under overload."""
    answered_p50_ms: float
    answered_p99_ms: float
    refused_p50_ms: float
    refused_p99_ms: float
    processor_us: float
    """Of the contender, for each request offered."""

    @property
    def share(self) -> float:
        """Goodput as a part of the peak."""
        return self.goodput / self.peak


class Probes:
    """A few clients more, which time their answers by status while wrk makes the load."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._seconds: dict[int, list[float]] = {}
        self._over = threading.Event()
        self._faults: list[Exception] = []
        self._threads = [threading.Thread(target=self._ask_again_and_again) for _ in range(_PROBES)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def percentiles(self, status: int) -> tuple[float, float]:
        """Median and 99th percentile of answers with this status in milliseconds; zeros if there were none."""
        if self._faults:
            raise BenchError(f"a client was not answered under overload: {self._faults[0]!r}")
        if unexpected := set(self._seconds) - {http.client.OK, http.client.SERVICE_UNAVAILABLE}:
            raise BenchError(f"answers of status {unexpected} under overload")
        times = self._seconds.get(status, [])
        if len(times) < 2:
            return 0.0, 0.0
        cuts = statistics.quantiles(times, n=100, method="inclusive")
        return cuts[49] * 1e3, cuts[98] * 1e3

    def _ask_again_and_again(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE)
        request = SLOW.requests[0]
        try:
            while not self._over.wait(_PROBE_REST):
                began = time.perf_counter()
                connection.request(
                    "POST", PATH.format(request.query), request.body, {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
                response.read()
                self._seconds.setdefault(response.status, []).append(time.perf_counter() - began)
        except (OSError, http.client.HTTPException) as error:
            self._faults.append(error)
        finally:
            connection.close()


def measure(contender: Contender, requests: Path, *, seconds: int) -> Overload:
    """First the peak, then so many times of it."""
    peak, _ = contender.load(requests, connections=_PEAK_CONNECTIONS, seconds=seconds)
    if peak.refused or peak.failures or not peak.requests:
        raise BenchError(f"{contender.name}: {peak.refused} refusals and {peak.failures} failures at the peak")
    peak_rate = peak.requests / peak.seconds
    rest_ms = round(1e3 * _CONNECTIONS / (TIMES * peak_rate))
    with Probes(contender.port) as probes:
        load, used = contender.load(requests, connections=_CONNECTIONS, seconds=seconds, rest_ms=rest_ms)
    if load.failures:
        raise BenchError(f"{contender.name}: {load.failures} requests were not answered under overload")
    return Overload(
        peak_rate,
        load.requests / load.seconds,
        (load.requests - load.refused) / load.seconds,
        *probes.percentiles(http.client.OK),
        *probes.percentiles(http.client.SERVICE_UNAVAILABLE),
        used / load.requests * 1e6,
    )
