"""What one worker counts: every metric of ``GET /metrics`` is declared here, and counted in plain Python objects.

To add a metric, declare it as a ``Family`` in ``FAMILIES``, and feed it in one of three ways:

* from an event, for what happens seldom: an entry in ``COUNTED`` names the family and takes the labels' values from the
  event's fields, and whoever reports the event knows nothing of metrics;
* from a counter or a histogram that the code on a request's way keeps, for what happens with every request:
  ``metrics.counter(CACHE, query, result)`` when the app is built, ``counter.value += 1`` in the request;
  ``metrics.histogram(BATCH_SIZE, query)``, then ``histogram.observe(size)``;
* from a function, for what is a state: ``metrics.gauge(STREAMS, lambda: {("read",): 3.0})``. It is called four times a
  second and for each scrape, must be quick, and returns the values by the labels' values.

SECURITY: a label's value comes from a set that is bounded by the configuration: a name of the catalogue, an endpoint, a
code. Whatever a client makes up is ``unknown``.

``node.metering`` adds the workers up. NOTE: nothing here locks. Between reading and writing ``value`` CPython does
not switch threads, since there is no call and no jump between them; a switch there would cost one count.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from gateway import events
from gateway.events import Event

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
"""Upper bounds of buckets."""


class Kind(StrEnum):
    """What a metric is, and how the values of several workers become one."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    SUM = "the sum of all workers' gauges"
    MAX = "the greatest of all workers' gauges"
    NODE = "the gauge of whichever worker is asked: what it says is the node's"


class Family(NamedTuple):
    """One metric."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = SECONDS
    """Of a histogram."""


REQUESTS = Family(
    "gateway_requests_total", Kind.COUNTER, "Calls of a query that were answered, by HTTP status.", ("query", "status")
)
REQUEST_SECONDS = Family(
    "gateway_request_seconds", Kind.HISTOGRAM, "From a call's arrival until its answer was ready.", ("query",)
)
QUEUE_SECONDS = Family(
    "gateway_queue_seconds", Kind.HISTOGRAM, "For how long a call waited for a connection of the group.", ("group",)
)
ERRORS = Family("gateway_errors_total", Kind.COUNTER, "Requests that ended with a problem, by code.", ("code",))
RETRIES = Family("gateway_retries_total", Kind.COUNTER, "Calls that were run once more, by what failed.", ("reason",))
CANCELLED = Family(
    "gateway_cancelled_total",
    Kind.COUNTER,
    "Calls that were given up while they ran or waited: client, deadline, operator, or server.",
    ("reason",),
)
CONNECTIONS = Family(
    "gateway_connections",
    Kind.SUM,
    "Connections to a server: leased, idle, or connecting.",
    ("group", "endpoint", "state"),
)
CONNECTS = Family(
    "gateway_connects_total",
    Kind.COUNTER,
    "Attempts to open a connection: ok, or why there was none.",
    ("endpoint", "result"),
)
DISCONNECTS = Family(
    "gateway_disconnects_total",
    Kind.COUNTER,
    "Connections that ended: retired (idle, closed by the gateway), cut (closed by the gateway in use), or lost.",
    ("endpoint", "reason"),
)
WAITING = Family("gateway_waiting", Kind.SUM, "Calls that wait for a connection of the group.", ("group",))
OLDEST_WAIT = Family(
    "gateway_oldest_wait_seconds", Kind.MAX, "For how long the first in the queue has waited.", ("group",)
)
BATCH_SIZE = Family(
    "gateway_batch_size", Kind.HISTOGRAM, "Calls that were answered by one statement.", ("query",), bounds=SIZES
)
CACHE = Family(
    "gateway_cache_total",
    Kind.COUNTER,
    "Calls of queries with @cache or @coalesce: hit, stale, miss (it was run), or shared (with one that ran).",
    ("query", "result"),
)
STREAMS = Family("gateway_streams", Kind.SUM, "Answers that are sent while their rows come.", ("group",))
IN_ROTATION = Family(
    "gateway_endpoint_in_rotation", Kind.NODE, "Whether the endpoint may be given work: 1 or 0.", ("endpoint",)
)
PING_SECONDS = Family(
    "gateway_endpoint_ping_seconds", Kind.NODE, "How long the endpoint took to answer the last probe.", ("endpoint",)
)
LAG_SECONDS = Family(
    "gateway_endpoint_lag_seconds", Kind.NODE, "How far a replica is behind its primary.", ("endpoint",)
)
OUTCOMES = Family("gateway_outcomes_total", Kind.COUNTER, "Writes, by what became of them.", ("outcome",))
DEPRECATED = Family(
    "gateway_deprecated_total", Kind.COUNTER, "Calls of deprecated queries, by who made them.", ("query", "caller")
)
AUTHENTICATIONS = Family(
    "gateway_authentications_total", Kind.COUNTER, "Requests by whether it is known who made them.", ("result",)
)
KEY_SET_AGE = Family(
    "gateway_jwks_age_seconds", Kind.NODE, "For how long the keys that tokens are verified by were not fetched anew."
)
KEY_USED = Family(
    "gateway_key_last_used_timestamp_seconds", Kind.MAX, "When an API key, NAME:ID, was last shown.", ("key",)
)
KEY_EXPIRES = Family(
    "gateway_key_expires_timestamp_seconds", Kind.NODE, "When an API key, NAME:ID, expires; of those that do.", ("key",)
)
MEMORY = Family("gateway_worker_memory_bytes", Kind.SUM, "Resident memory of a worker.", ("worker",))
LOOP_LAG = Family(
    "gateway_loop_lag_seconds",
    Kind.SUM,
    "By how much the worker's event loop was late at most, in the last ten seconds.",
    ("worker",),
)
WORKERS = Family("gateway_workers", Kind.SUM, "Workers that are alive.")
CATALOGUE_INFO = Family("gateway_catalogue_info", Kind.NODE, "The catalogue that is served.", ("hash",))
INFO = Family("gateway_info", Kind.NODE, "The gateway's version.", ("version",))

FAMILIES: Final = (
    REQUESTS,
    REQUEST_SECONDS,
    QUEUE_SECONDS,
    ERRORS,
    RETRIES,
    CANCELLED,
    CONNECTIONS,
    CONNECTS,
    DISCONNECTS,
    WAITING,
    OLDEST_WAIT,
    BATCH_SIZE,
    CACHE,
    STREAMS,
    IN_ROTATION,
    PING_SECONDS,
    LAG_SECONDS,
    OUTCOMES,
    DEPRECATED,
    AUTHENTICATIONS,
    KEY_SET_AGE,
    KEY_USED,
    KEY_EXPIRES,
    MEMORY,
    LOOP_LAG,
    WORKERS,
    CATALOGUE_INFO,
    INFO,
)
"""In the order in which they are shown."""
BY_NAME: Final = {family.name: family for family in FAMILIES}

Labels = tuple[str, ...]
"""Values, in the order of the family's labels."""

COUNTED: Final[Mapping[type[Event], tuple[Family, Callable[[Any], Labels]]]] = {
    events.ConnectionOpened: (CONNECTS, lambda event: (event.endpoint, "ok")),
    events.ConnectFailed: (CONNECTS, lambda event: (event.endpoint, event.reason)),
    events.ConnectionClosed: (DISCONNECTS, lambda event: (event.endpoint, event.reason)),
    events.RequestRefused: (ERRORS, lambda event: (event.code,)),
    events.CallRepeated: (RETRIES, lambda event: (event.reason,)),
}
"""Events that are counted one for one."""


class Counter:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def values(self) -> list[float]:
        """Return what is to be kept of it."""
        return [self.value]

    def add(self, values: list[float]) -> None:
        """Go on from what was kept."""
        self.value += values[0]


class Histogram:
    """How many values fell into each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bucket, not added up."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value. PERF: 0.25 µs."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def values(self) -> list[float]:
        """Return what is to be kept of it."""
        return [*self.counts, self.sum]

    def add(self, values: list[float]) -> None:
        """Go on from what was kept, unless it had other buckets."""
        if len(values) == len(self.counts) + 1:
            self.counts = [mine + int(theirs) for mine, theirs in zip(self.counts, values, strict=False)]
            self.sum += values[-1]


Series = dict[str, list[tuple[Labels, list[float]]]]
"""Values by family and labels."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has counted, and its state, at one moment."""

    counts: Series
    gauges: Series


class Metrics:
    """The counters, histograms and gauges of one worker."""

    def __init__(self) -> None:
        self._counts: dict[Family, dict[Labels, Counter | Histogram]] = {}
        self._gauges: list[tuple[Family, Callable[[], Mapping[Labels, float]]]] = []

    def counter(self, family: Family, *labels: str) -> Counter:
        """Return the counter with these labels' values; always the same one."""
        series = self._series(family)
        found = series.get(labels)
        if found is None:
            # NOTE: two threads may come here at once; both get the one that was first.
            found = series.setdefault(labels, Counter())
        if not isinstance(found, Counter):
            raise TypeError(family.name)
        return found

    def histogram(self, family: Family, *labels: str) -> Histogram:
        """Return the histogram with these labels' values; always the same one."""
        series = self._series(family)
        found = series.get(labels)
        if found is None:
            found = series.setdefault(labels, Histogram(family.bounds))
        if not isinstance(found, Histogram):
            raise TypeError(family.name)
        return found

    def gauge(self, family: Family, read: Callable[[], Mapping[Labels, float]]) -> None:
        """Show what ``read`` returns, by labels' values. A family may have several such functions."""
        self._gauges.append((family, read))

    def observe(self, event: Event) -> None:
        """Count an event, if its kind is counted."""
        counted = COUNTED.get(type(event))
        if counted is not None:
            family, labels = counted
            self.counter(family, *labels(event)).value += 1

    def read(self) -> Reading:
        """Return everything as it is now."""
        gauges: Series = {}
        for family, read in self._gauges:
            gauges.setdefault(family.name, []).extend((labels, [value]) for labels, value in read().items())
        counts = {
            family.name: [(labels, count.values()) for labels, count in tuple(series.items())]
            for family, series in tuple(self._counts.items())
        }
        return Reading(counts=counts, gauges=gauges)

    def resume(self, counts: Series) -> None:
        """Go on from what a worker before this one has counted. Families that are no more are left out."""
        for name, series in counts.items():
            family = BY_NAME.get(name)
            if family is not None:
                make = self.histogram if family.kind is Kind.HISTOGRAM else self.counter
                for labels, values in series:
                    make(family, *labels).add(values)

    def _series(self, family: Family) -> dict[Labels, Counter | Histogram]:
        return self._counts.get(family) or self._counts.setdefault(family, {})


Merged = dict[Family, dict[Labels, list[float]]]


def merged(mine: Reading, living: Iterable[Reading], dead: Iterable[Reading]) -> Merged:
    """Add up what the workers of a node have counted; the dead have no state, but what they counted stays."""
    found: Merged = {family: {} for family in FAMILIES}
    others = tuple(living)
    for reading in (mine, *others, *dead):
        _add(found, reading.counts)
    _add(found, mine.gauges)
    for reading in others:
        gauges = {name: series for name, series in reading.gauges.items() if _is_shared(name)}
        _add(found, gauges)
    return found


def _is_shared(name: str) -> bool:
    family = BY_NAME.get(name)
    return family is not None and family.kind is not Kind.NODE


def _add(found: Merged, series: Series) -> None:
    for name, values_by_labels in series.items():
        family = BY_NAME.get(name)
        if family is None:
            continue
        into = found[family]
        for labels, values in values_by_labels:
            before = into.get(labels)
            if before is None or len(before) != len(values):
                into[labels] = list(values)
            elif family.kind is Kind.MAX:
                into[labels] = [max(before[0], values[0])]
            else:
                into[labels] = [one + other for one, other in zip(before, values, strict=True)]
