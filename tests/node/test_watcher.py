"""Looking at one endpoint, where no server is needed to show it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from gateway.demo.ports import find_port
from gateway.events import ignore
from gateway.node.history import History
from gateway.node.watcher import Watcher
from gateway.postgres.driver import Address, Driver
from gateway.postgres.probing import Look
from gateway.rotation.endpoint import EndpointState, Reason, Role
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.settings import ProbeSettings


@contextmanager
def deaf() -> Iterator[int]:
    """A port that accepts connections, by the kernel, and says nothing."""
    port = find_port()
    with socket.create_server(("127.0.0.1", port)):
        yield port


def watcher(port: int, rotation: Rotation, *, stood_still: bool = False) -> Watcher:
    address = Address(dsn=f"host=127.0.0.1 port={port} dbname=x user=x")
    return Watcher(
        "r",
        driver=Driver({"r": address}, read_only=True),
        rotation=rotation,
        history=History(),
        settings=ProbeSettings(interval=0.5, timeout=0.1),
        is_wanted=lambda: True,
        stood_still_since=lambda _: stood_still,
        after_look=lambda _: None,
        observe=ignore,
    )


@pytest.fixture
def rotation() -> Rotation:
    return Rotation(views=LocalViews(["r"]))


def test_a_server_that_says_nothing_costs_one_look(rotation: Rotation) -> None:
    with deaf() as port:
        began = monotonic()
        watcher(port, rotation)._look_once()
        assert 0.1 <= monotonic() - began < 2
    view = rotation.view("r")
    assert (view.state, view.reason) == (EndpointState.OUT, Reason.TIMEOUT)


def test_a_look_that_was_late_because_we_were_says_nothing(rotation: Rotation) -> None:
    with deaf() as port:
        watcher(port, rotation, stood_still=True)._look_once()
    assert rotation.view("r").state is EndpointState.UNKNOWN


def test_a_refused_look_counts_whether_we_were_late_or_not(rotation: Rotation) -> None:
    with deaf() as port:
        pass
    watcher(port, rotation, stood_still=True)._look_once()
    assert rotation.view("r").reason is Reason.REFUSED


def test_an_answer_that_we_were_too_late_to_read_says_nothing_of_now(
    rotation: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We were stopped while the answer came: the server may be gone by now."""
    mine = watcher(1, rotation)
    now = monotonic()
    late = Look(
        role=Role.PRIMARY,
        ping_ms=9000.0,
        server_version="18.6",
        began=now,
        ended=now + 9,
        position=1,
        timeline=1,
        streaming=None,
        received=None,
        replayed_at=None,
        clock=0.0,
    )
    monkeypatch.setattr(mine, "_seen", lambda _: late)
    mine._look_once()
    assert rotation.view("r").state is EndpointState.UNKNOWN
