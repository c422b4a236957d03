"""What becomes of the board when processes are killed or stopped in the middle of changing it."""

import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import monotonic

from gateway.events import Event, ignore
from gateway.node.board import PATIENCE
from gateway.node.polling import Polling
from gateway.rotation.endpoint import EndpointState, EndpointView, Reason, Role
from gateway.rotation.moves import Probed, ProbeFailed
from gateway.rotation.rotation import Rotation
from gateway.waiting import ThreadWaits
from tests.node.boards import assert_whole, board, count, counted, process

KILLS = 40


def test_every_record_read_while_writers_are_killed_is_one_that_was_written(tmp_path: Path) -> None:
    observed: list[Event] = []
    reader = board(tmp_path, observe=observed.append)
    chance = random.Random(7)  # noqa: S311 -- when to kill

    def write() -> None:
        mine = board(tmp_path)
        while True:
            count(mine)

    last = 0
    for _ in range(KILLS):
        with process(write), process(write):
            until = reader.version + chance.randrange(1, 200)
            while reader.version < until:
                view = reader.read()["primary"]
                assert_whole(view)
                assert (view.position or 0) >= last
                last = view.position or 0
        assert_whole(reader.read()["primary"])
        last = count(reader).position or 0
    assert not observed, "the kernel did not give the lock back"
    assert last > KILLS


def test_no_change_is_lost_while_nobody_dies(tmp_path: Path) -> None:
    def write() -> None:
        mine = board(tmp_path)
        for _ in range(500):
            count(mine)

    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                write()
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    view = board(tmp_path).read()["primary"]
    assert view.position == 1500
    assert_whole(view)


def test_a_process_stopped_in_a_change_holds_up_nobody_and_then_changes_what_holds(tmp_path: Path) -> None:
    mine = board(tmp_path)
    count(mine)

    def stop_inside() -> None:
        theirs = board(tmp_path)
        times = iter((True,))

        def change(views: Mapping[str, EndpointView]) -> EndpointView:
            if next(times, False):
                os.kill(os.getpid(), signal.SIGSTOP)
            return counted(views["primary"])

        theirs.change(change)

    with process(stop_inside) as pid:
        os.waitpid(pid, os.WUNTRACED)
        began = monotonic()
        for _ in range(100):
            count(mine)
        took = monotonic() - began
        assert PATIENCE <= took < 50 * PATIENCE
        os.kill(pid, signal.SIGCONT)
        while mine.read()["primary"].position != 102:
            assert monotonic() - began < 5
    view = mine.read()["primary"]
    assert_whole(view)
    assert count(mine).position == 103


def test_a_withdrawal_reaches_the_other_processes_within_100_ms(tmp_path: Path) -> None:
    """In the middle of others' changes. Times of two processes can be compared: the clock is the machine's."""
    rotation = Rotation(views=board(tmp_path))
    rotation.apply("primary", Probed(role=Role.PRIMARY, ping_ms=0.1))
    receiving, sending = os.pipe()

    def look_on() -> None:
        theirs = Rotation(views=board(tmp_path))
        states = [theirs.view("primary").state]

        def note() -> None:
            state = theirs.view("primary").state
            if state is not states[-1]:
                states.append(state)
                os.write(sending, f"{monotonic()}\n".encode())

        theirs.subscribe(note)
        Polling(rotation=theirs, waits=ThreadWaits(), observe=ignore).start()
        os.write(sending, b"ready\n")
        signal.pause()

    delays = []
    with process(look_on), os.fdopen(receiving) as heard:
        assert heard.readline() == "ready\n"
        for _ in range(20):
            began = monotonic()
            view = rotation.apply("primary", ProbeFailed(Reason.TIMEOUT, "no answer"))
            assert view.state is EndpointState.OUT
            delays.append(float(heard.readline()) - began)
            rotation.apply("primary", Probed(role=Role.PRIMARY, ping_ms=0.1))
            heard.readline()
    os.close(sending)
    assert median(delays) < 0.1  # a busy machine may keep either process from one of them
