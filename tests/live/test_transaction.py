"""One transaction on one connection: what is sent, and what comes back."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg2.extensions
import pytest

from gateway import errors
from gateway.demo.cluster import Cluster
from gateway.errors import Outcome
from gateway.postgres import transaction
from gateway.postgres.single import Result
from gateway.postgres.work import Done, Unresolved, Work
from tests.live.cutting import Cut, wire_to
from tests.live.databases import Desk, connect, soon
from tests.live.sessions import (
    logged,
    meanwhile,
    pid_of,
    small_database,
    wait_until,
)
from tests.live.works import Bench, encode, inserts, returning, waits_for_a_lock


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with small_database(cluster, "live_transaction") as dsn:
        yield dsn


@pytest.mark.parametrize("piled", [True, False])
@pytest.mark.parametrize("tracked", [True, False])
def test_results_come_in_order(piled: bool, tracked: bool, bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    assert bench.run(*inserts(3, 1, 2), piled=piled, tracked=tracked) == "1|1|1"
    rows = bench.run(*returning(6, 5, 4), piled=piled, tracked=tracked)
    assert rows == "|".join(f'{{"id":{number},"word":"w"}}' for number in (6, 5, 4))
    assert logged(oracle) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_any_number_of_steps_fits(count: int, bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    assert bench.run(*inserts(*range(count)), piled=True, tracked=True) == "|".join(["1"] * count)
    assert logged(oracle) == list(range(count))


@pytest.mark.parametrize("value", ["", "nonsense", "\\u001e"])
def test_a_query_that_writes_where_results_pile_up_is_refused_and_rolled_back(value: str, bench: Bench) -> None:
    text = "-- name: q$\n-- @access write\nSELECT set_config('gateway.acc', :value, true)"
    error = bench.fail(*[(text, f'{{"value": "{value}"}}')] * 2, piled=True)
    assert isinstance(error, errors.QueryBroken)
    assert error.outcome is Outcome.ROLLED_BACK
    assert "gateway.acc" in error.detail


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-- name: q\nSELECT i FROM generate_series(1, :n) i", '{"i":1}|{"i":1},{"i":2}|0'),
        ("-- name: q^\nSELECT i FROM generate_series(1, :n) i", '{"i":1}|{"i":1}|0'),
        ("-- name: q$\nSELECT i FROM generate_series(1, :n) i", "1|1|0"),
        (
            "-- name: q$\n-- @param n int\nSELECT repeat(E'\"\\\\\\n\\t', :n)",
            '"\\"\\\\\\n\\t"|"\\"\\\\\\n\\t\\"\\\\\\n\\t"|""',
        ),
        ("-- name: q\nSELECT i AS t, '{\n}'::json AS _gw FROM generate_series(1, :n) i ORDER BY i DESC", None),
    ],
)
def test_results_that_pile_up_are_those_of_one_message_a_step(text: str, expected: str | None, bench: Bench) -> None:
    steps = [(text, f'{{"n": {n}}}') for n in (1, 2, 0)]
    one_by_one = bench.run(*steps)
    piled = bench.run(*steps, piled=True)
    assert piled.replace("|0", "|") == one_by_one.replace("|0", "|")
    if expected is not None:
        assert piled.replace("|0", "|") == expected.replace("|0", "|")


def test_statements_with_writing_parts_in_front_are_counted(bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    text = (
        "-- name: q!\nWITH more AS (INSERT INTO log VALUES (:id + 100, 'x') RETURNING id)\n"
        "INSERT INTO log SELECT :id, 'y' FROM more -- all"
    )
    assert bench.run((text, '{"id": 1}'), (text, '{"id": 2}'), piled=True) == "1|1"
    assert logged(oracle) == [1, 2, 101, 102]


def test_what_the_server_cannot_count_in_front_goes_one_by_one(
    bench: Bench, oracle: psycopg2.extensions.cursor
) -> None:
    oracle.execute(
        "CREATE TABLE ruled (id int); CREATE RULE also AS ON INSERT TO ruled DO ALSO INSERT INTO log VALUES (new.id)"
    )
    text = "-- name: q!\nINSERT INTO ruled VALUES (:id)"
    assert bench.run((text, '{"id": 1}'), (text, '{"id": 2}'), piled=True) == "1|1"
    assert logged(oracle) == [1, 2]
    oracle.execute("DROP TABLE ruled")


def test_nothing_of_it_is_left_in_the_session(bench: Bench) -> None:
    bench.run(*returning(1, 2), piled=True)
    assert bench.connection.ask("SELECT current_setting('gateway.acc')", soon()) == [("",)]
    assert bench.connection.ask("SHOW statement_timeout", soon()) == [("0",)]


def test_a_step_sees_the_results_before_it(bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    first, second = bench.steps(*inserts(1), *returning(0))
    seen: list[int] = []

    def bind(results: Sequence[Result]) -> list[str]:
        seen.extend(result.row_count for result in results)
        return ["'2'", "'w'"]

    work = Work([first, second._replace(bind=bind)], encode)
    assert transaction.run(bench.connection, work, deadline=soon()) == Done(b'1|{"id":2,"word":"w"}')
    assert seen == [1]
    assert logged(oracle) == [1, 2]


def test_a_procedure_takes_part(bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    call = ("-- name: q!\nCALL slowly(:id, :seconds)", '{"id": 2, "seconds": 0}')
    assert bench.run(*inserts(1), call, *inserts(3)) == "1|0|1"
    assert logged(oracle) == [1, 2, 3]


def test_nothing_needs_to_stay_prepared(dsn: str, tmp_path: Path, oracle: psycopg2.extensions.cursor) -> None:
    connection = connect(dsn, prepare=False)
    bench = Bench(Desk(connection, tmp_path / "queries"))
    assert bench.run(*returning(1, 2), piled=True, tracked=True) == '{"id":1,"word":"w"}|{"id":2,"word":"w"}'
    assert bench.run(*returning(3), *inserts(4), tracked=True) == '{"id":3,"word":"w"}|1'
    assert connection.ask("SELECT count(*)::text FROM pg_prepared_statements", soon()) == [("0",)]
    connection.close()
    assert logged(oracle) == [1, 2, 3, 4]


def test_more_different_queries_than_may_stay_prepared_run_all_the_same(dsn: str, tmp_path: Path) -> None:
    connection = connect(dsn, prepared=2)
    bench = Bench(Desk(connection, tmp_path / "queries"))
    steps = [(f"-- name: q$\nSELECT {number} + :x", '{"x": 1}') for number in range(5)]
    assert bench.run(*steps) == "1|2|3|4|5"
    connection.close()


@pytest.mark.parametrize("piled", [True, False])
def test_statements_that_were_deallocated_are_prepared_again(
    piled: bool, bench: Bench, oracle: psycopg2.extensions.cursor
) -> None:
    bench.run(*inserts(1), piled=piled)
    bench.connection.ask("DEALLOCATE ALL", soon())
    assert bench.run(*inserts(2, 3), piled=piled) == "1|1"
    assert logged(oracle) == [1, 2, 3]


def test_a_query_that_deallocates_in_the_middle_is_told_from_a_server_that_forgot(bench: Bench) -> None:
    error = bench.fail(*inserts(1), ("-- name: q$\n-- @access write\nSELECT forget()", "{}"), *inserts(2))
    assert (error.code, error.sqlstate) == ("query_broken", "26000")
    assert error.outcome is Outcome.ROLLED_BACK


def test_a_read_among_writes_stays_a_read(bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    oracle.execute(
        "CREATE FUNCTION sneak(id int) RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (id) RETURNING id'"
    )
    sneaking = ("-- name: q$\nSELECT sneak(:id)", '{"id": 2}')
    looking = ("-- name: q$\nSELECT count(*) FROM log, random()", "{}")
    error = bench.fail(*inserts(1), sneaking)
    assert (error.code, error.sqlstate, error.step, error.outcome) == ("query_broken", "25006", 1, "rolled_back")
    error = bench.fail(sneaking, *inserts(1))
    assert (error.code, error.step) == ("query_broken", 0)
    assert bench.run(*inserts(1), looking, *inserts(2), looking, tracked=True) == "1|1|1|2"
    assert bench.run(looking, *inserts(3), looking) == "2|1|3"
    assert logged(oracle) == [1, 2, 3]
    oracle.execute("DROP FUNCTION sneak(int)")


@pytest.mark.parametrize("prepare", [True, False])
@pytest.mark.parametrize("begin", ["BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"])
def test_the_data_is_no_older_than_what_the_guard_saw(
    begin: str, prepare: bool, dsn: str, tmp_path: Path, oracle: psycopg2.extensions.cursor
) -> None:
    connection = connect(dsn, prepare=prepare)
    connection.ask("SET default_transaction_isolation = 'repeatable read'", soon())
    bench = Bench(Desk(connection, tmp_path / "queries"))
    work = bench.work(("-- name: q$\nSELECT count(*) FROM log", "{}"), begin=begin)
    oracle.execute("SELECT pg_advisory_lock(7)")

    def write() -> None:
        wait_until(lambda: waits_for_a_lock(oracle, pid_of(connection)))
        oracle.execute("INSERT INTO log VALUES (1, 'w')")
        oracle.execute("SELECT pg_advisory_unlock(7)")

    with meanwhile(write):
        guard = "SELECT pg_advisory_xact_lock(7); "
        answer = transaction.run(connection, work, deadline=soon(), guard=guard)
    connection.close()
    assert answer.body == b"1"


def test_a_sequence_of_an_earlier_lease_is_not_seen(bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    oracle.execute("CREATE TABLE counted (id serial, word text)")
    counting = "-- name: q!\nINSERT INTO counted (word) VALUES (:word)"
    peeping = "-- name: q$\n-- @access write\nSELECT lastval()"
    bench.run((counting, '{"word": "x"}'))
    error = bench.fail((peeping, "{}"), piled=True)
    assert (error.code, error.sqlstate) == ("query_broken", "55000")
    assert bench.run((counting, '{"word": "x"}'), (peeping, "{}")) == "1|2"
    assert bench.fail((peeping, "{}")).sqlstate == "55000"
    oracle.execute("DROP TABLE counted")


def test_where_the_server_does_not_say_which_it_is_nothing_is_marked(
    bench: Bench, cluster: Cluster, tmp_path: Path, oracle: psycopg2.extensions.cursor
) -> None:
    secretive = "FUNCTION pg_control_system() FROM PUBLIC"
    oracle.execute(f"CREATE ROLE nosy LOGIN; GRANT ALL ON log TO nosy; REVOKE EXECUTE ON {secretive}")
    try:
        with wire_to(cluster.primary) as wire:
            bench = Bench(Desk(connect(wire.dsn("live_transaction", "nosy")), tmp_path / "queries"))
            assert bench.run(*inserts(1), piled=True, tracked=True) == "1"
            work = bench.work(*inserts(2), tracked=True)
            wire.cut(Cut.AFTER)
            with pytest.raises(Unresolved) as caught:
                transaction.run(bench.connection, work, deadline=soon())
        assert caught.value.mark is None
    finally:
        oracle.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC; DROP OWNED BY nosy; DROP ROLE nosy")
