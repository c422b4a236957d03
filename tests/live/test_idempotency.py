"""A key runs once: repeats at the same time, after a cut, under every isolation; and what is kept is forgotten."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import psycopg2.extensions
import pytest

from gateway import errors
from gateway.demo.cluster import Cluster
from gateway.errors import GatewayError, Outcome
from gateway.postgres import transaction
from gateway.postgres.idempotency import DDL, SWEPT_AT_ONCE, Claim, KeyInUse, look_up, sweep
from gateway.postgres.session import Session
from gateway.postgres.single import Result
from gateway.postgres.work import Done, Step, Unresolved, Work
from gateway.waiting import ClientSocket
from tests.live.cutting import Cut, wire_to
from tests.live.databases import Desk, connect, plain, soon
from tests.live.sessions import logged, meanwhile, pid_of, small_database, terminate, wait_until

INSERT = "-- name: q<!\nINSERT INTO log VALUES (:id, :word) RETURNING id, word"
ISOLATIONS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with small_database(cluster, "live_idempotency") as dsn:
        with plain(dsn) as cursor:
            cursor.execute(DDL)
        yield dsn


@pytest.fixture(autouse=True)
def emptied(oracle: psycopg2.extensions.cursor) -> Iterator[None]:
    yield
    oracle.execute("TRUNCATE gateway_idempotency")


def encode(results: Sequence[Result]) -> bytes:
    return b"|".join(result.text for result in results)


def work(
    desk: Desk, *ids: int, key: str = "k", asked: str = "h", caller: str = "", isolation: str = ISOLATIONS[0]
) -> Work:
    """Inserts under a key."""
    plan = desk.plan(INSERT)
    steps = [Step(plan, lambda _, number=number: [f"'{number}'", "'w'"]) for number in ids]  # type: ignore[misc]
    return Work(steps, encode, begin=f"BEGIN ISOLATION LEVEL {isolation}", claim=Claim(caller, key, asked))


def run(connection: Session, what: Work, deadline: float | None = None) -> Done:
    try:
        return transaction.run(connection, what, deadline=soon() if deadline is None else deadline)
    finally:
        if not connection.closed:
            assert connection.settle(soon())


def test_a_repeat_gets_the_first_answer_and_runs_nothing(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    first = run(desk.connection, work(desk, 1, 2))
    assert first == Done(b'{"id":1,"word":"w"}|{"id":2,"word":"w"}')
    assert run(desk.connection, work(desk, 1, 2)) == first._replace(replayed=True)
    assert logged(oracle) == [1, 2]


def test_what_is_kept_comes_back_byte_for_byte(desk: Desk) -> None:
    body = '{"value":"\\"é\\\\ \' \\u0001 𝄞"}'.encode()
    what = work(desk, 1)._replace(encode=lambda _: body)
    assert run(desk.connection, what) == Done(body)
    assert run(desk.connection, what) == Done(body, replayed=True)


def test_another_request_with_the_key_is_refused(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    run(desk.connection, work(desk, 1))
    with pytest.raises(errors.IdempotencyMismatch) as caught:
        run(desk.connection, work(desk, 2, asked="other"))
    assert caught.value.outcome is Outcome.NOT_EXECUTED
    assert logged(oracle) == [1]


def test_a_key_belongs_to_its_caller(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    run(desk.connection, work(desk, 1, caller="me", key="it's \\"))
    assert not run(desk.connection, work(desk, 2, caller="you", key="it's \\")).replayed
    assert run(desk.connection, work(desk, 2, caller="you", key="it's \\")).replayed
    assert logged(oracle) == [1, 2]


def test_a_failure_leaves_the_key_free(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    run(desk.connection, work(desk, 1, key="other"))
    with pytest.raises(errors.Conflict) as caught:
        run(desk.connection, work(desk, 2, 1))
    assert (caught.value.step, caught.value.outcome) == (1, Outcome.ROLLED_BACK)
    assert look_up(desk.connection, Claim("", "k", "h"), soon()) is None
    assert run(desk.connection, work(desk, 2, asked="now something else")) == Done(b'{"id":2,"word":"w"}')
    assert logged(oracle) == [1, 2]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_ten_at_once_get_one_answer(isolation: str, desk: Desk, dsn: str, oracle: psycopg2.extensions.cursor) -> None:
    desk.learn(INSERT)
    connections = [connect(dsn) for _ in range(10)]
    keys = range(10)
    answers: list[tuple[int, Done]] = []
    troubles: list[Exception] = []

    def repeat(connection: Session) -> None:
        for number in keys:
            starting.wait()
            try:
                what = work(desk, number, key=str(number), isolation=isolation)
                answers.append((number, run(connection, what)))
            except GatewayError as error:
                troubles.append(error)

    starting = threading.Barrier(len(connections))
    threads = [threading.Thread(target=repeat, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for connection in connections:
        connection.close()
    assert troubles == []
    assert logged(oracle) == list(keys)
    assert {(number, answer.body) for number, answer in answers} == {
        (number, b'{"id":%d,"word":"w"}' % number) for number in keys
    }
    assert Counter(answer.replayed for _, answer in answers) == {False: len(keys), True: 9 * len(keys)}


@pytest.mark.parametrize(("cut", "replayed"), [(Cut.BEFORE, False), (Cut.AFTER, True)])
def test_a_repeat_after_a_cut_tells_the_truth(
    cut: Cut, replayed: bool, cluster: Cluster, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    what = work(desk, 1)
    with wire_to(cluster.primary) as wire:
        wire.cut(cut)
        with pytest.raises(Unresolved):
            run(connect(wire.dsn("live_idempotency")), what)
    assert run(desk.connection, what) == Done(b'{"id":1,"word":"w"}', replayed)
    assert logged(oracle) == [1]


def test_a_repeat_waits_for_the_first_and_at_its_deadline_says_that_nobody_knows(
    desk: Desk, dsn: str, oracle: psycopg2.extensions.cursor
) -> None:
    what = work(desk, 1)
    with plain(dsn) as first:
        first.execute("BEGIN; INSERT INTO gateway_idempotency (caller, key, request_hash) VALUES ('', 'k', 'h')")
        deadline = soon(0.4)
        with pytest.raises(errors.DeadlineExceeded) as caught:
            run(desk.connection, what, deadline)
        assert (caught.value.outcome, caught.value.retryable) == (Outcome.UNKNOWN, True)
        first.execute("ROLLBACK")
    assert not run(desk.connection, what).replayed
    assert logged(oracle) == [1]


def test_who_has_no_patience_for_the_key_is_told_soon_and_waits_for_other_locks_all_the_same(
    desk: Desk, dsn: str, oracle: psycopg2.extensions.cursor
) -> None:
    what = work(desk, 1)
    with plain(dsn) as other:
        other.execute("BEGIN; INSERT INTO gateway_idempotency (caller, key, request_hash) VALUES ('', 'k', 'h')")
        deadline = soon(20)
        with pytest.raises(KeyInUse) as caught:
            transaction.run(desk.connection, what, deadline=deadline, patience=0.05)
        assert soon(10) < deadline
        assert caught.value.outcome is Outcome.UNKNOWN
        assert desk.connection.settle(soon())
        other.execute("ROLLBACK; BEGIN; LOCK TABLE log IN ACCESS EXCLUSIVE MODE")

        def let_go() -> None:
            wait_until(lambda: _waits(oracle, pid_of(desk.connection)))
            oracle.execute("SELECT pg_sleep(0.2)")
            other.execute("ROLLBACK")

        with meanwhile(let_go):
            transaction.run(desk.connection, what, deadline=soon(), patience=0.05)
    assert desk.connection.settle(soon())
    assert logged(oracle) == [1]


def test_a_lock_that_the_write_waits_for_is_not_mistaken_for_the_key(desk: Desk, dsn: str) -> None:
    run(desk.connection, work(desk, 1, key="other"))
    what = work(desk, 1)
    with plain(dsn) as other:
        other.execute("BEGIN; LOCK TABLE log IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(errors.LockTimeout) as caught:
            run(desk.connection, what, soon(0.4))
        other.execute("ROLLBACK")
    assert caught.value.outcome is Outcome.ROLLED_BACK


def test_a_repeat_is_the_first_where_the_first_is_terminated(
    desk: Desk, dsn: str, oracle: psycopg2.extensions.cursor
) -> None:
    what = work(desk, 1)
    with plain(dsn) as first, plain(dsn) as watcher:
        first.execute("BEGIN; INSERT INTO gateway_idempotency (caller, key, request_hash) VALUES ('', 'k', 'h')")
        first.execute("SELECT pg_backend_pid()")
        ((pid,),) = first.fetchall()

        def kill() -> None:
            wait_until(lambda: _waits(watcher, pid_of(desk.connection)))
            terminate(watcher, pid)

        with meanwhile(kill):
            assert run(desk.connection, what) == Done(b'{"id":1,"word":"w"}')
    assert logged(oracle) == [1]


def _waits(cursor: psycopg2.extensions.cursor, pid: int) -> bool:
    cursor.execute(f"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}")
    return bool(cursor.fetchall()[0][0])


def test_without_the_table_it_is_said_what_to_do(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    oracle.execute("ALTER TABLE gateway_idempotency RENAME TO elsewhere")
    try:
        with pytest.raises(errors.QueryBroken, match="gateway init-db") as caught:
            run(desk.connection, work(desk, 1))
    finally:
        oracle.execute("ALTER TABLE elsewhere RENAME TO gateway_idempotency")
    assert caught.value.outcome is Outcome.NOT_EXECUTED
    assert logged(oracle) == []


def test_a_role_that_may_not_use_the_table_is_told(
    cluster: Cluster, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    oracle.execute("CREATE ROLE stranger LOGIN; GRANT ALL ON log TO stranger")
    connection = connect(cluster.primary.dsn("live_idempotency", "stranger"))
    try:
        with pytest.raises(errors.QueryBroken, match="init-db --print"):
            run(connection, work(desk, 1))
    finally:
        connection.close()
        oracle.execute("DROP OWNED BY stranger; DROP ROLE stranger")


@pytest.mark.parametrize(
    "step", ["DELETE FROM gateway_idempotency", "UPDATE gateway_idempotency SET key = 'other' WHERE key = 'k'"]
)
def test_nothing_is_committed_whose_answer_cannot_be_kept(
    step: str, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    plan = desk.plan(f"-- name: q!\n{step}")
    what = work(desk, 1)
    what = what._replace(steps=[*what.steps, Step(plan, lambda _: [])])
    with pytest.raises(errors.QueryBroken, match="search_path") as caught:
        run(desk.connection, what)
    assert caught.value.outcome is Outcome.ROLLED_BACK
    assert logged(oracle) == []


def test_old_keys_are_forgotten_a_bounded_number_at_once(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    many = SWEPT_AT_ONCE + 10
    oracle.execute(
        "INSERT INTO gateway_idempotency (caller, key, request_hash, created_at)"
        f" SELECT '', i::text, '', now() - interval '1 hour' FROM generate_series(1, {many}) i"
    )
    run(desk.connection, work(desk, 1, key="young"))
    swept = [sweep(desk.connection, retention=1800.5, deadline=soon()) for _ in range(3)]
    assert swept == [SWEPT_AT_ONCE, 10, 0]
    assert run(desk.connection, work(desk, 1, key="young")).replayed


@pytest.mark.parametrize("prepare", [True, False])
@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_server_that_has_become_a_replica_is_none_of_the_first_steps_fault(
    isolation: str, prepare: bool, cluster: Cluster, desk: Desk
) -> None:
    """The key is taken in the message of the first step, which may be a read."""
    reading = desk.plan("-- name: q$\nSELECT count(*) FROM log, random()")
    what = work(desk, 1, isolation=isolation)
    what = what._replace(steps=[Step(reading, lambda _: []), *what.steps])
    cluster.wait_until_caught_up()
    replica = connect(cluster.replicas[0].dsn("live_idempotency"), prepare=prepare)
    with pytest.raises(errors.NoEndpoint) as caught:
        run(replica, what)
    replica.close()
    assert (caught.value.outcome, caught.value.retryable) == (Outcome.NOT_EXECUTED, True)


def test_sweeping_without_the_table_does_nothing(cluster: Cluster) -> None:
    connection = connect(cluster.primary.dsn())
    assert sweep(connection, retention=1, deadline=soon()) == 0
    assert connection.is_usable()
    connection.close()


def test_it_is_told_when_the_key_is_held_and_not_before(
    desk: Desk, dsn: str, oracle: psycopg2.extensions.cursor
) -> None:
    what = work(desk, 1)
    held: list[bool] = []

    def note() -> None:
        held.append(logged(oracle) == [])

    with plain(dsn) as first:
        first.execute("BEGIN; INSERT INTO gateway_idempotency (caller, key, request_hash) VALUES ('', 'k', 'h')")
        with pytest.raises(errors.DeadlineExceeded):
            transaction.run(desk.connection, what, deadline=soon(0.4), on_claimed=note)
        first.execute("ROLLBACK")
    assert desk.connection.settle(soon())
    assert held == []
    assert transaction.run(desk.connection, what, deadline=soon(), on_claimed=note).body == b'{"id":1,"word":"w"}'
    assert held == [True]
    assert transaction.run(desk.connection, what, deadline=soon(), on_claimed=note).replayed
    assert held == [True]


def test_one_that_is_ended_between_two_messages_is_rolled_back(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    run_of = desk.connection.run
    near, far = socket.socketpair()
    with near, far:
        run_of.asker = ClientSocket(near)

        def end() -> None:
            run_of.ended = run_of.asker

        with pytest.raises(errors.ClientGone) as caught:
            transaction.run(desk.connection, work(desk, 1), deadline=soon(), on_claimed=end)
    assert caught.value.outcome == "rolled_back"
    assert desk.connection.settle(soon())
    assert logged(oracle) == []
    assert run(desk.connection, work(desk, 1)).body == b'{"id":1,"word":"w"}'
