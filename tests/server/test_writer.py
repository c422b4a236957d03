"""Lines are written by a thread that alone waits for whoever reads them."""

import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from select import PIPE_BUF

import pytest

from gateway.server.writer import LONGEST, ErrorStream, LineWriter


class Pipe:
    """A pipe, and what has been read from it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.seen = b""

    def read_until(self, end: bytes) -> bytes:
        return self.read_while(lambda: end not in self.seen)

    def read_while(self, condition: Callable[[], bool]) -> bytes:
        while condition():
            piece = os.read(self.reader, 65536)
            assert piece
            self.seen += piece
        return self.seen

    def close(self) -> None:
        # NOTE: the writing end stays open. A writer's thread may still have lines for it, and would write them to
        # whatever else had got its number, such as the next test's pipe.
        with suppress(OSError):
            os.close(self.reader)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_lines_arrive_whole_and_in_order(pipe: Pipe) -> None:
    lines = LineWriter(pipe.writer)
    for number in range(1000):
        lines.write(f"line {number}")
    assert pipe.read_until(b"line 999\n").decode().splitlines() == [f"line {number}" for number in range(1000)]


def test_lines_that_are_made_later_keep_their_place(pipe: Pipe) -> None:
    lines = LineWriter(pipe.writer)
    for number in range(100):
        lines.write_later(f"made {number}".format)
        lines.write(f"given {number}")
    expected = "".join(f"made {number}\ngiven {number}\n" for number in range(100)).encode()
    assert pipe.read_until(b"given 99\n") == expected


def test_a_line_that_cannot_be_made_is_told_in_its_place_and_others_are_written(pipe: Pipe) -> None:
    lines = LineWriter(pipe.writer)
    lines.write_later("{missing}".format)
    lines.write_later("next".format)
    assert pipe.read_until(b"next\n") == b"a line of the log cannot be made: KeyError: 'missing'\nnext\n"


def test_lines_that_come_together_are_written_together_but_never_more_than_a_pipe_takes_as_a_whole() -> None:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lines = LineWriter(writer.fileno())
    for number in range(1000):
        lines.write(f"line {number:04} {'x' * 89}")  # 100 bytes with its end
    written: list[bytes] = []
    while sum(len(each) for each in written) < 100_000:
        written.append(reader.recv(1 << 20))
    reader.close()
    writer.close()
    assert all(len(each) <= PIPE_BUF and each.endswith(b"\n") for each in written)
    assert len(written) < 500
    assert b"".join(written).decode().split()[1::3] == [f"{number:04}" for number in range(1000)]


def test_nobody_waits_for_a_pipe_that_is_not_read_and_what_was_dropped_is_counted(pipe: Pipe) -> None:
    lines = LineWriter(pipe.writer, most=100)
    line = "x" * 1000
    began = time.monotonic()
    for _ in range(5000):
        lines.write(line)
    assert time.monotonic() - began < 1

    def dropped() -> int:
        # Told more than once where the writer had its turn after the first lines were dropped.
        return sum(map(int, re.findall(rb"(\d+) lines of the log were dropped", pipe.seen)))

    pipe.read_while(lambda: pipe.seen.count(line.encode()) + dropped() < 5000)
    assert dropped() > 4000


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_writes_its_own_lines_and_not_those_that_wait_in_its_parent(pipe: Pipe) -> None:
    lines = LineWriter(pipe.writer, most=500)
    for _ in range(200):
        lines.write("p" * 1000)  # more than the pipe takes: the thread is in write(2), lines are in the queue
    child = os.fork()
    if not child:
        lines.write("child")
        lines.flush()
        os._exit(0)
    pipe.read_while(lambda: pipe.seen.count(b"p\n") < 200 or b"child\n" not in pipe.seen)
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(pipe.seen.decode().splitlines()) == ["child", *["p" * 1000] * 200]


def test_the_end_of_a_process_does_not_wait_long_for_a_reader(pipe: Pipe) -> None:
    lines = LineWriter(pipe.writer)
    for _ in range(200):
        lines.write("x" * 1000)
    began = time.monotonic()
    lines.flush()
    assert 0.9 < time.monotonic() - began < 5


def test_a_reader_that_is_gone_ends_nothing(pipe: Pipe) -> None:
    lines = LineWriter(pipe.writer)
    os.close(pipe.reader)
    lines.write("to nobody")
    lines.flush()
    lines.write("to nobody")
    lines.flush()


def test_a_line_without_end_is_cut(pipe: Pipe) -> None:
    lines = LineWriter(pipe.writer)
    lines.write("y" * (LONGEST + 5))
    assert pipe.read_until(b"more)\n").endswith(b"y ... (5 characters more)\n")


def test_what_is_printed_to_standard_error_is_written_by_lines(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = LineWriter(pipe.writer)
    stream = ErrorStream(lines.write, lines.flush)
    monkeypatch.setattr(sys, "stderr", stream)
    print("one", 1, file=sys.stderr)
    print("two\nthree\nfo", end="", file=sys.stderr)
    stream.finish()
    assert pipe.read_until(b"fo\n") == b"one 1\ntwo\nthree\nfo\n"
