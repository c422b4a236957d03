"""The key set in force, whatever its issuer does."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.auth import key_sets
from gateway.auth.key_set import KeySet
from gateway.auth.key_sets import ASKED_AGAIN, FETCH_EVERY, LONGEST_USE, WITHOUT_ANY, FetchedKeySet, FileKeySet
from gateway.events import Event, KeySetNotFetched
from gateway.node.fetching import FetchFailed, fetch
from tests.auth.issuer import Issuer, SigningKey, key_set

OLD, NEW = SigningKey("old"), SigningKey("new")
ALGORITHMS = ("ES256",)


class Node:
    """Workers of one node, whose turns are taken by hand."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.now = 1000.0
        self.content: bytes | Exception = key_set(OLD)
        self.asked = 0
        self.seen: list[Event] = []
        self.workers: list[FetchedKeySet] = []

    def worker(self) -> FetchedKeySet:
        made = FetchedKeySet(
            "http://issuer/keys",
            ALGORITHMS,
            self.folder,
            observe=self.seen.append,
            get=self.get,
            clock=lambda: self.now,
        )
        self.workers.append(made)
        return made

    def get(self, _url: str) -> bytes:
        self.asked += 1
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    def turn(self, after: float = 0.0) -> None:
        """Everybody's next two turns: what one stores the others take over."""
        self.now += after
        for worker in self.workers * 2:
            worker._turn()


@pytest.fixture(params=["a node", "alone"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path if request.param == "a node" else None)
    yield made
    for worker in made.workers:
        worker.close()


def in_force(worker: FetchedKeySet | FileKeySet) -> str | None:
    current = worker.current()
    if current is None:
        return None
    return "old" if current.candidates("old", "ES256") else "new" if current.candidates("new", "ES256") else "other"


def test_one_worker_fetches_for_all(tmp_path: Path) -> None:
    node = Node(tmp_path)
    with ExitStack() as stack:
        workers = [node.worker() for _ in range(3)]
        for worker in workers:
            stack.callback(worker.close)
        node.turn()
        assert (node.asked, [in_force(worker) for worker in workers]) == (1, ["old"] * 3)
        workers[0].close()
        node.workers.remove(workers[0])
        node.content = key_set(NEW)
        node.turn(FETCH_EVERY)
        assert (node.asked, [in_force(worker) for worker in workers[1:]]) == (2, ["new"] * 2)


def test_a_worker_that_starts_takes_what_is_there(tmp_path: Path) -> None:
    node = Node(tmp_path)
    first = node.worker()
    node.turn()
    second = node.worker()
    second.start()
    assert (in_force(second), node.asked) == ("old", 1)
    first.close()
    second.close()


def test_it_is_fetched_again_every_five_minutes(node: Node) -> None:
    worker = node.worker()
    node.turn()
    node.content = key_set(NEW)
    node.turn(FETCH_EVERY - 1)
    assert (in_force(worker), node.asked) == ("old", 1)
    node.turn(1)
    assert (in_force(worker), node.asked) == ("new", 2)


def test_a_key_that_is_missing_is_asked_for_once_in_thirty_seconds(node: Node) -> None:
    worker = node.worker()
    node.turn()
    node.content = key_set(NEW)
    for _ in range(ASKED_AGAIN.__ceil__() * 4):
        worker.want()
        node.turn(0.249)
    assert node.asked == 1
    node.turn(1)
    assert (in_force(worker), node.asked) == ("new", 2)
    for _ in range(ASKED_AGAIN.__ceil__() * 12):
        worker.want()
        node.turn(0.25)
    assert node.asked == 5


BAD = {
    "silent": FetchFailed("no answer within 3 s"),
    "garbage": b"<html>",
    "not UTF-8": b"\xff",
    "empty": b'{"keys": []}',
    "another's": b'{"keys": [{"kty": "oct", "k": "AAAA"}]}',
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_bad_answer_changes_nothing_and_is_told(node: Node, content: bytes | Exception) -> None:
    worker = node.worker()
    node.turn()
    before = worker.current()
    node.content = content
    node.turn(FETCH_EVERY)
    assert worker.current() is before
    assert bool(worker.fault)
    assert [type(event) for event in node.seen] == [KeySetNotFetched]
    node.content = key_set(OLD)
    node.turn(ASKED_AGAIN)
    assert not bool(worker.fault)
    assert worker.current() is before  # the same keys: what was verified by them is kept


def test_an_issuer_that_flaps_empties_no_cache(node: Node) -> None:
    worker = node.worker()
    node.turn()
    before = worker.current()
    for number in range(20):
        node.content = FetchFailed("down") if number % 2 else key_set(OLD)
        node.turn(FETCH_EVERY)
        assert worker.current() is before


def test_without_any_answer_there_is_no_set_and_it_is_tried_more_often(node: Node) -> None:
    node.content = FetchFailed("down")
    worker = node.worker()
    node.turn()
    assert in_force(worker) is None
    node.content = key_set(OLD)
    node.turn(WITHOUT_ANY - 1)
    assert node.asked == 1
    node.turn(1)
    assert in_force(worker) == "old"


def test_a_set_is_used_for_a_day_after_it_was_confirmed(node: Node) -> None:
    worker = node.worker()
    node.turn()
    node.content = FetchFailed("down")
    node.turn(LONGEST_USE)
    assert in_force(worker) == "old"
    node.turn(1)
    assert in_force(worker) is None
    node.content = key_set(OLD)
    node.turn(ASKED_AGAIN)
    assert in_force(worker) == "old"


def test_a_full_disk_keeps_no_worker_from_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key_sets, "replace", full)
    node = Node(tmp_path)
    worker = node.worker()
    node.turn()
    assert in_force(worker) == "old"
    worker.close()


def test_a_file_is_taken_over_when_it_changes(tmp_path: Path) -> None:
    file, seen = tmp_path / "jwks.json", list[Event]()
    worker = FileKeySet(file, ALGORITHMS, observe=seen.append)
    assert in_force(worker) is None
    for content, expected in ((key_set(OLD), "old"), (b"{", "old"), (key_set(NEW), "new")):
        file.write_bytes(content)
        os.utime(file, ns=(len(content), len(content)))
        worker.look()
        assert in_force(worker) == expected
        assert (worker.fault is None) is (content != b"{")
    assert len(seen) == 2


# --- one fetch --------------------------------------------------------------------------------------------------------


def test_an_answer_is_fetched() -> None:
    issuer = Issuer(key_set(OLD))
    with issuer.serving() as url:
        assert fetch(url, seconds=5, most=10_000) == issuer.content


def slow(issuer: Issuer) -> None:
    issuer.delay = 30


def dribbling(issuer: Issuer) -> None:
    issuer.dribbles = True


def moved(issuer: Issuer) -> None:
    issuer.status = 302


def broken(issuer: Issuer) -> None:
    issuer.status = 500


def large(issuer: Issuer) -> None:
    issuer.content = b"x" * 200_000


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (slow, "no answer within 0.5 s"),
        (dribbling, "no answer within 0.5 s"),
        (moved, "the answer is 302"),
        (broken, "the answer is 500"),
        (large, "the answer has more than 100000 bytes"),
    ],
)
def test_what_is_no_answer_ends_in_time_with_a_reason(behave: Callable[[Issuer], None], message: str) -> None:
    issuer = Issuer(b"x" * 1000)
    behave(issuer)
    with issuer.serving() as url, pytest.raises(FetchFailed, match=message):
        fetch(url, seconds=0.5, most=100_000)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "https://127.0.0.1:1/", "http://nowhere.invalid/", "http://x:y/"]
)
def test_where_nobody_is_there_is_a_reason(url: str) -> None:
    with pytest.raises(FetchFailed):
        fetch(url, seconds=2, most=1000)


def test_a_set_is_read_from_a_chunked_answer() -> None:
    from gateway.node.fetching import _whole

    pieces = iter([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"0\r\n\r\n", b"never read"])
    assert _whole(lambda: next(pieces), 1000).endswith(b"3\r\nabc\r\n0\r\n\r\n")
    assert next(pieces) == b"never read"


def test_equal_sets_are_one() -> None:
    assert KeySet.parse(key_set(OLD), ALGORITHMS) == KeySet.parse(key_set(OLD), ALGORITHMS)
