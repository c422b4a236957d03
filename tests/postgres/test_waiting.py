"""One wait for three things: the server's socket, the deadline, the client hanging up."""

import select
import socket
import struct
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from gateway.errors import ClientGone
from gateway.postgres.run import Run
from gateway.postgres.waiting import ClientLeft, DeadlinePassed, EndpointWithdrawn, wait_for
from gateway.waiting import HALF_CLOSE_GRACE, ClientSocket, ThreadGate


@pytest.fixture
def server() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.fixture
def client() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection: our end of it, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    with near, far:
        yield near, far


Pair = tuple[socket.socket, socket.socket]


def run(deadline: float, client: ClientSocket | None = None) -> Run:
    """What a wait is for."""
    run = Run(deadline)
    run.client = client
    return run


def test_a_readable_server_ends_the_wait(server: Pair) -> None:
    near, far = server
    far.send(b"x")
    wait_for(near.fileno(), select.POLLIN, run(monotonic() + 5))


def test_a_writable_server_ends_the_wait(server: Pair) -> None:
    wait_for(server[0].fileno(), select.POLLOUT, run(monotonic() + 5))


def test_a_server_that_closed_ends_the_wait(server: Pair) -> None:
    near, far = server
    far.close()
    wait_for(near.fileno(), select.POLLIN, run(monotonic() + 5))


def test_a_silent_server_is_waited_for_until_the_deadline(server: Pair) -> None:
    deadline = monotonic() + 0.05
    with pytest.raises(DeadlinePassed):
        wait_for(server[0].fileno(), select.POLLIN, run(deadline))
    assert 0 <= monotonic() - deadline < 0.5


def test_a_deadline_that_is_over_wins_over_a_ready_server(server: Pair) -> None:
    near, far = server
    far.send(b"x")
    with pytest.raises(DeadlinePassed):
        wait_for(near.fileno(), select.POLLIN, run(monotonic() - 1))


def test_a_reset_by_the_client_ends_the_wait_at_once(server: Pair, client: Pair) -> None:
    near, far = client
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    before = monotonic()
    with pytest.raises(ClientLeft):
        wait_for(server[0].fileno(), select.POLLIN, run(before + 5, ClientSocket(near)))
    assert monotonic() - before < HALF_CLOSE_GRACE


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_an_end_from_the_client_leaves_the_answer_some_time(how: str, server: Pair, client: Pair) -> None:
    near, far = client
    if how == "close":
        far.close()
    else:
        far.shutdown(socket.SHUT_WR)
    before = monotonic()
    with pytest.raises(ClientLeft):
        wait_for(server[0].fileno(), select.POLLIN, run(before + 5, ClientSocket(near)))
    assert HALF_CLOSE_GRACE - 0.05 <= monotonic() - before < HALF_CLOSE_GRACE + 0.5


def test_an_answer_within_that_time_still_counts(server: Pair, client: Pair) -> None:
    near, far = client
    far.shutdown(socket.SHUT_WR)
    answer = threading.Timer(0.05, server[1].send, [b"x"])
    answer.start()
    wait_for(server[0].fileno(), select.POLLIN, run(monotonic() + 5, ClientSocket(near)))
    answer.join()


def _wait_again_and_again(near: socket.socket, client: ClientSocket, deadline: float) -> None:
    while True:
        wait_for(near.fileno(), select.POLLIN, run(deadline, client))


def test_the_time_left_to_a_half_closed_client_is_not_given_anew_at_every_wait(server: Pair, client: Pair) -> None:
    near, far = client
    far.shutdown(socket.SHUT_WR)
    watched = ClientSocket(near)
    began = monotonic()
    server[1].send(b"x")
    with pytest.raises(ClientLeft):
        _wait_again_and_again(server[0], watched, began + 5)  # it never comes to the end of what is sent
    assert monotonic() - began < HALF_CLOSE_GRACE + 0.5


def test_the_deadline_holds_for_a_client_that_is_leaving(server: Pair, client: Pair) -> None:
    near, far = client
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(DeadlinePassed):
        wait_for(server[0].fileno(), select.POLLIN, run(monotonic() + 0.05, ClientSocket(near)))


def test_bytes_from_the_client_are_none_of_this_waits_business(server: Pair, client: Pair) -> None:
    near, far = client
    far.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(DeadlinePassed):
        wait_for(server[0].fileno(), select.POLLIN, run(monotonic() + 0.05, ClientSocket(near)))
    assert near.recv(3) == b"GET"


def test_a_wait_asks_again_and_again_whether_to_give_up(server: Pair) -> None:
    read = run(monotonic() + 5)
    read.reads = True
    began = monotonic()
    leaving = threading.Timer(0.15, setattr, (read, "is_abandoned", True))
    leaving.start()
    with pytest.raises(EndpointWithdrawn):
        wait_for(server[0].fileno(), select.POLLIN, read)
    leaving.join()
    assert 0.15 <= monotonic() - began < 2


def test_a_gate_of_a_thread_lets_through_and_gives_up_at_its_time() -> None:
    gate = ThreadGate()
    opening = threading.Timer(0.02, gate.open)
    opening.start()
    gate.wait(5)
    opening.join()
    began = monotonic()
    ThreadGate().wait(0.12)
    assert 0.12 <= monotonic() - began < 2


def test_who_waits_at_a_gate_leaves_with_the_client_at_once_or_after_the_grace_of_a_half_close(client: Pair) -> None:
    near, far = client
    far.shutdown(socket.SHUT_WR)
    began = monotonic()
    with pytest.raises(ClientGone):
        ThreadGate().wait(5, ClientSocket(near))
    assert HALF_CLOSE_GRACE <= monotonic() - began < 2
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    began = monotonic()
    with pytest.raises(ClientGone):
        ThreadGate().wait(5, ClientSocket(near))
    assert monotonic() - began < 2
