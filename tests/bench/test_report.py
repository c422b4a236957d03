import json

from tests.bench.contender import Round
from tests.bench.hostile import Hostile
from tests.bench.overload import Overload
from tests.bench.processes import Memory
from tests.bench.report import report
from tests.bench.results import Results, ratio


def _results() -> Results:
    slow, fast = Round(1000.0, 2.0, 4.0, 100.0), Round(2500.0, 1.0, 3.0, 40.0)
    return Results(
        "a machine",
        titles={"gateway": "the gateway", "fastify": "Fastify"},
        rounds={"one-row-16": {"gateway": [fast, fast], "fastify": [slow, slow]}},
        memory={"gateway": Memory(70.4, 30.0)},
        remarks=["go is left out: go is not installed"],
    )


def test_figures_are_compared_with_fastify() -> None:
    line = next(line for line in report(_results(), markdown=False).splitlines() if line.startswith("gateway"))
    assert line.split() == ["gateway", "2,500", "2.50", "1.0", "3.0", "40", "0.40"]


def test_without_fastify_the_first_is_what_others_are_compared_with() -> None:
    results = _results()
    results.rounds["one-row-16"]["go"] = results.rounds["one-row-16"].pop("fastify")
    assert "to gateway" in report(results, markdown=False)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    quiet, busy = Round(1000.0, 1.0, 1.0, 1.0), Round(100.0, 1.0, 1.0, 1.0)
    one = [Round(2000.0, 1.0, 1.0, 1.0), Round(200.0, 1.0, 1.0, 1.0), Round(100.0, 1.0, 1.0, 1.0)]
    assert ratio(one, [quiet, busy, busy]).requests_per_second == 2.0


def test_markdown_is_made_of_tables_and_says_who_was_left_out() -> None:
    text = report(_results(), markdown=True)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table[:4]}) == 1
    assert "go is left out: go is not installed" in text


def test_overload_is_shown_as_a_part_of_the_peak() -> None:
    results = Results("a machine", overload={"gateway": [Overload(1000.0, 3000.0, 950.0, 5.0, 9.0, 1.0, 2.0, 50.0)]})
    assert "0.95" in report(results, markdown=False)


def test_hostile_clients_are_shown_by_what_others_wait_longer() -> None:
    rounds = [Hostile(1.0, 5.0, 1.0, 6.0, 50.0, 55.0), Hostile(1.0, 4.0, 1.0, 4.0, 50.0, 55.0)]
    results = Results("a machine", hostile={"gateway": rounds})
    assert "1.10" in report(results, markdown=False)
    assert results.as_json()["hostile"]["gateway"][0]["crowded_p99_ms"] == 6.0


def test_every_round_is_in_the_json() -> None:
    read = json.loads(json.dumps(_results().as_json()))
    assert [one["requests_per_second"] for one in read["rounds"]["one-row-16"]["gateway"]] == [2500.0, 2500.0]
    assert read["memory"]["gateway"] == {"whole": 70.4, "worker": 30.0}
