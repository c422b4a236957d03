"""What in a statement selects rows in a way that can be planned well only when the arguments are known.

For ``gateway check``, which needs no server for it; whether it matters, only a server with real arguments can tell.
"""

from collections.abc import Iterator

from gateway.catalogue.lexing import Node, parse
from gateway.catalogue.query import Statement

_OR, _IS_NULL = 2, 1
"""``OR_EXPR`` and ``IS_NULL``, as the parser numbers them."""
_PREFIXES = ("~~", "~~*", "~", "~*", "^@")
"""The operators of LIKE, ILIKE, regular expressions and ``starts_with``."""


def planned_by_arguments(statement: Statement) -> list[str]:
    """What is such in a statement that was compiled, as nouns, each once."""
    (root,) = parse(statement.bare.render())
    return list(dict.fromkeys(_found(root)))


def _found(root: Node) -> Iterator[str]:
    for node in root.walk():
        if node.kind == "BoolExpr" and node.fields.get("boolop") == _OR and any(map(_is_left_out, node.nodes("args"))):
            yield "an optional filter (`:x IS NULL OR …`)"
        elif node.kind == "A_Expr" and any(name.string("sval") in _PREFIXES for name in node.nodes("name")):
            pattern = node.node("rexpr")
            if pattern is not None and any(each.kind == "ParamRef" for each in pattern.walk()):
                yield "a pattern or prefix that is an argument"
        elif node.kind == "CoalesceExpr":
            first, *others = node.nodes("args")
            if _is_parameter(first) and any(other.kind == "ColumnRef" for other in others):
                yield "an optional filter (`coalesce(:x, column)`)"


def _is_left_out(node: Node) -> bool:
    """Whether it is ``:x IS NULL``."""
    tested = node.node("arg")
    is_test = node.kind == "NullTest" and node.fields.get("nulltesttype") == _IS_NULL
    return is_test and tested is not None and _is_parameter(tested)


def _is_parameter(node: Node) -> bool:
    while node.kind == "TypeCast" and (inner := node.node("arg")) is not None:
        node = inner
    return node.kind == "ParamRef"
