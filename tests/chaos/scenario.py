"""What a scenario is, and the words they share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.load import Kind, Load, Record, tell
from tests.chaos.results import Figure
from tests.chaos.rig import Stage


@dataclass(frozen=True)
class Scenario:
    """One fault, and what is measured of what clients notice of it."""

    subject: str
    """A word that scenarios about the same thing share."""
    name: str
    what: str
    """In words for people."""
    run: Callable[[Stage], Iterator[Figure]]
    in_suite: bool = True
    """Whether it runs without being named."""
    in_short: bool = True
    """Whether the short form has it; what it does not have is much like something it has."""


def failures(stage: Stage, load: Load, kind: Kind, what: str = "", asked: float = 0, **between: float) -> Figure:
    """How many requests of this kind were not answered as they should be; which, goes to the remarks."""
    first, last = between.get("first", 0.0), between.get("last", float("inf"))
    failed = [one for one in load.sent_between(first, last, kind) if not one.good]
    if failed:
        stage.remark(f"failed: {tell(failed)}; first: {_describe(failed[0], load)}")
    return Figure(what or f"failed {kind}s", len(failed), asked)


def misdirected(load: Load) -> Figure:
    """Answers that name another endpoint than the server that gave them, or writes answered by a replica's name."""
    wrong = [one for one in load.of(Kind.READ) if one.good and one.server != one.endpoint]
    return Figure("answers under another's name", len(wrong), 0)


def note_stalls(stage: Stage, load: Load, first: float = 0.0) -> None:
    """Say so when the machine was too busy for the generator: times are not to be believed then."""
    stalled = load.stalled(first)
    if stalled > 0.05:
        stage.remark(f"the load generator itself stood still for {stalled * 1000:.0f} ms")


def milliseconds(what: str, seconds: float, asked: float) -> Figure:
    """A time in milliseconds, from seconds."""
    return Figure(what, seconds * 1000, asked, "ms")


def _describe(record: Record, load: Load) -> str:
    at = record.sent - load.records[0].sent
    where = f" on {record.endpoint}" if record.endpoint else ""
    again = f", {record.attempts} attempts" if record.attempts > 1 else ""
    took = f"{record.seconds * 1000:.0f} ms{where}{again}"
    return f"{record.kind} {at:.2f} s into the load after {took}: {record.detail[:160]}"
