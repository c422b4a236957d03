"""Names for parameters that a statement only numbers, taken from what its text says of them.

A parameter has the name of the column that it is inserted into, assigned to or compared with, ``limit`` or ``offset``
there, and the name of an argument that is written ``name => $1``: sqlc's rules, as far as the text alone tells. What is
only part of an expression (``price * $1``) has no name, and is called by its number: ``arg1``.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import count

from gateway.catalogue.headers import is_parameter
from gateway.catalogue.lexing import Node
from gateway.catalogue.placeholders import Marked

_COMPARISONS = frozenset({
    "=", "<>", "<", "<=", ">", ">=", "~", "~*", "!~", "!~*", "~~", "~~*", "!~~", "!~~*", "^@",
    "@>", "<@", "&&", "@@", "?", "?|", "?&", "-|-", "@?",
})  # fmt: skip
"""Operators whose answer is true or false."""
_OPERATOR, _ANY, _ALL, _NULLIF = 1, 2, 3, 6
"""Kinds of ``A_Expr``; those from here on that are not listed compare (IN, LIKE, BETWEEN, IS DISTINCT FROM)."""
_ALL_OF, _ANY_OF = 2, 3
"""Kinds of ``SubLink`` that compare."""
_LIMITS, _ASSIGNED, _COMPARED = range(3)
"""What tells most of a parameter that is used more than once, and then its first use."""

_Hint = tuple[int, Iterable[Node], str]


def hints(nodes: Iterable[Node]) -> dict[int, str]:
    """What the nodes of a tree tell of its parameters, by index (that of ``$1`` is 0)."""
    told: dict[int, tuple[int, int, str]] = {}
    for node in nodes:
        read = _READERS.get(node.kind)
        for rank, expressions, name in read(node) if read else ():
            for parameter in _parameters(expressions):
                index = parameter.fields["number"] - 1
                hint = (rank, parameter.fields.get("location", 0), name)
                told[index] = min(told.get(index, hint), hint)
    return {index: name for index, (_, _, name) in told.items()}


def named(marked: Marked, found: Mapping[int, str], declared: Collection[str]) -> tuple[str, ...]:
    """The names of all parameters: the text's own, and for those that are only numbered what was ``found``.

    A name that is taken gets a number: ``length``, ``length_2``. Where an annotation speaks of ``arg1``, $1 keeps that
    name.
    """
    names = list(marked.names)
    taken = {name for index, name in enumerate(names) if index not in marked.unnamed}
    for index in sorted(marked.unnamed):
        hint = found.get(index, "")
        plain = names[index] if names[index] in declared or not is_parameter(hint) else hint
        candidates = (plain if number == 1 else f"{plain}_{number}" for number in count(1))
        names[index] = next(name for name in candidates if name not in taken)
        taken.add(names[index])
    return tuple(names)


def _parameters(expressions: Iterable[Node]) -> Iterator[Node]:
    """The parameters among these, also below what passes on the value of one of its parts."""
    waiting = list(expressions)
    while waiting:
        node = waiting.pop()
        if node.kind == "ParamRef":
            yield node
        waiting += [part for field in _PASSED_ON.get(node.kind, ()) for part in _below(node, field)]


_PASSED_ON = {
    "TypeCast": ("arg",),
    "CollateClause": ("arg",),
    "CoalesceExpr": ("args",),
    "CaseExpr": ("args", "defresult"),
    "CaseWhen": ("result",),
    "A_ArrayExpr": ("elements",),
    "List": ("items",),
}


def _below(node: Node, field: str) -> list[Node]:
    one = node.node(field)
    return node.nodes(field) if one is None else [one]


def _column(node: Node) -> str:
    """The one column of an expression, as in ``lower(name)``; empty where there is none, or more than one."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if each.kind == "ColumnRef":
            found.add(each.nodes("fields")[-1].string("sval"))
        elif each.kind == "A_Indirection" and each.nodes("indirection")[-1].kind == "String":
            found.add(each.nodes("indirection")[-1].string("sval"))
        elif each.kind != "SubLink":
            waiting.extend(each.children())
    return found.pop() if len(found) == 1 else ""


def _compared(left: Node, right: Node) -> Iterator[_Hint]:
    if right.kind == "List":
        for item in right.nodes("items"):
            yield from _compared(left, item)
    elif left.kind == right.kind == "RowExpr":
        for one, other in zip(left.nodes("args"), right.nodes("args"), strict=False):
            yield from _compared(one, other)
    else:
        yield _COMPARED, [right], _column(left)
        yield _COMPARED, [left], _column(right)


def _expression(node: Node) -> Iterator[_Hint]:
    kind, left, right = node.fields.get("kind"), node.node("lexpr"), node.node("rexpr")
    operator = node.nodes("name")[-1].string("sval")
    if left is None or right is None or kind == _NULLIF:
        return
    if kind not in (_OPERATOR, _ANY, _ALL) or operator in _COMPARISONS:
        yield from _compared(left, right)


def _sublink(node: Node) -> Iterator[_Hint]:
    left, query = node.node("testexpr"), node.node("subselect")
    targets = [] if query is None else query.nodes("target_list")
    right = targets[0].node("val") if len(targets) == 1 else None
    if node.fields.get("sub_link_type") in (_ALL_OF, _ANY_OF) and left is not None and right is not None:
        yield from _compared(left, right)


def _insert(node: Node) -> Iterator[_Hint]:
    columns = node.nodes("cols")
    waiting = _below(node, "select_stmt")
    while waiting:
        query = waiting.pop()
        waiting += [*_below(query, "larg"), *_below(query, "rarg")]
        rows = [row.nodes("items") for row in query.nodes("values_lists")]
        rows.append([value for target in query.nodes("target_list") for value in _below(target, "val")])
        for row in rows:
            for column, value in zip(columns, row, strict=False):
                yield _ASSIGNED, [value], column.string("name")


def _assignments(node: Node) -> Iterator[_Hint]:
    for target in node.nodes("target_list"):
        for value in _below(target, "val"):
            source = value.node("source") if value.kind == "MultiAssignRef" else None
            if source is None:
                yield _ASSIGNED, [value], target.string("name")
            elif source.kind == "RowExpr":
                yield _ASSIGNED, [source.nodes("args")[value.fields["colno"] - 1]], target.string("name")


def _merged(node: Node) -> Iterator[_Hint]:
    yield from _assignments(node)
    for target, value in zip(node.nodes("target_list"), node.nodes("values"), strict=False):
        yield _ASSIGNED, [value], target.string("name")


def _select(node: Node) -> Iterator[_Hint]:
    yield _LIMITS, _below(node, "limit_count"), "limit"
    yield _LIMITS, _below(node, "limit_offset"), "offset"


def _argument(node: Node) -> Iterator[_Hint]:
    yield _COMPARED, _below(node, "arg"), node.string("name")


_READERS = {
    "A_Expr": _expression,
    "SubLink": _sublink,
    "InsertStmt": _insert,
    "UpdateStmt": _assignments,
    "OnConflictClause": _assignments,
    "MergeWhenClause": _merged,
    "SelectStmt": _select,
    "NamedArgExpr": _argument,
}
