"""What became of a write is known, or said not to be; and every SQLSTATE is an error of ours."""

from collections.abc import Iterator
from time import monotonic

import psycopg2.extensions
import pytest

from gateway import errors
from gateway.demo.cluster import Cluster
from gateway.errors import GatewayError
from gateway.postgres import single
from gateway.postgres.sqlstate import APPENDIX_A, error_class
from gateway.rotation.endpoint import Role
from tests.live.databases import Desk, connect, soon
from tests.live.sessions import (
    INSERT,
    SLEEP,
    SLOW_INSERT,
    logged,
    meanwhile,
    pid_of,
    small_database,
    terminate,
    when_it_runs,
)


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with small_database(cluster, "live_outcomes") as dsn:
        yield dsn


# Outcomes of writes.


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (SLOW_INSERT, '{"id": 1, "seconds": 30}'),
        ("-- name: q!\nCALL slowly(:id, :seconds)", '{"id": 1, "seconds": 30}'),
    ],
)
def test_a_write_that_meets_its_deadline_is_known_to_be_rolled_back(
    text: str, arguments: str, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    desk.learn(text)
    deadline = soon(0.3)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        desk.run(text, arguments, deadline=deadline)
    assert caught.value.outcome == "rolled_back"
    assert caught.value.sqlstate == "57014"
    assert monotonic() <= deadline
    assert logged(oracle) == []
    assert desk.connection.is_usable()
    assert desk.affected(INSERT, '{"id": 2}') == 1


def test_a_write_that_waits_for_a_lock_gives_up_before_its_deadline(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    desk.affected(INSERT, '{"id": 1}')
    text = "-- name: q!\nUPDATE log SET word = 'y' WHERE id = :id"
    desk.learn(text)
    oracle.execute("BEGIN; SELECT * FROM log FOR UPDATE")
    try:
        deadline = soon(0.3)
        with pytest.raises(errors.LockTimeout) as caught:
            desk.run(text, '{"id": 1}', deadline=deadline)
        assert monotonic() <= deadline
    finally:
        oracle.execute("ROLLBACK")
    assert (caught.value.outcome, caught.value.sqlstate) == ("rolled_back", "55P03")
    assert desk.connection.is_usable()


# How long the server works on a write.

LIMITS = """
SELECT (SELECT setting FROM pg_settings WHERE name = 'statement_timeout'),
       (SELECT setting FROM pg_settings WHERE name = 'lock_timeout')
"""


INSERT_NEXT = "-- name: q!\nINSERT INTO log SELECT count(*) + 1000, 'x' FROM log"


def write(desk: Desk, seconds: float) -> None:
    desk.learn(INSERT_NEXT)
    desk.run(INSERT_NEXT, deadline=soon(seconds))


def limits(desk: Desk) -> tuple[int, int]:
    ((statement, lock),) = desk.connection.ask(LIMITS, soon())
    return int(statement or 0), int(lock or 0)


def test_the_limits_of_a_write_hold_on_for_those_that_follow_soon(desk: Desk) -> None:
    write(desk, 30)
    told = limits(desk)
    assert 29_600 < told[0] <= 29_950
    assert told[1] == told[0] - 10
    write(desk, 30.05)
    assert limits(desk) == told


@pytest.mark.parametrize("seconds", [20, 40], ids=["it would end too late", "it would end much too early"])
def test_they_are_set_anew_where_they_do_not_fit(desk: Desk, seconds: float) -> None:
    write(desk, 30)
    write(desk, seconds)
    assert seconds * 1000 - 400 < limits(desk)[0] <= seconds * 1000 - 50


def test_those_of_a_write_with_little_time_end_with_it(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    write(desk, 30)
    told = limits(desk)
    write(desk, 0.9)
    assert limits(desk) == told
    test_a_write_that_waits_for_a_lock_gives_up_before_its_deadline(desk, oracle)


def test_those_that_went_with_a_write_that_failed_are_not_believed(desk: Desk) -> None:
    with pytest.raises(GatewayError):
        desk.run("-- name: q!\nINSERT INTO log VALUES (:id, 'bad')", '{"id": 1}', deadline=soon(30))
    assert limits(desk) == (0, 0)
    write(desk, 0.9)
    assert limits(desk) == (0, 0)
    write(desk, 30)
    assert 29_600 < limits(desk)[0] <= 29_950


def test_a_use_that_may_have_changed_them_has_them_set_anew(desk: Desk) -> None:
    write(desk, 30)
    desk.run("-- name: q$\n-- @access write\nSELECT set_config('statement_timeout', '1h', false)", "{}")
    desk.connection.settle(soon())
    write(desk, 30)
    assert 29_600 < limits(desk)[0] <= 29_950


def test_a_write_that_was_cancelled_in_time_is_not_blamed_on_the_deadline(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    desk.learn(SLOW_INSERT)
    pid = pid_of(desk.connection)
    cancel = when_it_runs(oracle, pid, lambda: oracle.execute(f"SELECT pg_cancel_backend({pid})"))
    with meanwhile(cancel), pytest.raises(errors.Cancelled) as caught:
        desk.run(SLOW_INSERT, '{"id": 1, "seconds": 30}')
    assert caught.value.outcome == "rolled_back"
    assert desk.connection.is_usable()


def test_a_write_whose_backend_was_terminated_does_not_know_its_outcome(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    desk.learn(SLOW_INSERT)
    desk.affected(SLOW_INSERT, '{"id": 0, "seconds": 0}')
    pid = pid_of(desk.connection)
    with (
        meanwhile(when_it_runs(oracle, pid, lambda: terminate(oracle, pid))),
        pytest.raises(errors.ConnectionLost) as caught,
    ):
        desk.run(SLOW_INSERT, '{"id": 1, "seconds": 30}')
    assert caught.value.outcome == "unknown"
    assert not desk.connection.is_usable()
    assert not desk.connection.settle(soon())


def test_a_write_in_a_transaction_whose_backend_was_terminated_before_commit_was_rolled_back(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    text = "-- name: q!\nCALL slowly(:id, :seconds)"
    desk.learn(text)
    pid = pid_of(desk.connection)
    with (
        meanwhile(when_it_runs(oracle, pid, lambda: terminate(oracle, pid))),
        pytest.raises(errors.ConnectionLost) as caught,
    ):
        desk.run(text, '{"id": 1, "seconds": 30}')
    assert caught.value.outcome == "rolled_back"


def test_a_read_whose_backend_was_terminated_is_lost(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    desk.learn(SLEEP)
    pid = pid_of(desk.connection)
    with (
        meanwhile(when_it_runs(oracle, pid, lambda: terminate(oracle, pid))),
        pytest.raises(errors.ConnectionLost) as caught,
    ):
        desk.run(SLEEP, '{"seconds": 30}')
    assert caught.value.outcome is None


def test_a_write_over_a_connection_that_was_closed_while_idle_was_not_executed(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    desk.learn(INSERT)
    terminate(oracle, pid_of(desk.connection))
    with pytest.raises(errors.ConnectionLost) as caught:
        desk.run(INSERT, '{"id": 1}')
    assert caught.value.outcome == "not_executed"


@pytest.mark.parametrize(
    ("text", "arguments", "kind", "constraint"),
    [
        (INSERT, '{"id": 7}', errors.Conflict, "log_pkey"),
        (
            "-- name: q!\nINSERT INTO log VALUES (8, :word)",
            '{"word": "bad"}',
            errors.InvalidArguments,
            "log_word_check",
        ),
        ("-- name: q!\nINSERT INTO log VALUES (:id, 'x')", '{"id": null}', errors.InvalidArguments, None),
        (
            "-- name: q!\nINSERT INTO checked VALUES (1, :parent)",
            '{"parent": 99}',
            errors.Conflict,
            "checked_parent_fkey",
        ),
        (
            "-- name: q$\nINSERT INTO log VALUES (9, 'x') RETURNING id / :zero",
            '{"zero": 0}',
            errors.InvalidArguments,
            None,
        ),
    ],
)
def test_a_write_that_the_server_refuses_was_rolled_back(
    text: str,
    arguments: str,
    kind: type[GatewayError],
    constraint: str | None,
    desk: Desk,
    oracle: psycopg2.extensions.cursor,
) -> None:
    oracle.execute("INSERT INTO log VALUES (7, 'x')")
    with pytest.raises(kind) as caught:
        desk.run(text, arguments)
    assert caught.value.outcome == "rolled_back"
    assert [fault.constraint for fault in caught.value.faults] == [constraint]
    assert logged(oracle) == [7]
    assert desk.connection.is_usable()


def test_a_write_to_a_replica_was_not_executed_and_wants_another_endpoint(cluster: Cluster, desk: Desk) -> None:
    cluster.wait_until_caught_up()
    replica = connect(cluster.replicas[0].dsn("live_outcomes"))
    try:
        for text, literals in ((INSERT, ["'1'"]), ("-- name: q!\nCALL slowly(:id, :seconds)", ["'1'", "'0'"])):
            with pytest.raises(errors.NoEndpoint) as caught:
                single.run(replica, desk.plan(text), literals, deadline=soon())
            assert (caught.value.outcome, caught.value.retryable) == ("not_executed", True)
            assert replica.settle(soon())
    finally:
        replica.close()


def test_a_promotion_is_noticed_with_the_next_answer() -> None:
    with Cluster(replicas=1) as cluster:
        connection = connect(cluster.replicas[0].dsn())
        roles = [connection.role]
        cluster.replicas[0].promote()
        connection.ping(soon())
        roles.append(connection.role)
        connection.close()
    assert roles == [Role.REPLICA, Role.PRIMARY]


# Every SQLSTATE.


def test_every_code_of_the_appendix_can_be_raised_and_is_an_error_of_ours_over_a_living_connection(desk: Desk) -> None:
    text = "-- name: q$\nSELECT fail(:code)"
    special = {"57014": errors.Cancelled, "00000": errors.Raised}
    for code in sorted(APPENDIX_A):
        with pytest.raises(GatewayError) as caught:
            desk.run(text, f'{{"code": "{code}"}}')
        assert type(caught.value) is special.get(code, error_class(code)), code
        assert desk.connection.is_usable(), code
    with pytest.raises(errors.Raised) as caught:
        desk.run(text, '{"code": "UX001"}')
    assert caught.value.shown_title == "said so"


def test_a_recovery_conflict_is_the_replicas_business_and_a_serialization_failure_the_callers(
    cluster: Cluster, desk: Desk
) -> None:
    plan = desk.plan("-- name: q$\nSELECT fail(:code)")
    cluster.wait_until_caught_up()
    replica = connect(cluster.replicas[0].dsn("live_outcomes"), read_only=True)
    try:
        with pytest.raises(errors.BackendUnavailable):
            single.run(replica, plan, ["'40001'"], deadline=soon())
        with pytest.raises(errors.SerializationFailure):
            single.run(desk.connection, plan, ["'40001'"], deadline=soon())
    finally:
        replica.close()


def test_a_procedure_that_now_gives_other_columns_is_rolled_back_and_works_once_learnt_anew(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    head, body = (
        "CREATE PROCEDURE shifting(OUT a int",
        ") LANGUAGE plpgsql AS 'BEGIN a := 1; INSERT INTO log VALUES (1); END'",
    )
    oracle.execute(head + body)
    text = "-- name: q^\nCALL shifting(NULL)"
    before = desk.plan(text)
    oracle.execute("DROP PROCEDURE shifting(); " + head + ", b int DEFAULT 2, INOUT c int DEFAULT 3" + body)
    with pytest.raises(errors.CatalogueStale) as caught:
        single.run(desk.connection, before, [], deadline=soon())
    assert caught.value.outcome == "rolled_back"
    assert desk.connection.settle(soon())
    assert logged(oracle) == []
    assert Desk(desk.connection, desk._directory).value(text) == '{"a":1,"c":3}'
    oracle.execute("DROP PROCEDURE shifting(int, int)")
