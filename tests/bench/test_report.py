import json

from tests.bench.contender import Round
from tests.bench.hostile import Hostile
from tests.bench.overload import Overload
from tests.bench.page import page, throughput
from tests.bench.processes import Memory
from tests.bench.report import report
from tests.bench.results import Results, from_json, ratio


def _results() -> Results:
    slow, fast = Round(1000.0, 2.0, 4.0, 100.0), Round(2500.0, 1.0, 3.0, 40.0)
    return Results(
        "2026-11-23",
        "a machine",
        titles={"gateway": "the gateway", "fastify": "Fastify"},
        rounds={"one-row-16": {"gateway": [fast, fast], "fastify": [slow, slow]}},
        memory={"gateway": Memory(70.4, 30.0)},
        remarks=["go is left out: go is not installed"],
    )


def test_figures_are_compared_with_fastify() -> None:
    line = next(line for line in report(_results()).splitlines() if line.startswith("gateway"))
    assert line.split() == ["gateway", "2,500", "2.50", "1.0", "3.0", "40", "0.40", "0"]


def test_without_fastify_the_first_is_what_others_are_compared_with() -> None:
    results = _results()
    results.rounds["one-row-16"]["go"] = results.rounds["one-row-16"].pop("fastify")
    assert "to gateway" in report(results)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    quiet, busy = Round(1000.0, 1.0, 1.0, 1.0), Round(100.0, 1.0, 1.0, 1.0)
    one = [Round(2000.0, 1.0, 1.0, 1.0), Round(200.0, 1.0, 1.0, 1.0), Round(100.0, 1.0, 1.0, 1.0)]
    assert ratio(one, [quiet, busy, busy]).requests_per_second == 2.0


def test_the_page_has_a_line_for_each_workload_and_a_column_for_each_contender() -> None:
    lines = throughput(_results()).splitlines()
    assert lines[0] == "| requests/s, and relative to fastify | the gateway | Fastify |"
    assert lines[2] == "| one row by key, 16 connections | 2,500 (2.50) | 1,000 |"
    assert "| one row by key, 16 connections | 40 (3.0) | 100 (4.0) |" in page(_results()).splitlines()


def test_the_page_says_when_and_where_it_was_measured_and_who_was_left_out() -> None:
    assert "Measured on 2026-11-23: a machine" in page(_results())
    assert "go is left out: go is not installed" in page(_results())


def test_overload_is_shown_as_a_part_of_the_peak() -> None:
    results = Results(
        "2026-11-23", "a machine", overload={"gateway": [Overload(1000.0, 3000.0, 950.0, 5.0, 9.0, 1.0, 2.0, 50.0)]}
    )
    assert "0.95" in report(results)


def test_hostile_clients_are_shown_by_what_others_wait_longer() -> None:
    rounds = [Hostile(1.0, 5.0, 1.0, 6.0, 50.0, 55.0), Hostile(1.0, 4.0, 1.0, 4.0, 50.0, 55.0)]
    results = Results("2026-11-23", "a machine", hostile={"gateway": rounds})
    assert "1.10" in report(results)
    assert results.as_json()["hostile"]["gateway"][0]["crowded_p99_ms"] == 6.0


def test_every_round_is_in_the_json() -> None:
    read = json.loads(json.dumps(_results().as_json()))
    assert [one["requests_per_second"] for one in read["rounds"]["one-row-16"]["gateway"]] == [2500.0, 2500.0]
    assert from_json(read) == _results()
    assert read["memory"]["gateway"] == {"whole": 70.4, "worker": 30.0}
