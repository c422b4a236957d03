"""``GET /metrics``: what the node has counted, in Prometheus' text format."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import falcon
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.catalogue.query import Catalogue
from gateway.metrics import (
    CATALOGUE_INFO,
    CONNECTIONS,
    IN_ROTATION,
    INFO,
    LAG_SECONDS,
    OLDEST_WAIT,
    PING_SECONDS,
    WAITING,
    Family,
    Kind,
    Labels,
    Merged,
    Metrics,
)
from gateway.pool.pool import Pool
from gateway.web.accepting import takes_gzip
from gateway.web.health import membership

COMPRESSION = 4
"""Of gzip: a tenth of the size, in a third of the time of its default."""
_GZIP: Final = 31
"""``wbits`` of zlib for gzip's header and trailer."""
AT_ONCE = 50
"""Values that are written before others have their turn: 3 ms for histograms."""
_INFO: Final = "_info"

Values = Sequence[tuple[Labels, list[float]]]


class MetricsResource:
    """Answers scrapes; whichever worker is asked answers for the node."""

    def __init__(self, merged: Callable[[], Merged], turns: Callable[[], None]) -> None:
        """``merged``: what all workers have counted; ``turns`` is called between parts of long work."""
        self._merged = merged
        self._turns = turns

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Tell every metric, compressed with gzip for those who take it."""
        response.content_type = CONTENT_TYPE_PLAIN_0_0_4
        response.set_header("Cache-Control", "no-store")
        response.set_header("Vary", "Accept-Encoding")
        pieces = self._pieces()
        if takes_gzip(request.get_header("Accept-Encoding")):
            response.set_header("Content-Encoding", "gzip")
            pieces = _compressed(pieces)
        response.data = b"".join(pieces)

    on_head = on_get

    def _pieces(self) -> Iterator[bytes]:
        for family, values in self._merged().items():
            ordered = sorted(values.items())
            for start in range(0, max(1, len(ordered)), AT_ONCE):
                text = generate_latest(_One(_exposed(family, ordered[start : start + AT_ONCE])))
                yield text.split(b"\n", 2)[2] if start else text  # HELP and TYPE stand once
                self._turns()


class _One(Collector):
    """One metric, for prometheus_client to write."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def add_states(metrics: Metrics, *, pool: Pool[Any], catalogue: Catalogue) -> None:
    """Have a worker's metrics show its connections and queues, and what is known of the endpoints."""
    views = pool.rotation.views
    metrics.gauge(CONNECTIONS, pool.connections)
    metrics.gauge(WAITING, lambda: {(name,): float(stats.waiting) for name, stats in pool.stats().items()})
    metrics.gauge(OLDEST_WAIT, lambda: {(name,): stats.max_wait for name, stats in pool.stats().items()})
    metrics.gauge(IN_ROTATION, lambda: {(view.name,): float(membership(view, pool).in_rotation) for view in views()})
    metrics.gauge(
        PING_SECONDS, lambda: {(view.name,): view.ping_ms / 1000 for view in views() if view.ping_ms is not None}
    )
    metrics.gauge(
        LAG_SECONDS, lambda: {(view.name,): view.lag_ms / 1000 for view in views() if view.lag_ms is not None}
    )
    metrics.gauge(CATALOGUE_INFO, lambda: {(catalogue.hash,): 1.0})
    metrics.gauge(INFO, lambda: {(__version__,): 1.0})


def _exposed(family: Family, ordered: Values) -> Metric:
    if family.kind is Kind.COUNTER:
        counter = CounterMetricFamily(family.name, family.help, labels=family.labels)
        for labels, (value,) in ordered:
            counter.add_metric(labels, value)
        return counter
    if family.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, counted in ordered:
            histogram.add_metric(labels, _buckets(family, counted), counted[-1])
        return histogram
    if family.name.endswith(_INFO):
        info = InfoMetricFamily(family.name.removesuffix(_INFO), family.help)
        for labels, _ in ordered:
            info.add_metric([], dict(zip(family.labels, labels, strict=True)))
        return info
    gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, (value,) in ordered:
        gauge.add_metric(labels, value)
    return gauge


def _buckets(family: Family, counted: list[float]) -> list[tuple[str, float]]:
    """Return the buckets with their upper bounds, each with what is in those below it."""
    total = 0.0
    buckets = []
    for bound, count in zip([*map(repr, family.bounds), "+Inf"], counted, strict=False):
        total += count
        buckets.append((bound, total))
    return buckets


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(COMPRESSION, wbits=_GZIP)
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()
