"""Names are looked up with a deadline, whatever the resolver does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from gateway.pool.driver import ConnectError
from gateway.postgres import resolving
from gateway.postgres.driver import Address, Driver
from gateway.postgres.resolving import Resolver
from gateway.postgres.waiting import DeadlinePassed
from gateway.rotation.endpoint import Reason


class Names:
    """A resolver that can be slow, or know no name."""

    def __init__(self, **addresses: tuple[str, ...]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, name: str) -> tuple[str, ...]:
        self.asked.append(name)
        assert self.answers.wait(10)
        if name not in self.addresses:
            raise OSError(f"{name} is not known")
        return self.addresses[name]

    @contextmanager
    def silent(self) -> Iterator[None]:
        self.answers.clear()
        try:
            yield
        finally:
            self.answers.set()


def soon(seconds: float = 5.0) -> float:
    return monotonic() + seconds


@pytest.fixture
def stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is to be asked for again."""
    monkeypatch.setattr(resolving, "FRESH", -1.0)


def test_an_answer_is_good_for_a_moment() -> None:
    names = Names(db=("10.0.0.1", "10.0.0.2"))
    resolver = Resolver(names)
    assert [resolver.addresses("db", soon()) for _ in range(3)] == [("10.0.0.1", "10.0.0.2")] * 3
    assert names.asked == ["db"]


@pytest.mark.usefixtures("stale")
def test_a_new_answer_is_taken() -> None:
    names = Names(db=("10.0.0.1",))
    resolver = Resolver(names)
    resolver.addresses("db", soon())
    names.addresses["db"] = ("10.0.0.9",)
    assert resolver.addresses("db", soon()) == ("10.0.0.9",)


def test_a_resolver_that_does_not_answer_holds_up_nobody_beyond_the_deadline() -> None:
    names = Names(db=("10.0.0.1",))
    resolver = Resolver(names)
    with names.silent():
        for _ in range(3):
            began = monotonic()
            with pytest.raises(DeadlinePassed):
                resolver.addresses("db", soon(0.05))
            assert monotonic() - began < 1
        assert names.asked == ["db"]  # one question, however many wait for its answer
    assert resolver.addresses("db", soon()) == ("10.0.0.1",)


@pytest.mark.usefixtures("stale")
def test_an_old_answer_does_until_there_is_a_new_one() -> None:
    names = Names(db=("10.0.0.1",))
    resolver = Resolver(names)
    resolver.addresses("db", soon())
    with names.silent():
        began = monotonic()
        assert resolver.addresses("db", soon()) == ("10.0.0.1",)
        assert monotonic() - began < 2
    del names.addresses["db"]
    assert resolver.addresses("db", soon()) == ("10.0.0.1",)


def test_a_name_that_is_not_known_is_told() -> None:
    resolver = Resolver(Names())
    with pytest.raises(OSError, match="db is not known"):
        resolver.addresses("db", soon())


def test_what_cannot_be_a_name_is_told() -> None:
    def idna(name: str) -> tuple[str, ...]:
        raise UnicodeError(name)

    with pytest.raises(OSError, match="is no host name"):
        Resolver(idna).addresses("a..b", soon())


def test_a_connect_ends_at_its_deadline_though_the_resolver_does_not_answer() -> None:
    names = Names()
    driver = Driver(
        {"db": Address(dsn="host=db sslmode=disable", allow_insecure=True)}, read_only=True, resolver=Resolver(names)
    )
    with names.silent(), pytest.raises(ConnectError) as caught:
        driver.connect("db", soon(0.05))
    assert caught.value.reason is Reason.TIMEOUT


def test_what_an_endpoints_names_stand_for() -> None:
    names = Names(db=("10.0.0.2",), other=("::1", "10.0.0.1"))
    dsns = {
        "name": "host=db",
        "several": "host=db,other,10.0.0.7,/run/pg",
        "unknown": "host=db,gone",
        "address": "host=10.0.0.7",
        "given": "host=db hostaddr=10.0.0.3",
        "socket": "host=/run/pg",
        "default": "dbname=shop",
    }
    driver = Driver({name: Address(dsn=dsn) for name, dsn in dsns.items()}, read_only=True, resolver=Resolver(names))
    found = {name: driver.resolve(name, soon()) for name in dsns}
    assert found == {
        "name": ("10.0.0.2",),
        "several": ("10.0.0.1", "10.0.0.2", "10.0.0.7", "::1"),
        "unknown": None,
        "address": (),
        "given": (),
        "socket": (),
        "default": (),
    }
