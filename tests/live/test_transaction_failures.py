"""A transaction that fails is rolled back whole, and tells which step it was."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg2.extensions
import pytest

from gateway import errors
from gateway.demo.cluster import Cluster
from gateway.errors import Outcome
from gateway.postgres import transaction
from gateway.postgres.session import LARGEST
from gateway.postgres.single import Result
from gateway.postgres.sqlstate import APPENDIX_A, error_class
from tests.live.databases import Desk, connect, plain, soon
from tests.live.sessions import (
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
from tests.live.works import Bench, encode, inserts, returning, waits_for_a_lock


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with small_database(cluster, "live_transaction_failures") as dsn:
        yield dsn


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
