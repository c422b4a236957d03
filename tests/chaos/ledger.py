"""What clients were told of their writes, one by one, held against the rows there are.

A write is one wish of a client: sent once, or again and again with an idempotency key. A run is a transaction that
left rows of it. Each answer speaks of the request it answers, so a key whose every answer denies has no run; a key
with one that commits has exactly one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from gateway.demo.server import Server
from gateway.postgres.marks import Mark
from tests.chaos import servers
from tests.chaos.asking import Answer
from tests.chaos.results import Figure

COMMITTED = "committed"
DENIED = frozenset({"not_executed", "rolled_back"})
KNOWN = DENIED | {COMMITTED}
_XID = re.compile(rb'"xid":"(\d+)"')


class Run(NamedTuple):
    """One transaction's rows of one write."""

    xid: int
    at: int
    """When its last row was written, in microseconds of the epoch by the server's clock."""
    rows: int
    parts: int
    """How many different ones."""


Runs = Mapping[int, Sequence[Run]]
"""By the write's number."""


@dataclass(slots=True)
class Said:
    """What became of one request; without a status no answer came."""

    status: int = 0
    outcome: str | None = None
    code: str | None = None
    body: bytes = b""
    mark: str | None = None
    replayed: bool = False
    detail: str = ""
    found: list[str] = field(default_factory=list)
    """What ``/outcome`` said of the mark, each time it was asked."""

    @classmethod
    def of(cls, answer: Answer) -> "Said":
        """What an answer says."""
        body = answer.json
        replayed = "idempotency-replayed" in answer.headers
        return cls(
            status=answer.status,
            outcome=body.get("outcome"),
            code=body.get("code"),
            body=answer.body,
            mark=body.get("transaction"),
            replayed=replayed,
            detail=body.get("detail") or "",
        )

    @property
    def resolved(self) -> bool:
        """Whether the mark has led to an outcome."""
        return any(word in KNOWN for word in self.found)


@dataclass(slots=True)
class Write:
    """A wish, and everything that was said of it."""

    tag: int
    kind: str
    request: bytes
    parts: int = 1
    key: str | None = None
    amount: int = 0
    said: list[Said] = field(default_factory=list)

    @property
    def committed(self) -> bool:
        """Whether an answer, or its mark, says so."""
        return any(COMMITTED in (one.outcome, *one.found) for one in self.said)

    @property
    def denied(self) -> bool:
        """Whether nothing of it can have taken place by what was said."""
        return all(one.outcome in DENIED or DENIED & set(one.found) for one in self.said)


class Wrong(StrEnum):
    """What must not be."""

    DOUBLE = "double executions"
    TORN = "half a transaction"
    FALSE_COMMITTED = "false committed"
    FALSE_DENIED = "false not_executed or rolled_back"
    FALSE_RESOLVED = "marks resolved falsely"
    OTHER_RUN = "answers of another run than the one there is"
    UNEQUAL = "keys with different answers"
    SILENT = "answers without an outcome"
    UNEXPLAINED = "rows without a request"


_FAMOUS = (Wrong.DOUBLE, Wrong.FALSE_COMMITTED, Wrong.FALSE_DENIED)
"""What has a figure of its own; of the rest the remarks say which it was."""


def faults_of(write: Write, runs: Sequence[Run]) -> set[Wrong]:
    """Everything that is wrong with what was said of one write."""
    faults = set()
    if len(runs) > 1 or any(run.rows > write.parts for run in runs):
        faults.add(Wrong.DOUBLE)
    if any(run.parts < write.parts for run in runs):
        faults.add(Wrong.TORN)
    if not runs and any(one.outcome == COMMITTED for one in write.said):
        faults.add(Wrong.FALSE_COMMITTED)
    if runs and write.said and all(one.outcome in DENIED for one in write.said):
        faults.add(Wrong.FALSE_DENIED)
    if any(one.status and one.outcome is None for one in write.said):
        faults.add(Wrong.SILENT)
    if not all(_resolved_truly(one, runs) for one in write.said):
        faults.add(Wrong.FALSE_RESOLVED)
    bodies = {one.body for one in write.said if one.outcome == COMMITTED}
    if len(bodies) > 1:
        faults.add(Wrong.UNEQUAL)
    xids = {int(xid) for body in bodies for xid in _XID.findall(body)}
    if runs and xids - {run.xid for run in runs}:
        faults.add(Wrong.OTHER_RUN)
    return faults


def _resolved_truly(said: Said, runs: Sequence[Run]) -> bool:
    """Whether all that was found out about a mark agrees with the rows of its own transaction."""
    if said.mark is None or not said.resolved:
        return True
    mark = Mark.read(said.mark)
    # The xid of a transaction that a crash has taken is given to a later one: that one's rows are younger.
    took_place = any(run.xid == mark.xid and run.at <= mark.taken for run in runs)
    return {word for word in said.found if word in KNOWN} <= ({COMMITTED} if took_place else DENIED)


@dataclass
class Findings:
    """The audit's counts."""

    writes: int = 0
    requests: int = 0
    committed: int = 0
    denied: int = 0
    open: int = 0
    """Of which nobody knows to the end: without an answer or a mark, and without a key."""
    unknown: int = 0
    """Requests answered ``unknown``, or not at all."""
    unanswered: int = 0
    marked: int = 0
    """Requests answered ``unknown`` with a mark, by the primary that is left."""
    resolved: int = 0
    replayed: int = 0
    keys: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    """``committed``, on a primary that died, and not on the replica promoted then."""
    wrong: Counter[Wrong] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def figures(self) -> Iterator[Figure]:
        """How often what must not be was."""
        for kind in _FAMOUS:
            yield Figure(str(kind), self.wrong[kind], 0)
        yield Figure("otherwise wrong", sum(count for kind, count in self.wrong.items() if kind not in _FAMOUS), 0)

    def __str__(self) -> str:
        return (
            f"{self.writes} writes in {self.requests} requests ({dict(self.by_kind)}), {self.keys} with a key,"
            f" {self.replayed} replayed: {self.committed} committed, {self.denied} denied, {self.open} open;"
            f" {self.unknown} requests unknown, {self.unanswered} of them without an answer,"
            f" {self.marked} with a mark, {self.resolved} of those resolved; lost by promotion: {self.lost};"
            f" wrong: {({str(kind): count for kind, count in self.wrong.items()}) or 'none'}; {dict(self.codes)}"
        )


def compare(writes: Iterable[Write], runs: Runs, old: Runs, timeline: int = 1) -> Findings:
    """Hold all writes against the rows; ``old`` are those of primaries that died before the last promotion.

    ``timeline``: that of the primary that is left, which can tell what became of writes of its own.
    """
    findings = Findings()
    tags = set()
    for write in writes:
        tags.add(write.tag)
        _count(findings, write, timeline)
        faults = faults_of(write, runs.get(write.tag, ()))
        if faults and write.tag in old and not faults_of(write, old[write.tag]):
            findings.lost += 1
            continue
        findings.wrong.update(faults)
        if faults:
            findings.examples.append(f"{sorted(faults)}: {write}, {list(runs.get(write.tag, ()))}")
    strange = sum(tag not in tags for tag in runs)
    if strange:
        findings.wrong[Wrong.UNEXPLAINED] = strange
    return findings


def _count(findings: Findings, write: Write, timeline: int) -> None:
    findings.writes += 1
    findings.requests += len(write.said)
    findings.by_kind[write.kind] += 1
    findings.keys += write.key is not None
    findings.committed += write.committed
    findings.denied += not write.committed and write.denied
    findings.open += not write.committed and not write.denied
    for one in write.said:
        findings.unknown += one.outcome not in KNOWN
        findings.unanswered += not one.status
        findings.replayed += one.replayed
        mark = Mark.read(one.mark) if one.outcome == "unknown" and one.mark is not None else None
        if mark is not None and mark.timeline == timeline:
            findings.marked += 1
            findings.resolved += one.resolved
        if mark is not None and mark.timeline == timeline and not one.resolved:
            findings.examples.append(f"not resolved: {one.found} for {mark}, {write.kind}")
        if one.status != 200:
            findings.codes[f"{one.code or 'no answer'}: {one.outcome}"] += 1


def runs_on(server: Server, table: str = "ledger", part: str = "part") -> dict[int, list[Run]]:
    """All runs that a server has."""
    sql = (
        f"SELECT id, xid::text, (extract(epoch FROM max(at)) * 1000000)::int8, count(*), count(DISTINCT {part})"
        f" FROM {table} GROUP BY id, xid"
    )
    found: dict[int, list[Run]] = {}
    for tag, *rest in servers.ask(server, sql):
        xid, at, rows, parts = (int(str(value)) for value in rest)
        found.setdefault(int(str(tag)), []).append(Run(xid, at, rows, parts))
    return found
