"""Whether what clients were told of their writes is what the database holds."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.demo.server import Server
from tests.chaos import servers
from tests.chaos.load import Record

DENIED = frozenset({"not_executed", "rolled_back"})


@dataclass(frozen=True)
class Audit:
    """Counts of writes."""

    writes: int
    committed: int
    denied: int
    unknown: int
    """Answered ``unknown``, or with no word on the outcome."""
    unknown_and_there: int
    double: int
    """In the table more than once."""
    false_committed: int
    """Answered ``committed`` and not there."""
    false_denied: int
    """Answered ``not_executed`` or ``rolled_back``, and there."""
    unexplained: int
    """There without any answer of ours."""

    def __str__(self) -> str:
        return (
            f"{self.writes} writes: {self.committed} committed, {self.denied} denied, {self.unknown} unknown"
            f" ({self.unknown_and_there} of them there), {self.double} double"
        )


def audit(server: Server, writes: Iterable[Record]) -> Audit:
    """Hold answers against the audit table of this server; ids of other loads are left alone."""
    records = {one.tag: one for one in writes}
    rows = servers.ask(server, "SELECT id, count(*) FROM audit GROUP BY id")
    counts = {int(str(tag)): int(str(count)) for tag, count in rows}
    committed = {tag for tag, one in records.items() if one.outcome == "committed"}
    denied = {tag for tag, one in records.items() if one.outcome in DENIED}
    unknown = records.keys() - committed - denied
    span = range(min(records, default=0), max(records, default=0) + 1)
    return Audit(
        writes=len(records),
        committed=len(committed),
        denied=len(denied),
        unknown=len(unknown),
        unknown_and_there=len(unknown & counts.keys()),
        double=sum(counts.get(tag, 0) > 1 for tag in records),
        false_committed=len(committed - counts.keys()),
        false_denied=len(denied & counts.keys()),
        unexplained=len((counts.keys() & set(span)) - records.keys()),
    )
