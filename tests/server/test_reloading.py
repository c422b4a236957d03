"""A reload is one step after another: compiled, started, handed over; or given up, and nothing has changed."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.catalogue.query import Catalogue
from gateway.events import Event, Reloaded, ReloadRefused, ReloadWarned
from gateway.node.reloads import Reload, Reloads
from gateway.server.artefact import Compiled, read, write
from gateway.server.reloading import READY_WITHIN, Reloading
from gateway.settings import Settings

OLD = Compiled.of(Settings(), Catalogue({}, "old"))
NEW = Compiled.of(Settings(), Catalogue({}, "new"))


class Workers:
    """In the place of the master's."""

    def __init__(self) -> None:
        self.compiled = OLD
        self.is_ready = False
        self.has_left = True
        self.done: list[str] = []

    def start_next(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self.done.append("started")

    def is_next_ready(self) -> bool:
        return self.is_ready

    def hand_over(self) -> None:
        self.done.append("handed over")

    def is_handed_over(self) -> bool:
        return self.has_left

    def give_up_next(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self.done.append("given up")


class Rig:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 100.0
        self.workers = Workers()
        self.events: list[Event] = []
        write(directory, OLD)

    def reloading(self, printed: object, *, new: Compiled | None = None) -> Reloading:
        """One whose compiling process prints this; ``new`` is what it has written by then."""
        if new is not None:
            write(self.directory, new)
        text = printed if isinstance(printed, str) else json.dumps(printed)
        return Reloading(
            generations=self.workers,
            command=[sys.executable, "-S", "-c", f"print({text!r})"],
            directory=self.directory,
            observe=self.events.append,
            clock=lambda: self.now,
        )

    @property
    def last(self) -> Reload:
        last = Reloads(self.directory, master=0).last()
        assert last is not None
        return last


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def step_until(condition: Callable[[], bool], reloading: Reloading) -> None:
    ends = time.monotonic() + 30
    while not condition():
        reloading.step()
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_a_reload_hands_over_when_the_new_workers_are_ready(rig: Rig) -> None:
    reloading = rig.reloading({"warnings": ["odd"]}, new=NEW)
    reloading.ask()
    step_until(lambda: rig.workers.done == ["started"], reloading)
    reloading.step()
    assert rig.workers.done == ["started"]
    assert rig.last.ended is None
    rig.workers.is_ready, rig.workers.has_left = True, False
    reloading.step()
    reloading.step()
    assert rig.workers.done == ["started", "handed over"]
    assert rig.last.ended is None  # somebody who connects now may still be served by the old ones
    rig.workers.has_left = True
    reloading.step()
    assert rig.last == Reload(began=100.0, ended=100.0, hash="new")
    assert rig.events == [ReloadWarned(warning="odd"), Reloaded(hash="new", queries=0)]
    assert not reloading.is_busy


def test_a_fault_changes_nothing_and_is_told(rig: Rig) -> None:
    reloading = rig.reloading({"faults": [{"where": "q.sql", "line": 3, "message": "wrong"}]})
    reloading.ask()
    step_until(lambda: not reloading.is_busy, reloading)
    assert rig.workers.done == []
    assert Reloads(rig.directory, master=0).fault() == "not reloaded: q.sql:3: wrong"
    assert rig.events == [ReloadRefused(faults=("q.sql:3: wrong",))]


@pytest.mark.parametrize("printed", ["", "Traceback", "[]"])
def test_a_compiling_process_that_breaks_off_changes_nothing(printed: str, rig: Rig) -> None:
    reloading = rig.reloading(printed)
    reloading.ask()
    step_until(lambda: not reloading.is_busy, reloading)
    assert rig.workers.done == []
    assert "broke off" in rig.last.faults[0].message


def test_workers_that_are_not_ready_in_time_are_given_up_and_the_artefact_is_the_old_one(rig: Rig) -> None:
    reloading = rig.reloading({}, new=NEW)
    reloading.ask()
    step_until(lambda: reloading.is_starting, reloading)
    rig.now += READY_WITHIN
    reloading.step()
    assert rig.workers.done == ["started", "given up"]
    assert rig.workers.compiled is OLD
    assert read(rig.directory).hash == OLD.hash
    assert "not ready" in rig.last.faults[0].message


def test_what_is_asked_for_during_a_reload_is_done_after_it(rig: Rig) -> None:
    rig.workers.is_ready = True
    reloading = rig.reloading({}, new=NEW)
    reloading.ask()
    reloading.step()
    rig.now += 1.0
    reloading.ask()
    step_until(lambda: not reloading.is_busy, reloading)
    assert rig.workers.done == ["started", "handed over"] * 2
    assert rig.last.began == 101.0


def test_a_node_that_nothing_can_compile_for_says_so(rig: Rig) -> None:
    reloading = Reloading(generations=rig.workers, command=(), directory=rig.directory, observe=rig.events.append)
    reloading.ask()
    reloading.step()
    assert not reloading.is_busy
    assert "gateway serve" in rig.last.faults[0].message


def test_only_a_parent_is_asked_to_reload(tmp_path: Path) -> None:
    assert not Reloads(tmp_path, master=0).ask()
    assert not Reloads(None, master=0).ask()


def test_files_are_read_unless_only_the_members_were_asked_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    told = "import sys, json; print(json.dumps({'warnings': sys.argv[1:]}))"
    reloading = Reloading(
        generations=rig.workers, command=[sys.executable, "-c", told], directory=tmp_path, observe=rig.events.append
    )
    rig.workers.is_ready = True
    for asked, options in ((False, ["--served"]), (True, []), (False, ["--served"])):
        reloading.ask(whole=asked)
        if asked:  # both at once: the files are read
            reloading.ask(whole=False)
        while reloading.is_busy:
            reloading.step()
            time.sleep(0.01)
        warnings = [event.warning for event in rig.events if isinstance(event, ReloadWarned)]
        assert warnings == options
        rig.events.clear()
