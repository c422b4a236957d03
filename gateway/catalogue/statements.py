"""What PostgreSQL's parser finds in a statement: which it is, whether it writes, how its rows can be selected from."""

import functools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.catalogue.lexing import Node, SyntaxFault, Token, parse, tokens
from gateway.catalogue.naming import hints
from gateway.catalogue.placeholders import FaultAt, Marked
from gateway.catalogue.query import Statement, Text, Verb
from gateway.catalogue.wrapping import ALIAS, joined

_VERBS = {
    "SelectStmt": Verb.SELECT,
    "InsertStmt": Verb.INSERT,
    "UpdateStmt": Verb.UPDATE,
    "DeleteStmt": Verb.DELETE,
    "MergeStmt": Verb.MERGE,
    "CallStmt": Verb.CALL,
    "TruncateStmt": Verb.TRUNCATE,
    "RefreshMatViewStmt": Verb.REFRESH,
    "VacuumStmt": Verb.ANALYZE,
    "NotifyStmt": Verb.NOTIFY,
}
_WRITES = {
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
    "CallStmt": "CALL",
    "TruncateStmt": "TRUNCATE",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW",
    "VacuumStmt": "ANALYZE",
    "NotifyStmt": "NOTIFY",
    "LockingClause": "a locking clause (FOR UPDATE, FOR SHARE …)",
}
_DATA_MODIFYING = ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt")
_COUNTABLE = (Verb.INSERT, Verb.UPDATE, Verb.DELETE)
"""What takes a RETURNING on every version that is served (MERGE does from PostgreSQL 17 on)."""
_SIDE_EFFECTS = frozenset({"set_config", "setval", "nextval", "pg_notify"})
_SIDE_EFFECTS_BEGIN = ("lo_", "pg_advisory_lock", "pg_try_advisory_lock", "pg_advisory_unlock")
_NUMBER = re.compile(r'"(\$\d+)"')
_SERVED = (
    "SELECT, VALUES, TABLE, WITH, INSERT, UPDATE, DELETE, MERGE, CALL, TRUNCATE, REFRESH MATERIALIZED VIEW, ANALYZE"
    " and NOTIFY"
)
_RESERVED = f"the name {ALIAS} is the gateway's own"


class Analysis(NamedTuple):
    """A statement, and what is known of it without a server."""

    statement: Statement
    writes: str | None
    """Why it is a write, as a noun; None for a read."""
    side_effects: tuple[str, ...]
    """Functions that no read may call."""
    duplicates: tuple[str, ...]
    """Names that two columns of the result have, as far as the text shows."""
    is_ordered: bool
    """Whether it is a SELECT with an ORDER BY of its own."""
    is_limited: bool
    """Whether it is one with a LIMIT, OFFSET or FETCH."""
    hints: dict[int, str]
    """What the text tells of its parameters, by index: see ``naming``."""


class Unserved(Exception):
    """The statement is of a kind that no query can be; the message says so."""


def analyse(marked: Marked) -> tuple[Analysis | None, list[FaultAt]]:
    """Parse one statement; its analysis, if nothing is wrong with it, and the faults. Raises Unserved."""
    bare = marked.text()
    try:
        roots = parse(bare.render())
    except SyntaxFault as fault:
        return None, [_as_written(fault, marked)]
    if len(roots) != 1:
        return None, [FaultAt(0, "a query is one statement; here are " + (str(len(roots)) if roots else "none"))]
    root = roots[0]
    verb = _VERBS.get(root.kind)
    if verb is None or (verb is Verb.ANALYZE and root.fields.get("is_vacuumcmd")):
        word = next((token.text.upper() for token in tokens(marked.body) if token.is_word), "this statement")
        raise Unserved(f"{word} cannot be served; a query is one of {_SERVED}")
    nodes = list(root.walk())
    faults = [FaultAt(0, message) for message in _refused(root, nodes)]
    writes = next((word for kind, word in _WRITES.items() if any(node.kind == kind for node in nodes)), None)
    functions = sorted({_dotted(node, "funcname") for node in nodes if node.kind == "FuncCall"})
    relations = sorted(_relations(root))
    if ALIAS in relations:
        faults.append(FaultAt(0, _RESERVED))
    prelude, source, wrapping_faults = _selectable(root, verb, marked, bare)
    faults.extend(wrapping_faults)
    if faults:
        return None, faults
    counted = prelude if verb in _COUNTABLE and source is not None else _counted(root, verb, marked, bare)
    statement = Statement(verb, bare, prelude, source, counted, tuple(functions), tuple(relations))
    effects = tuple(name for name in functions if _has_side_effects(name))
    is_limited = root.node("limit_count") is not None or root.node("limit_offset") is not None
    is_ordered = bool(root.nodes("sort_clause"))
    return Analysis(statement, writes, effects, _duplicates(root), is_ordered, is_limited, hints(nodes)), []


def _as_written(fault: SyntaxFault, marked: Marked) -> FaultAt:
    """The parser's fault, with a parameter that it names as the text has it."""
    if fault.offset is None:
        return FaultAt(0, fault.message)
    spelling = marked.spelling(fault.offset)
    message = fault.message if spelling is None else _NUMBER.sub(lambda _: f'"{spelling}"', fault.message)
    return FaultAt(marked.origin(fault.offset), message)


@functools.cache
def is_type(text: str) -> bool:
    """Whether this is the name of one PostgreSQL type and nothing more (that it exists, only a server knows)."""
    try:
        roots = parse(f"SELECT NULL::{text}")
    except (SyntaxFault, UnicodeEncodeError):
        return False
    if len(roots) != 1 or set(roots[0].fields) - {"target_list", "limit_option", "op"}:
        return False
    targets = roots[0].nodes("target_list")
    cast = targets[0].node("val") if len(targets) == 1 and set(targets[0].fields) <= {"val", "location"} else None
    name = cast.node("type_name") if cast is not None and cast.kind == "TypeCast" else None
    argument = cast.node("arg") if cast is not None else None
    return name is not None and "setof" not in name.fields and argument is not None and argument.kind == "A_Const"


def _refused(root: Node, nodes: Sequence[Node]) -> Iterator[str]:
    """What the server would refuse wherever the query runs."""
    if any(node.kind == "IntoClause" for node in nodes):
        yield "SELECT INTO creates a table, which no query can do"
    ctes = _ctes(root)
    if any(node.kind == "CommonTableExpr" and node.string("ctename") == ALIAS for node in nodes):
        yield _RESERVED
    top = [root, *(query for cte in ctes if (query := cte.node("ctequery")) is not None)]
    if any(node.kind in _DATA_MODIFYING and not any(node is one for one in top) for node in nodes):
        yield "a data-modifying statement must be the statement itself or in its outermost WITH"


def _ctes(node: Node) -> list[Node]:
    clause = node.node("with_clause")
    return clause.nodes("ctes") if clause is not None else []


def _dotted(node: Node, field: str) -> str:
    return ".".join(part.string("sval") for part in node.nodes(field))


def _has_side_effects(function: str) -> bool:
    name = function.removeprefix("pg_catalog.")
    return name in _SIDE_EFFECTS or name.startswith(_SIDE_EFFECTS_BEGIN)


def _relations(root: Node) -> set[str]:
    """All tables and views named; a name that a WITH in scope defines is none of them."""
    found: set[str] = set()
    waiting: list[tuple[Node, frozenset[str], bool]] = [(root, frozenset(), False)]
    while waiting:
        node, scope, is_target = waiting.pop()
        if node.kind == "RangeVar":
            parts = [node.string(field) for field in ("catalogname", "schemaname", "relname")]
            name = ".".join(part for part in parts if part)
            if is_target or parts[1] or name not in scope:
                found.add(name)
            continue
        inner = scope
        clause = node.node("with_clause")
        if clause is not None:
            inner = scope | {cte.string("ctename") for cte in _ctes(node)}
            seen = inner if clause.fields.get("recursive") else scope
            for cte in _ctes(node):
                waiting.append((cte, seen, False))
                seen |= {cte.string("ctename")}
        # The target of an INSERT, UPDATE, DELETE or MERGE is a table even if a WITH has its name.
        target = node.node("relation")
        waiting.extend((child, inner, child is target) for child in node.children() if child is not clause)
    return found


def _selectable(root: Node, verb: Verb, marked: Marked, bare: Text) -> tuple[Text | None, Text | None, list[FaultAt]]:
    """Prelude and source of a statement: see ``query.Statement``."""
    returns = verb is Verb.SELECT or "returning_clause" in root.fields or "returning_list" in root.fields
    if not returns:
        return None, None, []
    if _modifies_in_with(root):
        start = _main_statement(tokens(marked.body))
        if start is None:
            return None, None, [FaultAt(0, "a data-modifying WITH must be what the statement begins with")]
        return _hoisted(marked, start), Text((ALIAS,)), []
    if verb is Verb.SELECT:
        return None, joined("(\n", bare, "\n)"), []
    return joined(f"WITH {ALIAS} AS (\n", bare, "\n)"), Text((ALIAS,)), []


def _counted(root: Node, verb: Verb, marked: Marked, bare: Text) -> Text | None:
    """``Statement.counted`` of a statement without RETURNING: one of a constant, which needs no privilege."""
    if verb not in _COUNTABLE:
        return None
    if _modifies_in_with(root):
        start = _main_statement(tokens(marked.body))
        return None if start is None else _hoisted(marked, start, "\nRETURNING 1")
    return joined(f"WITH {ALIAS} AS (\n", bare, "\nRETURNING 1\n)")


def _modifies_in_with(root: Node) -> bool:
    queries = [cte.node("ctequery") for cte in _ctes(root)]
    return any(query is not None and query.kind in _DATA_MODIFYING for query in queries)


def _hoisted(marked: Marked, start: int, tail: str = "") -> Text:
    """The WITH clause with the main statement, which begins at ``start``, as its last part."""
    return joined(marked.text(0, start), f"\n, {ALIAS} AS (\n", marked.text(start), f"{tail}\n)")


def _main_statement(found: Sequence[Token]) -> int | None:
    """Offset of the statement behind its WITH clause, in text that is known to parse; None if it has none in front.

    Keywords alone are not enough: ``update`` and ``values`` can be names. So the clause is read as the grammar has it:
    ``WITH [RECURSIVE] name [(…)] AS [[NOT] MATERIALIZED] (…) [SEARCH …] [CYCLE …], …``.
    """
    left = [token for token in found if not token.is_comment]
    if not left or left[0].kind not in ("WITH", "WITH_LA"):
        return None
    at = 2 if left[1].kind == "RECURSIVE" else 1
    while True:
        while left[at].kind != "AS":
            at = _past_group(left, at)
        while left[at].kind != "(":
            at += 1
        at = _past_group(left, at)
        while left[at].kind in ("SEARCH", "CYCLE"):
            at = _past_detail(left, at)
        if left[at].kind != ",":
            return left[at].start
        at += 1


def _past_detail(found: Sequence[Token], at: int) -> int:
    """Past ``SEARCH DEPTH FIRST BY a, b SET c`` or ``CYCLE a, b SET c [TO x DEFAULT y] USING d``."""
    is_cycle = found[at].kind == "CYCLE"
    at += 1 if is_cycle else 4
    while found[at + 1].kind == ",":
        at += 2
    at += 3
    if is_cycle:
        while found[at].kind != "USING":
            at += 1
        at += 2
    return at


def _past_group(found: Sequence[Token], at: int) -> int:
    """Past the token here, and past all of what it brackets if it is an opening parenthesis."""
    depth = 0
    while True:
        depth += {"(": 1, ")": -1}.get(found[at].kind, 0)
        at += 1
        if depth == 0:
            return at


def _duplicates(root: Node) -> tuple[str, ...]:
    returning = root.node("returning_clause")
    targets = returning.nodes("exprs") if returning is not None else root.nodes("target_list")
    names = [name for target in targets if (name := _column_name(target))]
    return tuple(sorted({name for name in names if names.count(name) > 1}))


def _column_name(target: Node) -> str:
    """Name of a column of the result, where it has one by itself; a star has many."""
    value = target.node("val")
    if target.string("name") or value is None or value.kind != "ColumnRef":
        return target.string("name")
    return value.nodes("fields")[-1].string("sval")
