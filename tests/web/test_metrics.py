"""What is counted is told in Prometheus' text format, with gzip for those who take it."""

import gzip
from collections.abc import Mapping

import falcon
import falcon.testing
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import CATALOGUE_INFO, FAMILIES, QUEUE_SECONDS, REQUESTS, Kind, Metrics, merged
from gateway.web.metrics import AT_ONCE, MetricsResource


class Scrape:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.turns = 0
        app: falcon.App[falcon.Request, falcon.Response] = falcon.App()
        app.add_route("/metrics", MetricsResource(lambda: merged(self.metrics.read(), (), ()), self._turn))
        self._client = falcon.testing.TestClient(app)

    def _turn(self) -> None:
        self.turns += 1

    def get(self, **headers: str) -> falcon.testing.Result:
        return self._client.simulate_get("/metrics", headers=headers)

    def samples(self) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.get().text)
            for sample in family.samples
        }


def test_every_metric_is_told_with_its_type_and_help() -> None:
    text = Scrape().get().text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for declared in FAMILIES:
        shown = families[declared.name.removesuffix("_total")]
        assert shown.documentation == declared.help
        kinds = {Kind.COUNTER: "counter", Kind.HISTOGRAM: "histogram"}
        assert shown.type == kinds.get(declared.kind, "gauge")


def test_counts_and_buckets_are_told() -> None:
    scrape = Scrape()
    scrape.metrics.counter(REQUESTS, 'say "a\\b"', "200").value += 3
    for seconds in (0.0001, 0.3):
        scrape.metrics.histogram(QUEUE_SECONDS, "read").observe(seconds)
    scrape.metrics.gauge(CATALOGUE_INFO, lambda: {("ff",): 1.0})
    samples = scrape.samples()
    assert samples["gateway_requests_total", frozenset({("query", 'say "a\\b"'), ("status", "200")})] == 3
    group = ("group", "read")
    for bound, count in (("0.0005", 1), ("0.25", 1), ("0.5", 2), ("+Inf", 2)):
        assert samples["gateway_queue_seconds_bucket", frozenset({group, ("le", bound)})] == count
    assert samples["gateway_queue_seconds_count", frozenset({group})] == 2
    assert samples["gateway_queue_seconds_sum", frozenset({group})] == pytest.approx(0.3001)
    assert samples["gateway_catalogue_info", frozenset({("hash", "ff")})] == 1


def test_of_many_values_help_and_type_stand_once_and_others_have_their_turn_between_them() -> None:
    scrape = Scrape()
    for number in range(2 * AT_ONCE + 1):
        scrape.metrics.counter(REQUESTS, f"q{number}", "200").value += 1
    text = scrape.get().text
    assert text.count("# TYPE gateway_requests_total") == 1
    assert text.count("gateway_requests_total{") == 2 * AT_ONCE + 1
    assert scrape.turns == len(FAMILIES) + 2


@pytest.mark.parametrize(
    ("accepted", "is_zipped"),
    [
        ("gzip", True),
        ("zstd, gzip;q=0.5", True),
        ("GZIP; q=0.001", True),
        ("gzip;q=1.0", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=much", False),
        ("*", True),
        ("identity", False),
        ("", False),
    ],
)
def test_whoever_takes_gzip_gets_it(accepted: str, is_zipped: bool) -> None:
    scrape = Scrape()
    answer = scrape.get(**{"Accept-Encoding": accepted})
    assert (answer.headers.get("content-encoding") == "gzip") == is_zipped
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    body = gzip.decompress(answer.content) if is_zipped else answer.content
    assert body == scrape.get().content
