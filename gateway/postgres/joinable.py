"""Finds out whether calls of a query may be answered by one statement: by what its plans are with real arguments.

A call that runs alone is planned with its own arguments, or by a generic plan where the server finds that just as
good. Joined, it is always planned without them: an optional filter, or the prefix of a LIKE, that selects an index when
its value is known is a scan of the whole table then, hundreds of times slower. So the server is asked how it runs
calls as they came, alone and joined, and the plans are compared. What is equal is run once both ways, and timed by the
server itself.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import psycopg2

from gateway.catalogue.query import Access, Query
from gateway.catalogue.types import Form, Signature
from gateway.postgres.joined import JoinedPlan
from gateway.postgres.qualifying import qualified
from gateway.postgres.session import Session
from gateway.postgres.waiting import DeadlinePassed

SAMPLES = 6
"""Calls that are looked at: so many have to run before the server may have chosen a generic plan."""
LONGEST = 3.0
"""Milliseconds that a call may take on the server, on average, for others to wait for it."""
MOST_SLOWER, SLACK = 1.25, 0.1
"""By how much calls may be slower joined than alone, as a factor, and in milliseconds beside it: what a look at times
of microseconds is wrong by."""

REPEATS = 3
"""How often that is looked at before it counts."""

_EXPLAIN = "EXPLAIN (FORMAT JSON) "
_ANALYZE = "EXPLAIN (ANALYZE, TIMING OFF, BUFFERS OFF, FORMAT JSON) "
_COUNTS = (
    "SELECT generic_plans::pg_catalog.text FROM pg_catalog.pg_prepared_statements"
    " WHERE name OPERATOR(pg_catalog.=) '{name}'"
)
_UNFIT_TYPES = qualified("""
WITH RECURSIVE t(oid, base, modifier) AS (
    SELECT oid, oid, -1 FROM pg_catalog.pg_type WHERE oid = ANY ('{{{{{oids}}}}}')
    UNION ALL
    SELECT t.oid, b.typbasetype, b.typtypmod FROM t JOIN pg_catalog.pg_type b ON b.oid = t.base
     WHERE b.typtype = 'd')
SELECT pg_catalog.format_type(t.oid, NULL) FROM t
 WHERE t.modifier <> -1
    -- Where a text is cast by a function, that is not what reads an argument. The one of name does the same.
    OR t.base <> 19 AND EXISTS (SELECT FROM pg_catalog.pg_cast c
                                 WHERE c.castsource = 25 AND c.casttarget = t.base AND c.castfunc <> 0)
    OR t.base < 16384 AND (SELECT b.typname ~ '^_?reg' FROM pg_catalog.pg_type b WHERE b.oid = t.base)
 LIMIT 1
""")
_BESIDE_THE_SCANS = frozenset({"Memoize", "Materialize", "Subquery Scan"})
"""Nodes that a join may put on top of what runs for each call; they change nothing of how that is run."""


class Verdict(NamedTuple):
    """Whether calls of a query are joined, and why not."""

    joins: bool
    why: str = ""
    """Completes "calls run alone, as …"; empty where they are joined."""


def objection(query: Query, signature: Signature) -> str:
    """Why calls of a query are not joined whatever their arguments; empty if nothing is known against it."""
    if query.access is Access.WRITE:
        return "it writes"
    if query.join is False:
        return "it is annotated with @join off"
    if query.page is not None or query.sorts:
        return "its callers choose an order or a page"
    if query.expect is not None:
        return "it is expected to answer a row, and a call that finds none fails"
    if signature.form is not Form.WRAPPED:
        return "it answers no rows, or the server cannot write them as JSON by itself"
    if query.join is None and not signature.harmless:
        return "it is not proven to be without effects: see `harmless`"
    if query.join is None and signature.varies:
        return "it gives something else each time, as functions such as random do"
    return ""


def judge(
    session: Session,
    joined: JoinedPlan,
    samples: Sequence[Sequence[str]],
    *,
    deadline: float,
    settings: Mapping[str, str] = {},
    compare: bool = True,
) -> Verdict:
    """Look at calls that came, by their literals. Without ``compare`` it is enough that they can be joined.

    ``settings`` are those of the call that is looked at. Raises a GatewayError where the connection broke, and where
    the server refuses to run one of the calls.
    """
    try:
        if settings:
            session.run.settings = settings
            session.ask("; ".join(["BEGIN READ ONLY", *session.preface([joined.plan])]), deadline)
        why = refused(session, joined, deadline)
        if why or not compare:
            return Verdict(not why, why)
        return _judge(session, joined, samples, deadline)
    except (psycopg2.Error, DeadlinePassed) as error:
        raise session.explained(error) from error


def refused(session: Session, joined: JoinedPlan, deadline: float) -> str:
    """Why the server does not take the joined form; empty if it does, and has it prepared now.

    Raises a GatewayError where the connection broke.
    """
    if not session.prepares:
        return "its connections cannot keep statements prepared"
    oids = ",".join(str(type_.oid) for type_ in joined.plan.types)
    for (name,) in session.ask(_UNFIT_TYPES.format(oids=oids), deadline):
        return f"a text is not cast to {name} as an argument of it is read"
    try:
        session.make_ready(joined)
    except psycopg2.Error as error:
        explained = session.explained(error)
        if session.closed:
            raise explained from error
        return f"the server does not take it joined ({error.pgcode})"
    return ""


def _judge(session: Session, joined: JoinedPlan, samples: Sequence[Sequence[str]], deadline: float) -> Verdict:
    session.make_ready(joined.plan)
    alone = [_explained(session, _ANALYZE + joined.plan.execute(literals), deadline) for literals in samples]
    took = sum(map(_milliseconds, alone))
    if took > LONGEST * len(samples):
        return Verdict(False, f"one takes {took / len(samples):.1f} ms")
    ((generic,),) = session.ask(_COUNTS.format(name=joined.plan.name), deadline)
    if generic == "0":
        each = _shape(_inner(_explained(session, _EXPLAIN + joined.execute(samples), deadline)["Plan"]))
        if any(_shape(plan["Plan"]) != each for plan in alone):
            return Verdict(False, "the server plans it by its arguments, and could not if it were joined")
    # The best of three: whatever else the server has to do makes some look slower than they are.
    together, repeated = math.inf, 0
    while together > took * MOST_SLOWER + SLACK and repeated < REPEATS:
        together = min(together, _milliseconds(_explained(session, _ANALYZE + joined.execute(samples), deadline)))
        repeated += 1
    if together > took * MOST_SLOWER + SLACK:
        return Verdict(False, f"{len(samples)} take {together:.1f} ms joined, and {took:.1f} ms alone")
    return Verdict(True)


def _explained(session: Session, sql: str, deadline: float) -> dict[str, Any]:
    ((text,),) = session.ask(sql, deadline)
    (explained,) = msgspec.json.decode(text or "[]", type=list[dict[str, Any]])
    return explained


def _milliseconds(explained: Mapping[str, Any]) -> float:
    return float(explained["Planning Time"]) + float(explained["Execution Time"])


def _inner(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """What runs for each call: the inner side of the outermost join."""
    while plan["Node Type"] != "Nested Loop":
        plan = plan["Plans"][0]
    inner: Mapping[str, Any]
    _, inner = (part for part in plan["Plans"] if part["Parent Relationship"] in ("Outer", "Inner"))
    while inner["Node Type"] in _BESIDE_THE_SCANS:
        inner = inner["Plans"][0]
    return inner


def _shape(plan: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """What a plan does, arguments apart: nodes in their order, with relations, indexes, and what is looked up there."""
    shape: list[tuple[Any, ...]] = []
    waiting = [(0, plan)]
    while waiting:
        depth, node = waiting.pop()
        if node["Node Type"] != "Subquery Scan":
            shape.append(
                (
                    depth,
                    node["Node Type"],
                    node.get("Schema"),
                    node.get("Relation Name"),
                    node.get("Index Name"),
                    node.get("Scan Direction"),
                    _looked_up(node.get("Index Cond", "")),
                    _looked_up(node.get("Recheck Cond", "")),
                )
            )
            depth += 1
        waiting.extend((depth, part) for part in reversed(node.get("Plans", ())))
    return shape


def _looked_up(condition: str) -> list[str]:
    """The parts of an index's condition without values: ``(a = 1)`` and ``(a = x.y)`` are ``a =`` alike."""
    clauses = _split(_bare(condition), " AND ")
    return [_without_value(_split(_bare(clause), " ")) for clause in clauses]


def _without_value(words: Sequence[str]) -> str:
    if len(words) < 3 or words[1] == "IS":
        return " ".join(words)
    return " ".join(words[:3] if words[2] in ("ANY", "ALL") else words[:2])


def _bare(expression: str) -> str:
    """An expression without the parentheses around all of it."""
    is_enclosed = expression.startswith("(") and expression.endswith(")") and _closes(expression) == len(expression)
    return expression[1:-1] if is_enclosed else expression


def _closes(expression: str) -> int:
    """Where the first parenthesis is closed."""
    return next((place for place, depth in _depths(expression) if depth == 0), 0)


def _split(expression: str, separator: str) -> list[str]:
    """What is between the separators that stand in no parentheses and no quotes."""
    parts, begin = [], 0
    for place, depth in [(0, 0), *_depths(expression)]:
        if depth == 0 and place >= begin and expression.startswith(separator, place):
            parts.append(expression[begin:place])
            begin = place + len(separator)
    return [*parts, expression[begin:]]


def _depths(expression: str) -> Iterator[tuple[int, int]]:
    """For each place in an expression outside of quotes how many parentheses are open there, after its character."""
    depth, quote = 0, ""
    for place, character in enumerate(expression, 1):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character == "(") - (character == ")")
        if not quote:
            yield place, depth
