"""One transaction on one connection: what is sent, what comes back, what is known of it when the wire breaks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg2.extensions
import pytest

from gateway import errors
from gateway.catalogue.json_text import split_object
from gateway.demo.cluster import Cluster
from gateway.errors import GatewayError, Outcome
from gateway.postgres import transaction
from gateway.postgres.marks import Mark
from gateway.postgres.outcomes import Verdict, ask, judge
from gateway.postgres.session import LARGEST, Session
from gateway.postgres.single import Result
from gateway.postgres.sqlstate import APPENDIX_A, error_class
from gateway.postgres.statement import Plan
from gateway.postgres.work import Done, Step, Unresolved, Work
from tests.live.cutting import Cut, wire_to
from tests.live.databases import Desk, connect, plain, soon
from tests.live.sessions import (
    INSERT,
    SLOW_INSERT,
    is_alive,
    logged,
    meanwhile,
    pid_of,
    small_database,
    terminate,
    wait_until,
    when_it_runs,
)

RETURNING = "-- name: q<!\nINSERT INTO log VALUES (:id, :word) RETURNING id, word"
SERIALIZABLE = "BEGIN ISOLATION LEVEL SERIALIZABLE"


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with small_database(cluster, "live_transaction") as dsn:
        yield dsn


class Bench:
    """Makes works of query texts and arguments, and runs them."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.connection = desk.connection

    def steps(self, *steps: tuple[str, str]) -> list[Step]:
        return [Step(self.desk.plan(text), constant(self.desk, text, arguments)) for text, arguments in steps]

    def work(self, *steps: tuple[str, str], piled: bool = False, **more: Any) -> Work:
        accumulated = Plan.accumulating(*self.desk.learn(steps[0][0])) if piled else None
        assert accumulated is not None or not piled
        return Work(self.steps(*steps), encode, accumulated=accumulated, **more)

    def run(self, *steps: tuple[str, str], deadline: float | None = None, **more: Any) -> str:
        """The rows of all results, or the count where there are none."""
        work = self.work(*steps, **more)
        answer = transaction.run(self.connection, work, deadline=soon() if deadline is None else deadline)
        assert self.connection.settle(soon())
        return answer.body.decode()

    def fail(self, *steps: tuple[str, str], deadline: float | None = None, **more: Any) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            self.run(*steps, deadline=deadline, **more)
        if not self.connection.closed:
            assert self.connection.settle(soon())
        return caught.value


def constant(desk: Desk, text: str, arguments: str) -> Callable[[Sequence[Result]], Sequence[str]]:
    *_, binder = desk._known(text)
    literals = binder.bind_json(split_object(arguments.encode()))
    return lambda _: literals


def encode(results: Sequence[Result]) -> bytes:
    return b"|".join(result.text or b"%d" % result.row_count for result in results)


@pytest.fixture
def bench(desk: Desk, oracle: psycopg2.extensions.cursor) -> Bench:
    """On tables that are empty afterwards."""
    assert logged(oracle) == []
    return Bench(desk)


def inserts(*ids: int) -> list[tuple[str, str]]:
    return [(INSERT, f'{{"id": {number}}}') for number in ids]


def returning(*ids: int) -> list[tuple[str, str]]:
    return [(RETURNING, f'{{"id": {number}, "word": "w"}}') for number in ids]


# Results.


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


# Failures.


@pytest.mark.parametrize("piled", [True, False])
def test_the_failing_step_is_named_and_nothing_happens(
    piled: bool, bench: Bench, oracle: psycopg2.extensions.cursor
) -> None:
    error = bench.fail(*inserts(1, 2, 1, 1), piled=piled)
    assert (error.code, error.step, error.outcome, error.sqlstate) == ("conflict", 2, "rolled_back", "23505")
    assert logged(oracle) == []
    assert bench.run(*inserts(1)) == "1"


def test_a_step_whose_arguments_the_server_refuses_is_named_with_them(bench: Bench) -> None:
    text = "-- name: q!\n-- @param day date\nINSERT INTO log SELECT :id, 'x' WHERE :day > '2020-01-01'::date"
    good, bad = '{"id": 1, "day": "2026-01-01"}', '{"id": 2, "day": "someday"}'
    for piled in (True, False):
        error = bench.fail((text, good), (text, bad), piled=piled)
        assert (error.step, error.outcome) == (1, "rolled_back")
        assert [fault.parameter for fault in error.faults] == ["day"]


def test_a_single_write_has_no_step(bench: Bench) -> None:
    bench.run(*inserts(1))
    error = bench.fail(*inserts(1), piled=True, numbered=False)
    assert (error.code, error.step) == ("conflict", None)


@pytest.mark.parametrize("piled", [True, False])
def test_a_deadline_is_a_known_rollback(piled: bool, bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    slow = (SLOW_INSERT, '{"id": 1, "seconds": 30}')
    bench.run((SLOW_INSERT, '{"id": 0, "seconds": 0}'), piled=piled)
    error = bench.fail(slow, slow, piled=piled, deadline=soon(0.5))
    assert (error.code, error.outcome) == ("deadline_exceeded", "rolled_back")
    assert logged(oracle) == [0]
    assert bench.connection.is_usable()


def test_steps_that_are_late_together_are_rolled_back(bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    steps = [(SLOW_INSERT, f'{{"id": {number}, "seconds": 0.2}}') for number in range(9)]
    bench.desk.learn(SLOW_INSERT)
    for piled in (True, False):
        work = bench.work(*steps, piled=piled)
        with pytest.raises(errors.DeadlineExceeded) as caught:
            transaction.run(bench.connection, work, deadline=soon(0.6))
        assert caught.value.outcome is Outcome.ROLLED_BACK
        if bench.connection.closed:
            break
        assert bench.connection.settle(soon())
    wait_until(lambda: logged(oracle) == [])


def test_a_constraint_that_is_checked_at_commit_rolls_everything_back(
    bench: Bench, oracle: psycopg2.extensions.cursor
) -> None:
    text = "-- name: q!\nINSERT INTO checked VALUES (:id, :parent)"
    error = bench.fail(*inserts(1), (text, '{"id": 1, "parent": 99}'), tracked=True)
    assert (error.code, error.step, error.outcome, error.sqlstate) == ("conflict", None, "rolled_back", "23503")
    assert logged(oracle) == []


def test_a_result_that_is_too_large_is_rolled_back(bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    for piled in (True, False):
        with pytest.raises(errors.ResultTooLarge) as caught:
            transaction.run(
                bench.connection, bench.work(*returning(1, 2, 3), piled=piled), deadline=soon(), max_bytes=50
            )
        assert caught.value.outcome is Outcome.ROLLED_BACK
        assert bench.connection.settle(soon())
    assert logged(oracle) == []


def test_results_that_are_far_too_large_together_stop_soon(bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    """They are neither all made, nor all sent, nor made once more one by one."""
    text = "-- name: q<!\n-- @param n int\nINSERT INTO log VALUES (nextval('made'), repeat('x', :n)) RETURNING word"
    oracle.execute("CREATE SEQUENCE made; GRANT ALL ON made TO PUBLIC")
    steps = [(text, '{"n": 100000}')] * 100
    work = bench.work(*steps, piled=True)
    with pytest.raises(errors.ResultTooLarge) as caught:
        transaction.run(bench.connection, work, deadline=soon(), max_bytes=150_000)
    assert caught.value.outcome is Outcome.ROLLED_BACK
    assert bench.connection.settle(soon())
    oracle.execute("SELECT last_value FROM made")
    assert oracle.fetchall()[0][0] <= 10
    oracle.execute("DROP SEQUENCE made")
    assert logged(oracle) == []


@pytest.mark.parametrize("piled", [True, False])
def test_a_connection_is_not_kept_after_large_results(piled: bool, dsn: str, tmp_path: Path) -> None:
    connection = connect(dsn)
    text = "-- name: q$\n-- @param n int\nSELECT repeat('x', :n)"
    bench = Bench(Desk(connection, tmp_path))
    transaction.run(connection, bench.work((text, '{"n": 1000}'), piled=piled), deadline=soon())
    assert connection.settle(soon())
    transaction.run(connection, bench.work((text, f'{{"n": {LARGEST}}}'), piled=piled), deadline=soon())
    assert not connection.settle(soon())
    connection.close()


@pytest.mark.parametrize("piled", [True, False])
def test_results_of_just_as_many_bytes_as_there_may_be_pass(piled: bool, bench: Bench) -> None:
    text = "-- name: q$\n-- @param n int\nSELECT i FROM generate_series(1, :n) i"
    many = "-- name: q\n-- @param n int\nSELECT i FROM generate_series(1, :n) i"
    for query, rows in ((text, 1), (many, 50)):
        work = bench.work(*[(query, f'{{"n": {rows}}}')] * 250, piled=piled)
        size = len(transaction.run(bench.connection, work, deadline=soon()).body.replace(b"|", b""))
        assert transaction.run(bench.connection, work, deadline=soon(), max_bytes=size)
        with pytest.raises(errors.ResultTooLarge):
            transaction.run(bench.connection, work, deadline=soon(), max_bytes=size - 1)
        assert bench.connection.settle(soon())


def test_an_answer_that_cannot_be_made_is_rolled_back(bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    def refuse(_: Sequence[Result]) -> bytes:
        raise errors.ResultTooLarge("too many rows")

    work = bench.work(*inserts(1))._replace(encode=refuse)
    with pytest.raises(errors.ResultTooLarge) as caught:
        transaction.run(bench.connection, work, deadline=soon())
    assert caught.value.outcome is Outcome.ROLLED_BACK
    assert bench.connection.settle(soon())
    assert logged(oracle) == []


def test_every_code_of_the_appendix_in_a_step_is_an_error_of_ours_that_rolls_back(
    bench: Bench, oracle: psycopg2.extensions.cursor
) -> None:
    text = "-- name: q$\n-- @access write\nSELECT fail(:code)"
    special = {"57014": errors.Cancelled, "00000": errors.Raised, "25006": errors.BackendUnavailable}
    for code in sorted(APPENDIX_A):
        error = bench.fail(*inserts(1), (text, f'{{"code": "{code}"}}'))
        assert type(error) is special.get(code, error_class(code)), code
        assert error.step == 1, code
        assert error.outcome is (Outcome.NOT_EXECUTED if code == "25006" else Outcome.ROLLED_BACK), code
        assert bench.connection.is_usable(), code
    assert logged(oracle) == []


def test_a_deadlock_is_a_serialization_failure_of_one_of_both(
    bench: Bench, dsn: str, oracle: psycopg2.extensions.cursor
) -> None:
    bench.run(*inserts(1, 2))
    text = "-- name: q!\nUPDATE log SET word = 'y' WHERE id = :id"
    bench.desk.learn(text)
    with plain(dsn) as other:
        other.execute("SET deadlock_timeout = '10s'; BEGIN; UPDATE log SET word = 'z' WHERE id = 2")

        def cross() -> None:
            wait_until(lambda: waits_for_a_lock(oracle, pid_of(bench.connection)))
            other.execute("UPDATE log SET word = 'z' WHERE id = 1")
            other.execute("COMMIT")

        with meanwhile(cross):
            error = bench.fail((text, '{"id": 1}'), (text, '{"id": 2}'))
    assert (error.code, error.sqlstate, error.outcome) == ("serialization_failure", "40P01", "rolled_back")
    assert error.step == 1


def waits_for_a_lock(cursor: psycopg2.extensions.cursor, pid: int) -> bool:
    cursor.execute(f"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}")
    return bool(cursor.fetchall()[0][0])


def test_a_backend_that_is_terminated_before_the_commit_leaves_nothing(
    bench: Bench, oracle: psycopg2.extensions.cursor
) -> None:
    slow = (SLOW_INSERT, '{"id": 1, "seconds": 30}')
    bench.desk.learn(SLOW_INSERT)
    pid = pid_of(bench.connection)
    with meanwhile(when_it_runs(oracle, pid, lambda: terminate(oracle, pid))):
        error = bench.fail(slow, slow, piled=True, tracked=True)
    assert (error.code, error.outcome) == ("connection_lost", "rolled_back")


def test_locks_are_let_go_when_we_are_frozen_in_the_middle(bench: Bench, oracle: psycopg2.extensions.cursor) -> None:
    pid = pid_of(bench.connection)

    def freeze(results: Sequence[Result]) -> bytes:
        wait_until(lambda: not is_alive(oracle, pid))
        return encode(results)

    work = bench.work(*inserts(1))._replace(encode=freeze)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        transaction.run(bench.connection, work, deadline=soon(0.3))
    assert caught.value.outcome is Outcome.ROLLED_BACK
    assert not bench.connection.settle(soon())
    assert logged(oracle) == []


# The wire breaks at the COMMIT.


@pytest.mark.parametrize("piled", [True, False])
@pytest.mark.parametrize(("cut", "ids"), [(Cut.BEFORE, []), (Cut.AFTER, [1, 2])])
def test_what_became_of_a_transaction_is_found_out_by_its_mark(
    cut: Cut, ids: list[int], piled: bool, cluster: Cluster, tmp_path: Path, oracle: psycopg2.extensions.cursor
) -> None:
    with wire_to(cluster.primary) as wire:
        bench = Bench(Desk(connect(wire.dsn("live_transaction")), tmp_path / "queries"))
        work = bench.work(*returning(1, 2), piled=piled, tracked=True)
        wire.cut(cut)
        with pytest.raises(Unresolved) as caught:
            transaction.run(bench.connection, work, deadline=soon())
        lost = caught.value
        assert (lost.error.code, lost.error.outcome) == ("connection_lost", "unknown")
        assert lost.body == b'{"id":1,"word":"w"}|{"id":2,"word":"w"}'
        assert lost.mark is not None
        assert bench.connection.closed
        assert verdict_of(connect(wire.dsn("live_transaction")), lost.mark) is (
            Verdict.COMMITTED if ids else Verdict.ROLLED_BACK
        )
    assert logged(oracle) == ids


def verdict_of(connection: Session, mark: Mark) -> Verdict:
    """What the server says in the end."""
    verdict = Verdict.LATER

    def settled() -> bool:
        nonlocal verdict
        verdict = judge(mark, ask(connection, mark, soon()))
        return verdict is not Verdict.LATER

    wait_until(settled)
    connection.close()
    return verdict


@pytest.mark.parametrize("piled", [True, False])
def test_a_mark_made_through_a_pooler_is_of_the_session_that_made_it(
    piled: bool, cluster: Cluster, tmp_path: Path, oracle: psycopg2.extensions.cursor
) -> None:
    with wire_to(cluster.primary) as wire:
        bench = Bench(Desk(connect(wire.dsn("live_transaction"), prepare=False), tmp_path / "queries"))
        assert bench.run(*inserts(1), piled=piled, tracked=True) == "1"
        oracle.execute("SELECT pg_stat_reset_shared('bgwriter')")  # as after a crash, which a pooler hides
        work = bench.work(*inserts(2), piled=piled, tracked=True)
        wire.cut(Cut.AFTER)
        with pytest.raises(Unresolved) as caught:
            transaction.run(bench.connection, work, deadline=soon())
        assert caught.value.mark is not None
        assert verdict_of(connect(wire.dsn("live_transaction")), caught.value.mark) is Verdict.COMMITTED
    assert logged(oracle) == [1, 2]


@pytest.mark.usefixtures("oracle")
def test_without_a_mark_it_stays_unknown(cluster: Cluster, tmp_path: Path) -> None:
    with wire_to(cluster.primary) as wire:
        bench = Bench(Desk(connect(wire.dsn("live_transaction")), tmp_path / "queries"))
        work = bench.work(*inserts(1))
        wire.cut(Cut.AFTER)
        with pytest.raises(Unresolved) as caught:
            transaction.run(bench.connection, work, deadline=soon())
    assert (caught.value.mark, caught.value.error.outcome) == (None, "unknown")


def test_a_server_of_another_cluster_is_told(dsn: str) -> None:
    mark = Mark(system=1, timeline=1, xid=3, position=1, life=0, taken=0)
    assert verdict_of(connect(dsn), mark) is Verdict.FOREIGN


def test_after_a_crash_the_same_xid_is_anothers_and_is_not_believed(tmp_path: Path) -> None:
    lazy = {"wal_writer_delay": "10s", "autovacuum": "off"}  # nobody but a COMMIT flushes
    with Cluster(replicas=0, settings=lazy) as cluster:
        server = cluster.primary
        server.sql("CREATE ROLE member LOGIN; CREATE TABLE log (id int, word text); GRANT ALL ON log TO PUBLIC")
        server.sql("CHECKPOINT")
        bench = Bench(Desk(connect(server.dsn(user="member")), tmp_path / "queries"))
        bench.desk.learn(INSERT)

        def kill_before_the_commit(results: Sequence[Result]) -> bytes:
            server.kill()
            return encode(results)

        work = bench.work(*inserts(1), tracked=True)._replace(encode=kill_before_the_commit)
        with pytest.raises(Unresolved) as caught:
            transaction.run(bench.connection, work, deadline=soon())
        mark = caught.value.mark
        assert mark is not None
        server.start()
        with plain(server.dsn()) as cursor:
            cursor.execute("BEGIN; INSERT INTO log VALUES (2); SELECT pg_current_xact_id()::text")
            assert cursor.fetchall() == [(str(mark.xid),)], "the xid is handed out again"
            cursor.execute("COMMIT")
            cursor.execute(f"SELECT pg_xact_status('{mark.xid}')")
            assert cursor.fetchall() == [("committed",)]
        for user in ("member", "postgres"):
            assert verdict_of(connect(server.dsn(user=user)), mark) is Verdict.ROLLED_BACK


@pytest.mark.parametrize("tail", ["lost", "kept"])
def test_after_a_promotion_the_mark_tells_what_was_lost_by_the_fork(tail: str, tmp_path: Path) -> None:
    with Cluster(replicas=1) as cluster:
        old, new = cluster.servers
        old.sql("CREATE ROLE member LOGIN; CREATE TABLE log (id int, word text); GRANT ALL ON log TO PUBLIC")
        with wire_to(old) as wire:
            bench = Bench(Desk(connect(wire.dsn("postgres", "member")), tmp_path / "queries"))
            bench.desk.learn(INSERT)
            cluster.wait_until_caught_up()
            if tail == "lost":
                new.sql("ALTER SYSTEM SET primary_conninfo = ''")
                new.sql("SELECT pg_reload_conf()")
                wait_until(lambda: new.sql("SELECT count(*) FROM pg_stat_wal_receiver").strip() == "0")
            wire.cut(Cut.AFTER)
            work = bench.work(*inserts(1), tracked=True)
            with pytest.raises(Unresolved) as caught:
                transaction.run(bench.connection, work, deadline=soon())
        mark = caught.value.mark
        assert mark is not None
        if tail == "kept":
            cluster.wait_until_caught_up()
        old.kill()
        new.promote()
        with plain(new.dsn()) as cursor:
            if tail == "lost":
                cursor.execute("BEGIN; INSERT INTO log VALUES (2); SELECT pg_current_xact_id()::text")
                assert cursor.fetchall() == [(str(mark.xid),)], "the xid is handed out again"
                cursor.execute("COMMIT")
            cursor.execute(f"SELECT pg_xact_status('{mark.xid}')")
            assert cursor.fetchall() == [("committed",)]
        # NOTE: what is kept could be another's, had the old primary crashed and come back before the promotion.
        expected = Verdict.ROLLED_BACK if tail == "lost" else Verdict.UNKNOWN
        for user in ("member", "postgres"):  # one of them may read the server's history
            assert verdict_of(connect(new.dsn(user=user)), mark) is expected
