"""Bodies of records: all or nothing in constant memory, the first bad record named, and the truth told of every cut."""

import random
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.postgres import idempotency
from tests.live import cutting
from tests.live.cutting import Cut
from tests.live.gateways import Gateway, problem, serving_queries, wait_until
from tests.live.loading import NDJSON, QUERIES, SETTINGS, TABLES, head, items, lines, send
from tests.live.memory import forget_most, most_held
from tests.live.workers import Wire

if TYPE_CHECKING:
    import httpx


@pytest.fixture(scope="module")
def loaded(cluster: Cluster) -> Iterator[Cluster]:
    cluster.primary.sql(TABLES, shop.DATABASE)
    cluster.primary.sql(idempotency.DDL, shop.DATABASE)
    cluster.primary.sql(f"GRANT ALL ON {idempotency.TABLE} TO gateway", shop.DATABASE)
    yield cluster
    cluster.primary.sql("SET client_min_messages = warning; DROP SCHEMA bulk CASCADE", shop.DATABASE)


@pytest.fixture(scope="module")
def shared(loaded: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving_queries(QUERIES, loaded, tmp_path_factory.mktemp("bulk"), SETTINGS) as node:
        yield node


@pytest.fixture
def node(shared: Gateway, loaded: Cluster) -> Gateway:
    loaded.primary.sql("TRUNCATE bulk.items, bulk.ruled", shop.DATABASE)
    return shared


class TestWhole:
    @pytest.mark.parametrize("query", ["add", "add_one"])
    @pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1234])
    def test_every_record_is_written_and_counted(self, node: Gateway, loaded: Cluster, query: str, count: int) -> None:
        ids = range(100, 100 + count)
        body = lines(ids) if query == "add" else "".join(f'{{"id": {i}}}\n' for i in ids)
        answer = send(node, query, body)
        assert answer.json() == {"affected": count, "outcome": "committed"}, answer.text
        assert answer.headers["Gateway-Endpoint"] == "primary"
        assert items(loaded) == list(ids)

    def test_a_token_shows_it(self, node: Gateway) -> None:
        token = send(node, "add", lines([7])).headers["Gateway-Consistency-Token"]
        assert node.run("items", {"Gateway-Consistency-Token": token}).json()["row_count"] == 1

    def test_the_number_of_rows_is_that_of_all_records(self, node: Gateway) -> None:
        send(node, "add", lines(range(100, 110)))
        body = '{"id": 103, "word": "a"}\n\n{"id": 105, "word": "b"}'
        assert send(node, "change", body).json()["affected"] == 4 + 6

    def test_where_nothing_can_be_put_around_it_each_is_a_message(self, node: Gateway, loaded: Cluster) -> None:
        answer = send(node, "add_ruled", '{"id": 1}\n{"id": 2}\n')
        assert answer.json() == {"affected": 2, "outcome": "committed"}
        assert items(loaded) == [1, 2]

    def test_csv_has_null_and_the_empty_text_and_whatever_is_quoted(self, node: Gateway) -> None:
        body = (
            "word,id,tags,doc,at\r\n"
            '"two\nlines, ""quoted""",1,"{a,""b c""}","{""a"": [1]}",2026-01-02 03:04:05+00\r\n'
            '"",2,,,\r\n'
            ",3,{},null,\r\n"
        )
        assert send(node, "add_all", body, "text/csv").json()["affected"] == 3
        first, second, third = node.run("items").json()["rows"]
        assert (first["word"], first["tags"], first["doc"]) == ('two\nlines, "quoted"', ["a", "b c"], {"a": [1]})
        assert (second["word"], second["tags"], second["doc"], second["at"]) == ("", None, None, None)
        assert (third["word"], third["tags"], third["doc"]) == (None, [], None)

    def test_what_was_streamed_can_be_sent_again(self, node: Gateway, loaded: Cluster) -> None:
        send(node, "add_all", '{"id":1,"word":"a,b","at":"2026-01-02T03:04:05Z","tags":["x"],"doc":{"n":1.50}}\n')
        loaded.wait_until_caught_up()
        rows = node.run("items").json()["rows"]
        for media in (NDJSON, "text/csv"):
            exported = node.run("items", {"Accept": media}).content
            loaded.primary.sql("TRUNCATE bulk.items", shop.DATABASE)
            assert send(node, "add_all", exported, media).json()["affected"] == 1
            loaded.wait_until_caught_up()
            assert node.run("items").json()["rows"] == rows

    def test_csv_without_a_header_and_with_another_delimiter(self, node: Gateway, loaded: Cluster) -> None:
        answer = send(node, "add", '5;"x"\n6;\n', 'text/csv; header=absent; delimiter=";"')
        assert answer.json()["affected"] == 2
        assert items(loaded) == [5, 6]

    def test_a_chunked_body_is_read_as_it_arrives(self, node: Gateway, loaded: Cluster) -> None:
        def pieces() -> Iterator[bytes]:
            text = lines(range(100, 3000)).encode()
            for begin in range(0, len(text), 777):
                yield text[begin : begin + 777]

        assert send(node, "add", pieces()).json()["affected"] == 2900
        assert len(items(loaded)) == 2900

    def test_memory_does_not_grow_with_the_body(self, node: Gateway) -> None:
        filler = "x" * 900
        (worker,) = node.workers()
        send(node, "add", lines(range(100, 200)))
        before = forget_most(worker)

        def pieces() -> Iterator[bytes]:
            for i in range(1000, 41_000):
                yield f'{{"id": {i}, "word": "{filler}"}}\n'.encode()

        assert send(node, "add", pieces()).json()["affected"] == 40_000
        assert most_held(worker) - before < 32 << 20

    def test_others_are_served_meanwhile(self, node: Gateway) -> None:
        done: list[httpx.Response] = []

        def write() -> None:
            with node.new_client() as client:
                done.append(
                    client.post("/query/add", content=lines(range(100, 30_000)), headers={"Content-Type": NDJSON})
                )

        thread = threading.Thread(target=write)
        thread.start()
        times = sorted(node.run("items").elapsed.total_seconds() for _ in range(50))
        thread.join()
        assert done[0].json()["affected"] == 29_900
        assert times[25] < 0.1


class TestBad:
    @pytest.mark.parametrize(
        ("bad", "code", "status"),
        [
            ('{"id": "x"}', "invalid_arguments", 422),
            ('{"id": 13}', "invalid_arguments", 422),
            ('{"id": 100}', "conflict", 409),
            ('{"id": 1, "what": 2}', "invalid_arguments", 422),
            ("[1]", "invalid_json", 400),
            ('{"id": 1', "invalid_json", 400),
            ('{"id": 99999999999}', "invalid_arguments", 422),
        ],
    )
    @pytest.mark.parametrize("place", [0, 3, 700])
    def test_the_first_bad_record_is_named_and_nothing_is_written(
        self, node: Gateway, loaded: Cluster, bad: str, code: str, status: int, place: int
    ) -> None:
        rows = lines(range(100, 2000)).splitlines()
        rows[place + 1 : place + 1] = [bad]
        told = problem(send(node, "add", "\n".join(rows)), status, code)
        assert (told["step"], told["outcome"]) == (place + 1, "rolled_back")
        assert items(loaded) == []

    def test_of_two_bad_records_the_first_is_named_whoever_finds_it(self, node: Gateway) -> None:
        body = lines([100, 101]) + '{"id": 100}\n{"id": "no number"}\n'
        assert problem(send(node, "add", body), 409, "conflict")["step"] == 2
        body = lines([100, 101]) + '{"id": "no number"}\n{"id": 100}\n'
        assert problem(send(node, "add", body), 422, "invalid_arguments")["step"] == 2

    @pytest.mark.parametrize(
        ("body", "step"),
        [
            ("id,word\n1,a,b\n", 0),
            ("id,word\n1,a\n2\n", 1),
            ('id,word\n1,a\n2,"b\n', None),
            ('id,word\n1,a"b"\n', 0),
            ("id,what\n1,a\n", 0),
            ("id,id\n1,1\n", None),
            ("", None),
        ],
    )
    def test_csv_that_is_none_is_refused(self, node: Gateway, loaded: Cluster, body: str, step: int | None) -> None:
        answer = send(node, "add", body, "text/csv")
        if not body:
            problem(answer, 400, "invalid_request")
            return
        assert (answer.status_code, answer.json()["step"], answer.json()["outcome"]) in (
            (400, step, "rolled_back"),
            (422, step, "rolled_back"),
        )
        assert items(loaded) == []

    def test_limits(self, node: Gateway) -> None:
        problem(send(node, "add", '{"id": 1, "word": "%s"}' % ("x" * 70_000)), 413, "body_too_large")
        problem(send(node, "add", 'id,word\n1,"%s' % ("x\n" * 70_000), "text/csv"), 413, "body_too_large")
        assert b"413" in node.talk(head(300_000_000)).splitlines()[0]

    def test_records_are_for_writes_and_in_plain(self, node: Gateway) -> None:
        problem(send(node, "items", "{}\n"), 415, "unsupported_media_type")
        problem(send(node, "add", b"\x1f\x8b", Content_Encoding="gzip"), 415, "unsupported_media_type")
        problem(send(node, "add", "id\n1\n", "text/csv; delimiter=x"), 415, "unsupported_media_type")
        problem(send(node, "unheard_of", "{}\n"), 404, "unknown_query")


class TestWaiting:
    def test_expect_is_honoured_before_the_body_is_read(self, node: Gateway, loaded: Cluster) -> None:
        with Wire(node.connect()) as client:
            client.send(head(10, expect=True))
            assert client.answer().status == 100
            assert client.send(b'{"id": 1}\n').answer().json() == {"affected": 1, "outcome": "committed"}
        with Wire(node.connect()) as client:  # nothing is asked for where it would not be read
            client.send(head(10, "unheard_of", expect=True))
            assert client.answer().status == 404
            assert client.is_closed(within=5.0)
        assert items(loaded) == [1]

    def test_the_next_request_is_read_behind_the_body(self, node: Gateway) -> None:
        with Wire(node.connect()) as client:
            first, second = '{"id": 1}\n', '{"id": 2}'
            client.send(b"".join(head(len(text)) + text.encode() for text in (first, second)))
            assert [client.answer().json()["affected"] for _ in range(2)] == [1, 1]

    def test_a_client_that_stops_is_given_up_and_nothing_is_written(self, node: Gateway, loaded: Cluster) -> None:
        with Wire(node.connect()) as client:
            answer = client.send(head(1000) + lines([1, 2]).encode()).answer()
            assert (answer.status, answer.json()["outcome"]) == (408, "rolled_back")
        assert items(loaded) == []

    def test_timeout_is_for_the_whole_where_the_query_says_so(self, node: Gateway, loaded: Cluster) -> None:
        def slowly() -> Iterator[bytes]:
            for i in range(100, 115):
                yield f'{{"id": {i}}}\n'.encode()
                time.sleep(0.1)

        told = problem(send(node, "add_in_time", slowly()), 504, "deadline_exceeded")
        assert told["outcome"] == "rolled_back"
        assert items(loaded) == []
        assert send(node, "add_one", slowly()).json()["affected"] == 15


class TestCut:
    def test_a_client_that_is_cut_off_leaves_nothing(self, node: Gateway, loaded: Cluster) -> None:
        """At random points of the body, by a reset or a plain end."""
        chance = random.Random(7)  # noqa: S311 - the same cuts in each run
        body = lines(range(100, 5000)).encode()
        for number in range(20):
            client = Wire(node.connect())
            client.send(head(len(body)) + body[: chance.randrange(len(body))])
            if number % 2:
                client.reset()
            else:
                client.end().sock.close()
        wait_until(lambda: node.health()["groups"]["write"]["leased"] == 0, "all were given up")
        assert items(loaded) == []

    @pytest.mark.parametrize("where", [Cut.BEFORE, Cut.AFTER])
    def test_what_becomes_of_a_commit_that_is_cut_off_is_told_truthfully(
        self, loaded: Cluster, tmp_path: Any, where: Cut
    ) -> None:
        loaded.primary.sql("TRUNCATE bulk.items", shop.DATABASE)
        wire = cutting.Wire(loaded.primary)
        endpoints = {"primary": wire.dsn(shop.DATABASE, shop.ROLE)}
        with serving_queries(QUERIES, loaded, tmp_path, SETTINGS, endpoints=endpoints) as node:
            wire.cut(where)
            answer = send(node, "add", lines(range(100, 1500)))
        wire.close()
        if where is Cut.AFTER:
            assert answer.json() == {"affected": 1400, "outcome": "committed"}
            assert len(items(loaded)) == 1400
        else:
            assert problem(answer, 503, "connection_lost")["outcome"] == "rolled_back"
            assert items(loaded) == []

    def test_a_server_that_is_lost_in_the_middle_is_a_rollback_and_nothing_is_run_again(
        self, node: Gateway, loaded: Cluster
    ) -> None:
        found = "FROM pg_stat_activity WHERE query LIKE '%gw\\_bulk%' AND pid <> pg_backend_pid()"
        ends = f"SELECT pg_terminate_backend(pid) {found}"

        def pieces() -> Iterator[bytes]:
            yield lines(range(100, 1100)).encode()
            wait_until(lambda: loaded.primary.sql(ends), "it runs")
            yield lines(range(1100, 2100)).encode()

        told = problem(send(node, "add", pieces()), 503, "connection_lost")
        assert told["outcome"] == "rolled_back"
        assert items(loaded) == []


class TestKeys:
    def test_a_repeat_gets_the_first_answer(self, node: Gateway, loaded: Cluster) -> None:
        body = lines(range(100, 1600))
        first = send(node, "add", body, Idempotency_Key="a")
        again = send(node, "add", body, Idempotency_Key="a")
        assert first.json() == again.json() == {"affected": 1500, "outcome": "committed"}
        assert (first.headers.get("Idempotency-Replayed"), again.headers.get("Idempotency-Replayed")) == (None, "true")
        assert len(items(loaded)) == 1500

    def test_another_body_is_refused(self, node: Gateway, loaded: Cluster) -> None:
        send(node, "add", lines([1]), Idempotency_Key="b")
        problem(send(node, "add", lines([2]), Idempotency_Key="b"), 422, "idempotency_mismatch")
        problem(node.run("add", {"Idempotency-Key": "b"}, id=1, word="w1"), 422, "idempotency_mismatch")
        assert items(loaded) == [1]

    def test_a_failure_leaves_the_key_free(self, node: Gateway) -> None:
        problem(send(node, "add", '{"id": 13}', Idempotency_Key="c"), 422, "invalid_arguments")
        assert send(node, "add", '{"id": 14}', Idempotency_Key="c").json()["affected"] == 1

    def test_of_several_at_a_time_one_runs_and_all_get_its_answer(self, node: Gateway, loaded: Cluster) -> None:
        body = lines(range(100, 2000))
        answers: list[httpx.Response] = []

        def write() -> None:
            with node.new_client() as client:
                headers = {"Content-Type": NDJSON, "Idempotency-Key": "d"}
                answers.append(client.post("/query/add", content=body, headers=headers))

        threads = [threading.Thread(target=write) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.json() for answer in answers] == [{"affected": 1900, "outcome": "committed"}] * 6
        assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 5
        assert len(items(loaded)) == 1900


class TestMaxAffected:
    """Decided before the COMMIT: what touches more is not there afterwards."""

    def words(self, cluster: Cluster) -> set[str]:
        return set(cluster.primary.sql("SELECT DISTINCT word FROM bulk.items", shop.DATABASE).split())

    def test_a_write_that_touches_more_is_rolled_back(self, node: Gateway, loaded: Cluster) -> None:
        send(node, "add", lines([101, 102, 103]))
        few, enough = {"Prefer": "max-affected=2"}, {"Prefer": "max-affected=3"}
        told = problem(node.run("change", few, id=103, word="new"), 409, "unexpected_affected")
        assert (told["outcome"], told["step"]) == ("rolled_back", None)
        assert "new" not in self.words(loaded)
        answer = node.run("change", enough, id=103, word="new")
        assert answer.json() == {"affected": 3, "outcome": "committed"}
        assert answer.headers["Preference-Applied"] == "max-affected=3"
        assert self.words(loaded) == {"new"}

    def test_in_lists_and_transactions_each_step_is_held_to_it(self, node: Gateway, loaded: Cluster) -> None:
        send(node, "add", lines([101, 102, 103]))
        few = {"Prefer": "max-affected=2"}
        listed = [{"id": 102, "word": "a"}, {"id": 103, "word": "b"}]
        for path, body in (
            ("/query/change", listed),
            ("/transaction", {"steps": [{"query": "change", "arguments": arguments} for arguments in listed]}),
        ):
            told = problem(node.client.post(path, json=body, headers=few), 409, "unexpected_affected")
            assert (told["outcome"], told["step"]) == ("rolled_back", 1)
        assert self.words(loaded) == {"w101", "w102", "w103"}
        assert node.client.post("/query/change", json=listed[:1], headers=few).status_code == 200

    def test_a_body_of_records_is_held_to_it_as_a_whole(self, node: Gateway, loaded: Cluster) -> None:
        told = problem(
            send(node, "add", lines(range(100, 1200)), Prefer="max-affected=1099"), 409, "unexpected_affected"
        )
        assert told["outcome"] == "rolled_back"
        assert items(loaded) == []
        assert send(node, "add", lines(range(100, 1200)), Prefer="max-affected=1100").status_code == 200

    def test_what_does_not_tell_its_count_is_refused(self, node: Gateway, loaded: Cluster) -> None:
        problem(node.run("add_one", {"Prefer": "max-affected=1"}, id=1), 400, "invalid_request")
        problem(node.run("add", {"Prefer": "max-affected=many"}, id=1), 400, "invalid_request")
        assert items(loaded) == []
