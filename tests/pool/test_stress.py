"""Hundreds of threads on few slots, with and without trouble: the promises of the queue, checked from outside."""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gateway.pool.driver import ConnectError
from gateway.rotation.endpoint import Reason, Role
from tests.pool.fake import FakeServer, Rig, WatchedGroup

THREADS = 300
LEASES = 8
SIZE = 7
PATIENCE = 30.0


class Crowd:
    """Threads that lease again and again; notes when each request came, was served and was done, in one order."""

    def __init__(self, group: WatchedGroup, *, seed: int) -> None:
        self.errors: list[BaseException] = []
        self.spans: list[tuple[int, int]] = []
        """Of every request: a moment before it came and a moment after it was served."""
        self.most = 0
        self.shared = 0
        """How often a connection was seen with two owners."""
        self._group = group
        self._start = threading.Barrier(THREADS)
        self._owned: set[int] = set()
        self._lock = threading.Lock()
        self._seed = seed

    def run(self) -> None:
        threads = [threading.Thread(target=self._request, args=(number,), daemon=True) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        assert not any(thread.is_alive() for thread in threads), f"somebody was never woken: {self._group!r}"

    def _request(self, number: int) -> None:
        dice = random.Random(f"{self._seed} {number}")  # noqa: S311 -- the dice of a test
        try:
            self._start.wait(PATIENCE)
            for _ in range(LEASES):
                came = next(self._group.watched.moments)
                with self._group.lease(time.monotonic() + PATIENCE) as lease:
                    self.spans.append((came, next(self._group.watched.moments)))
                    connection = lease.connection
                    with self._lock:
                        self.shared += id(connection) in self._owned
                        self._owned.add(id(connection))
                        self.most = max(self.most, len(self._owned))
                    for _ in range(dice.randrange(4)):
                        os.sched_yield()
                    with self._lock:
                        self._owned.discard(id(connection))
        except BaseException as error:  # noqa: BLE001 -- the test looks at it
            self.errors.append(error)


class Connectors:
    """Starts threads that can be waited for."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def __call__(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


class Trouble:
    """Servers that refuse, drop what was just opened, and are withdrawn and admitted, all at random."""

    def __init__(self, rig: Rig, *, seed: int) -> None:
        self.count = 0
        self._rig = rig
        self._dice = random.Random(seed)  # noqa: S311 -- the dice of a test
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._stir, daemon=True)
        for server in rig.servers.values():
            server.on_connect = self._sabotage

    def __enter__(self) -> "Trouble":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        for server in self._rig.servers.values():
            server.on_connect = lambda: None
            self._rig.probe(server.name)

    def _sabotage(self) -> None:
        if self._dice.random() < 0.3:
            self.count += 1
            raise ConnectError(self._dice.choice([Reason.REFUSED, Reason.TIMEOUT, None]), "sabotage")

    def _stir(self) -> None:
        servers = list(self._rig.servers.values())
        while not self._over.wait(0.002):
            for connection in self._rig.driver.open:
                if self._dice.random() < 0.2:
                    connection.begin()
                    connection.sever()
                    self.count += 1
            server = self._dice.choice(servers)
            if self._dice.random() < 0.3:
                self._rig.withdraw(server.name)
            server.stillborn = self._dice.randrange(3)
            self._rig.probe(self._dice.choice(servers).name)


def overtaken(crowd: Crowd, group: WatchedGroup) -> list[tuple[int, int]]:
    """Requests that came after another had begun to wait, and were served before it was."""
    guilty = []
    waits = sorted(group.watched.waits)
    begun = 0
    latest = -1
    for came, served in sorted(crowd.spans):
        while begun < len(waits) and waits[begun][0] < came:
            latest = max(latest, waits[begun][1])
            begun += 1
        if served < latest:
            guilty.append((came, served))
    return guilty


@pytest.fixture
def hasty_switching() -> Iterator[None]:
    """Let Python switch threads a hundred times as often as it does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_switching")
@pytest.mark.parametrize("trouble", [False, True], ids=["calm", "trouble"])
def test_hundreds_of_threads_never_hold_more_than_the_slots_nobody_is_overtaken_or_forgotten_and_all_comes_home(
    trouble: bool,
) -> None:
    connectors = Connectors()
    servers = [FakeServer(name, Role.PRIMARY) for name in "abc"]
    rig = Rig(*servers, clock=time.monotonic, spawn=connectors, jitter=random.Random(1).random)  # noqa: S311 -- jitter
    group = rig.group("write", write=True, size=SIZE, queue=THREADS)
    crowd = Crowd(group, seed=1)
    if trouble:
        with Trouble(rig, seed=1) as made:
            crowd.run()
        assert made.count > 10
    else:
        crowd.run()
    connectors.join()

    assert crowd.errors == []
    assert len(crowd.spans) == THREADS * LEASES
    assert len(group.watched.waits) > THREADS  # there was a queue to speak of
    assert crowd.most <= SIZE
    assert crowd.shared == 0
    assert overtaken(crowd, group) == []
    stats = group.stats()
    assert (stats.leased, stats.waiting, stats.idle + stats.empty) == (0, 0, SIZE)
    assert len(rig.driver.open) == stats.idle
    if not trouble:
        assert group.watched.served == sorted(group.watched.joined)
        assert rig.driver.opened <= SIZE
