"""The wire breaks at the COMMIT: what is found out of a transaction by its mark."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg2.extensions
import pytest

from gateway.demo.cluster import Cluster
from gateway.postgres import transaction
from gateway.postgres.marks import Mark
from gateway.postgres.outcomes import Verdict, ask, judge
from gateway.postgres.session import Session
from gateway.postgres.single import Result
from gateway.postgres.work import Unresolved
from tests.live.cutting import Cut, wire_to
from tests.live.databases import Desk, connect, plain, soon
from tests.live.sessions import (
    INSERT,
    logged,
    small_database,
    wait_until,
)
from tests.live.works import Bench, encode, inserts, returning


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with small_database(cluster, "live_transaction_verdicts") as dsn:
        yield dsn


@pytest.mark.parametrize("piled", [True, False])
@pytest.mark.parametrize(("cut", "ids"), [(Cut.BEFORE, []), (Cut.AFTER, [1, 2])])
def test_what_became_of_a_transaction_is_found_out_by_its_mark(
    cut: Cut, ids: list[int], piled: bool, cluster: Cluster, tmp_path: Path, oracle: psycopg2.extensions.cursor
) -> None:
    with wire_to(cluster.primary) as wire:
        bench = Bench(Desk(connect(wire.dsn("live_transaction_verdicts")), tmp_path / "queries"))
        work = bench.work(*returning(1, 2), piled=piled, tracked=True)
        wire.cut(cut)
        with pytest.raises(Unresolved) as caught:
            transaction.run(bench.connection, work, deadline=soon())
        lost = caught.value
        assert (lost.error.code, lost.error.outcome) == ("connection_lost", "unknown")
        assert lost.body == b'{"id":1,"word":"w"}|{"id":2,"word":"w"}'
        assert lost.mark is not None
        assert bench.connection.closed
        assert verdict_of(connect(wire.dsn("live_transaction_verdicts")), lost.mark) is (
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
        bench = Bench(Desk(connect(wire.dsn("live_transaction_verdicts"), prepare=False), tmp_path / "queries"))
        assert bench.run(*inserts(1), piled=piled, tracked=True) == "1"
        oracle.execute("SELECT pg_stat_reset_shared('bgwriter')")  # as after a crash, which a pooler hides
        work = bench.work(*inserts(2), piled=piled, tracked=True)
        wire.cut(Cut.AFTER)
        with pytest.raises(Unresolved) as caught:
            transaction.run(bench.connection, work, deadline=soon())
        assert caught.value.mark is not None
        assert verdict_of(connect(wire.dsn("live_transaction_verdicts")), caught.value.mark) is Verdict.COMMITTED
    assert logged(oracle) == [1, 2]


@pytest.mark.usefixtures("oracle")
def test_without_a_mark_it_stays_unknown(cluster: Cluster, tmp_path: Path) -> None:
    with wire_to(cluster.primary) as wire:
        bench = Bench(Desk(connect(wire.dsn("live_transaction_verdicts")), tmp_path / "queries"))
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
