"""How many statements are in flight, found by what calls take: a model of callers, a process and servers, no clock."""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.execution.lanes import Lane, Member
from gateway.execution.pace import ANY, LEVELS, Pace, Processors
from tests.execution.samples import query, single

CALL = single(query())


class Gate:
    def __init__(self, soon: Callable[[Callable[[], None]], None]) -> None:
        self._soon = soon
        self.through: Callable[[], None] = lambda: None

    def open(self) -> None:
        self._soon(lambda: self.through())

    def wait(self, _seconds: float, _client: Any = None) -> None:
        raise NotImplementedError


class Model:
    """So many callers, who ask again when they have an answer, and one process in front of a server.

    Times in seconds: what a statement and a call cost the process, which does one thing at a time; what a statement
    and a call take on the server, which has so many processors; and the way there and back.
    """

    def __init__(
        self,
        callers: int,
        *,
        statement: float = 60e-6,
        call: float = 40e-6,
        served: float = 60e-6,
        each: float = 5e-6,
        way: float = 50e-6,
        processors: int = 1,
    ) -> None:
        self.costs = statement, call, served, each
        self.way = way
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._busy = 0.0
        self._free = [0.0] * processors
        self.lane = Lane(self, clock=lambda: self.now)  # type: ignore[arg-type]  # as much of a loop as it needs
        self.answered = 0
        self.sizes: list[int] = []
        self.longest_wait = 0.0
        for number in range(callers):
            self.at(number * 1e-5, self._come)

    def run(self, seconds: float) -> float:
        """The calls answered a second."""
        ends, before, began = self.now + seconds, self.answered, self.now
        while self._events and self._events[0][0] < ends:
            self.now, _, event = heapq.heappop(self._events)
            event()
        return (self.answered - before) / (self.now - began)

    def at(self, moment: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(moment, self.now), next(self._numbers), event))

    # as the loop

    def gate(self) -> Gate:
        return Gate(lambda event: self.at(self.now, event))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.at(self.now + seconds, call)

    # what happens

    def _works(self, seconds: float) -> float:
        """When the process has done that, after all that it has to do already."""
        self._busy = max(self._busy, self.now) + seconds
        return self._busy

    def _come(self) -> None:
        came = self.now
        if self.lane.enter():
            self._lead(came)
            return
        member = self.lane.wait(CALL, 10)
        gate: Any = member.gate
        gate.through = lambda: self._lead(came, member) if member.leads else None

    def _lead(self, came: float, _member: Member | None = None) -> None:
        taken = []
        if self.lane.is_crowded:
            self.lane.starts()
            taken = self.lane.take(63, CALL)
        comings = [came, *[member.arrived for member in taken]]
        self.longest_wait = max(self.longest_wait, *(self.now - coming for coming in comings))
        self.sizes.append(len(comings))
        statement, call, served, each = self.costs
        sent = self._works(statement + call * len(comings)) + self.way
        place = min(range(len(self._free)), key=self._free.__getitem__)
        self._free[place] = max(self._free[place], sent) + served + each * len(comings)
        took = self._free[place] + self.way - self.now
        self.at(self.now + took, lambda: self._end(comings, took))

    def _end(self, comings: list[float], took: float) -> None:
        self.lane.succeeded(took)
        self.lane.ended()
        for came in comings:
            self.answered += 1
            self.lane.left(came)
            self.at(self.now, self._come)


def alone(callers: int, **how: Any) -> float:
    """The calls answered a second where each goes by itself."""
    model = Model(callers, **how)
    model.lane.enter = lambda: True  # type: ignore[method-assign]
    model.lane.ended = lambda: None  # type: ignore[method-assign]
    return model.run(0.5)


class TestInTheModel:
    @pytest.mark.parametrize("callers", [1, 2, 3])
    def test_few_callers_never_wait(self, callers: int) -> None:
        model = Model(callers)
        model.run(4.0)
        assert set(model.sizes) == {1}
        assert model.longest_wait == 0.0

    @pytest.mark.parametrize(("callers", "gain"), [(8, 1.1), (16, 1.3), (64, 1.5), (256, 1.5)])
    def test_a_busy_process_joins_and_answers_more(self, callers: int, gain: float) -> None:
        model = Model(callers)
        model.run(4.0)
        assert model.run(0.5) > alone(callers) * gain

    @pytest.mark.parametrize("callers", [4, 8, 12])
    def test_where_the_way_to_the_server_takes_long_nobody_waits_for_another(self, callers: int) -> None:
        far: dict[str, Any] = {"way": 0.001, "statement": 10e-6, "call": 10e-6, "served": 20e-6, "processors": 4}
        model = Model(callers, **far)
        model.run(4.0)
        assert model.run(0.5) > alone(callers, **far) * 0.93

    @pytest.mark.parametrize("callers", [4, 16, 64])
    @pytest.mark.parametrize("way", [20e-6, 200e-6, 0.002])
    @pytest.mark.parametrize("processors", [4])
    def test_it_is_never_much_slower_than_alone(self, callers: int, way: float, processors: int) -> None:
        model = Model(callers, way=way, processors=processors)
        model.run(4.0)
        assert model.run(0.5) > alone(callers, way=way, processors=processors) * 0.9

    def test_no_statement_has_more_calls_than_one_may(self) -> None:
        model = Model(500)
        model.run(4.0)
        assert max(model.sizes) == 64

    def test_nobody_waits_long_for_a_server_process_that_stands_still(self) -> None:
        model = Model(32)
        model.run(4.0)
        model._free = [model.now + 0.5]  # a statement that is sent now comes back in half a second
        model.longest_wait = 0.0
        model.run(0.1)
        assert model.longest_wait < 0.0025


class TestPace:
    now = 0.0

    def run(
        self, pace: Pace, time_of: Callable[[int], float], seconds: float = 20.0, crowd: float = 12.0
    ) -> dict[int, float]:
        """Calls at 2,000 a second that take so long by the limit; the part of the last half with each limit."""
        now, seen = self.now, Counter[int]()
        ends, self.now = now + seconds, now + seconds
        while now < ends:
            now += 0.0005
            pace.note(time_of(pace.limit), now, crowd)
            if now > ends - seconds / 2:
                seen[pace.limit] += 1
        return {limit: count / seen.total() for limit, count in seen.items()}

    @pytest.mark.parametrize(
        ("best", "crowd"), [*((level, 16.0) for level in LEVELS), *((level, 5.0) for level in (1, 2, ANY))]
    )
    def test_it_finds_the_level_at_which_calls_take_least(self, best: int, crowd: float) -> None:
        place = LEVELS.index(best)
        parts = self.run(Pace(), lambda limit: 0.001 * (1 + 0.3 * abs(LEVELS.index(limit) - place)), crowd=crowd)
        assert parts[best] > 0.9

    @pytest.mark.parametrize(("crowd", "first"), [(4.0, ANY), (12.0, 1), (40.0, 1)])
    def test_it_stays_where_nothing_makes_a_difference(self, crowd: float, first: int) -> None:
        assert self.run(Pace(), lambda _: 0.001, crowd=crowd)[first] > 0.9

    def test_it_leaves_its_first_level_for_a_gain_and_comes_back_where_it_loses_nothing(self) -> None:
        pace = Pace()
        assert self.run(pace, lambda limit: 0.001 if limit == 1 else 0.00098)[1] > 0.9
        assert self.run(pace, lambda limit: 0.001 if limit == 1 else 0.0008).get(1, 0.0) < 0.1
        assert self.run(pace, lambda limit: 0.001 if limit == 1 else 0.00104, 60.0)[1] > 0.9

    def test_where_no_processor_is_idle_more_than_one_is_not_tried(self) -> None:
        assert self.run(Pace(lambda _: 0.0), lambda limit: 0.001 if limit == 1 else 0.0008) == {1: 1.0}

    def test_a_load_that_rises_is_not_taken_for_an_effect(self) -> None:
        pace, times = Pace(), itertools.count(1)
        assert self.run(pace, lambda _: 0.001 * 1.0001 ** next(times))[1] > 0.9

    def test_a_load_of_another_kind_begins_anew(self) -> None:
        pace = Pace()
        assert self.run(pace, lambda limit: 0.001 if limit == ANY else 0.002, crowd=12.0)[ANY] > 0.9
        assert self.run(pace, lambda _: 0.001, 1.0, crowd=40.0)[1] > 0.8
        assert self.run(pace, lambda _: 0.001, 1.0, crowd=4.0)[ANY] > 0.9

    def test_a_few_calls_that_are_held_up_are_not_taken_for_an_effect(self) -> None:
        numbers = itertools.count()

        def time_of(limit: int) -> float:
            is_held_up = next(numbers) % 1000 < 12  # every half second, some
            return 0.03 if is_held_up else 0.001 * (1 + 0.2 * abs(LEVELS.index(limit) - 1))

        assert self.run(Pace(), time_of, 40.0)[2] > 0.7

    def test_a_large_crowd_never_goes_each_by_itself(self) -> None:
        assert ANY not in self.run(Pace(), lambda limit: 0.001 if limit == ANY else 0.01, crowd=40.0)


class TestProcessors:
    def test_it_looks_now_and_then_and_tells_the_part_that_was_idle_meanwhile(self, tmp_path: Path) -> None:
        stat = tmp_path / "stat"
        processors = Processors(stat)
        stat.write_text("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 2 3\n")
        assert processors.idle(5.0) == 0.0  # nothing to compare it with
        stat.write_text("cpu  60 0 50 75 15 0 0 0 0 0\n")
        assert processors.idle(5.1) == 0.0
        assert processors.idle(5.3) == pytest.approx(0.1)
        assert processors.idle(5.6) == pytest.approx(0.1)  # nothing was counted since
        stat.write_text("cpu  70 0 60 775 15 0 0 0 0 0\n")
        assert processors.idle(60.0) == 0.0  # it may have been idle before, and not be now
        stat.write_text("cpu  70 0 60 785 25 0 0 0 0 0\n")
        assert processors.idle(60.3) == pytest.approx(1.0)

    @pytest.mark.parametrize("text", [None, "", "cpu", "cpu  a b c d e f g h", "cpu  1 2 3"])
    def test_where_that_is_not_to_be_known_they_count_as_idle(self, tmp_path: Path, text: str | None) -> None:
        stat = tmp_path / "stat"
        if text is not None:
            stat.write_text(text)
        assert Processors(stat).idle(5.0) == 1.0
