"""Who the servers are: what answers of a source change, and what they never do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.events import Event, MembersChanged, MembersNotFound
from gateway.node.discovery import ABSENT, ASKED_AGAIN, Discovery, recall
from gateway.node.sources import NotFound
from gateway.settings import EndpointSettings, Member, Settings, with_members
from tests.node.clock import Clock

A, B, C = (Member(f"10-0-0-{number}", address=f"10.0.0.{number}") for number in (1, 2, 3))
SOURCE = EndpointSettings(dsn="host=db.example", discover=("dns",))
WRITTEN = Settings(endpoints={"pg": SOURCE}, sources={"pg": SOURCE})


class Rig:
    """A node's discovery, whose source answers what a test says, and whose servers accept what it says."""

    def __init__(self, directory: Path, members: tuple[Member, ...] = (A, B)) -> None:
        self.directory = directory
        self.answer: tuple[Member, ...] | str = members
        self.dead: set[Member] = set()
        self.tried: list[str] = []
        self.reloads = 0
        self.is_draining = False
        self.events: list[Event] = []
        self.clock = Clock()
        self.discovery = Discovery(
            with_members(WRITTEN, {"pg": members}),
            directory,
            objection=self._objection,
            reload=self._reload,
            is_draining=lambda: self.is_draining,
            observe=self.events.append,
            ask=self._ask,
            clock=self.clock,
        )

    def look(self, *members: Member, times: int = 1) -> tuple[Member, ...]:
        """Have the source answer so; what was written down for the master by then."""
        self.answer = members or self.answer
        for _ in range(times):
            self.discovery.turn()
        return recall(self.directory, WRITTEN.sources).get("pg", ())

    def _ask(self, _source: EndpointSettings) -> tuple[Member, ...]:
        if isinstance(self.answer, str):
            raise NotFound(self.answer)
        return self.answer

    def _objection(self, endpoint: EndpointSettings) -> str | None:
        self.tried.append(endpoint.dsn)
        return "refused" if any(endpoint.dsn.endswith(f"={member.address}") for member in self.dead) else None

    def _reload(self) -> None:
        self.reloads += 1


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.discovery.close()


def test_while_the_answer_stays_nothing_is_tried_or_reloaded(rig: Rig) -> None:
    rig.look(A, B, times=20)
    assert (rig.tried, rig.reloads, rig.events) == ([], 0, [])


def test_a_new_server_is_connected_to_and_then_written_down_and_reloaded(rig: Rig) -> None:
    assert rig.look(A, B, C) == (A, B, C)
    assert rig.tried == ["host=db.example hostaddr=10.0.0.3"]
    assert rig.reloads == 1
    assert rig.events == [MembersChanged(endpoint="pg", members=(A.name, B.name, C.name))]


def test_a_new_server_that_does_not_accept_is_no_member_until_it_does(rig: Rig) -> None:
    rig.dead.add(C)
    assert rig.look(A, B, C, times=3) == ()
    assert (len(rig.tried), rig.reloads) == (3, 0)
    assert [str(event) for event in rig.events] == [
        "the servers of endpoint pg stay as they are: 10-0-0-3 is not served yet: refused"
    ]
    rig.dead.clear()
    assert rig.look(A, B, C) == (A, B, C)


def test_a_server_that_is_not_named_any_more_stays_for_some_answers(rig: Rig) -> None:
    assert rig.look(A, times=ABSENT - 1) == ()
    rig.look(A, B)
    assert rig.look(A, times=ABSENT - 1) == ()
    assert rig.reloads == 0
    assert rig.look(A) == (A,)
    assert rig.reloads == 1


def test_failed_answers_change_nothing_and_are_told_once(rig: Rig) -> None:
    rig.answer = "no answer within 3 s"
    assert rig.look(times=10 * ABSENT) == ()
    assert rig.reloads == 0
    assert rig.events == [MembersNotFound(endpoint="pg", detail="no answer within 3 s")]
    rig.look(A, B)
    rig.answer = "no answer within 3 s"
    rig.look()
    assert len(rig.events) == 2


def test_answers_that_name_only_strangers_who_do_not_accept_change_nothing(rig: Rig) -> None:
    rig.dead.add(C)
    assert rig.look(C, times=10 * ABSENT) == ()
    assert rig.reloads == 0


def test_a_server_that_has_moved_takes_its_own_place_when_it_accepts_there(tmp_path: Path) -> None:
    before, after = Member("node1", host="10.0.0.1", port=5432), Member("node1", host="10.0.0.9", port=5433)
    rig = Rig(tmp_path, (before,))
    assert rig.look(after) == (after,)
    assert rig.tried == ["host=db.example host=10.0.0.9 port=5433"]


def test_a_reload_that_brought_nothing_is_asked_for_again_later(rig: Rig) -> None:
    rig.look(A, B, C, times=5)
    assert rig.reloads == 1
    rig.clock.now += ASKED_AGAIN
    rig.look()
    assert rig.reloads == 2


def test_one_worker_asks_for_all_and_another_follows_when_it_ends(rig: Rig, tmp_path: Path) -> None:
    rig.look(A, B)
    other = Rig(tmp_path)
    assert other.look(A, B, C) == ()
    rig.discovery.close()
    assert other.look(A, B, C) == (A, B, C)
    other.discovery.close()


def test_a_worker_that_was_told_to_end_leaves_it_to_those_that_serve_something_newer(rig: Rig, tmp_path: Path) -> None:
    rig.look(A, B)
    rig.is_draining = True
    rig.look(A, B, C)
    other = Rig(tmp_path, (A, B, C))
    other.look(A, B, C)
    assert (rig.reloads, other.reloads) == (0, 0)
    other.discovery.close()


def test_what_was_written_down_for_another_source_by_the_name_is_forgotten(rig: Rig, tmp_path: Path) -> None:
    rig.look(A, B, C)
    assert recall(tmp_path, {"pg": replace(SOURCE, dsn="host=other.example")}) == {}
    assert recall(tmp_path, {"another": SOURCE}) == {}
    (tmp_path / "members").write_text("{")
    assert recall(tmp_path, WRITTEN.sources) == {}
