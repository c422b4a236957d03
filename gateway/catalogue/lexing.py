"""PostgreSQL's own lexer and parser, behind plain values: the only module that knows postgast.

Offsets are characters here (the library mixes bytes and characters), token kinds and node kinds are the
grammar's own names (``IDENT``, ``SCONST``, ``SelectStmt``), and single characters stand for themselves.
"""

import importlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import postgast
from google.protobuf.message import DecodeError

_SHORT = 2_000
"""Bytes of text whose deepest possible tree fits into any thread's stack (tried: 4,000 into 1 MB)."""
_ROOMY = 64 << 20
"""Bytes of stack for longer texts: a sum of 32,000 terms, which fits into 64 kB, needs more than 8 MB."""

_NEAR = 40
"""Characters shown of the place of a fault."""

_KINDS = {
    number: chr(number) if name.startswith("ASCII_") else name for name, number in postgast.pg_query_pb2.Token.items()
}
_KEYWORDS = ("", "unreserved", "column", "type", "reserved")

T = TypeVar("T")


class SyntaxFault(Exception):
    """The text is not PostgreSQL's SQL. ``offset`` is where, in characters from 0; None where that is not known."""

    def __init__(self, message: str, offset: int | None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class Token(NamedTuple):
    """One token of a text, comments included."""

    kind: str
    text: str
    start: int
    end: int
    keyword: str
    """Class of keyword: ``unreserved``, ``column``, ``type``, ``reserved``; empty for what is none."""

    @property
    def is_comment(self) -> bool:
        """Whether the parser would not see it."""
        return self.kind in ("SQL_COMMENT", "C_COMMENT")

    @property
    def is_word(self) -> bool:
        """Whether it is an unquoted identifier or a keyword."""
        return bool(self.keyword) or (self.kind == "IDENT" and not self.text.startswith('"'))


class Node(NamedTuple):
    """A node of a parse tree: its kind and those of its fields that are set."""

    kind: str
    fields: dict[str, Any]
    """Nodes, lists of nodes, strings, numbers, booleans; wrappers without meaning are gone."""

    def node(self, field: str) -> "Node | None":
        """The node in this field, if there is one."""
        value = self.fields.get(field)
        return value if isinstance(value, Node) else None

    def nodes(self, field: str) -> "list[Node]":
        """The nodes of a list; empty where it is not set."""
        value = self.fields.get(field)
        return value if isinstance(value, list) else []

    def string(self, field: str) -> str:
        """The string in this field; empty where it is not set."""
        value = self.fields.get(field)
        return value if isinstance(value, str) else ""

    def children(self) -> "list[Node]":
        """All nodes right below, in the order of the grammar."""
        found: list[Node] = []
        for value in self.fields.values():
            if isinstance(value, Node):
                found.append(value)
            elif isinstance(value, list):
                found.extend(value)
        return found

    def walk(self) -> "Iterator[Node]":
        """This node and all below, in the order of the grammar; without recursion, as trees may be deep."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children()))


def tokens(sql: str) -> list[Token]:
    """Cut a text into tokens. Raises SyntaxFault.

    The text must hold no NUL: the lexer stops there and reports nothing.
    """
    try:
        found = postgast.scan(sql).tokens
    except postgast.PgQueryError as error:
        raise _fault(error) from None
    if sql.isascii():  # PERF: bytes are characters then, as in nearly every text
        return [
            Token(_KINDS[each.token], sql[each.start : each.end], each.start, each.end, _KEYWORDS[each.keyword_kind])
            for each in found
        ]
    data = sql.encode()
    result: list[Token] = []
    at_byte = at_char = 0
    for token in found:
        start = at_char + len(data[at_byte : token.start].decode())
        text = data[token.start : token.end].decode()
        at_byte, at_char = token.end, start + len(text)
        result.append(Token(_KINDS[token.token], text, start, at_char, _KEYWORDS[token.keyword_kind]))
    return result


def parse(sql: str) -> list[Node]:
    """Parse a text into its statements. Raises SyntaxFault.

    Any text of at most 64 kB is safe: what nests deeply is parsed on a stack that is large enough.
    """
    if len(sql.encode()) <= _SHORT:
        return _parse(sql)
    return _with_room(lambda: _parse(sql))


def _parse(sql: str) -> list[Node]:
    limit = _depth_limit()
    try:
        limit(True)
        parsed = postgast.parse(sql)
    except postgast.PgQueryError as error:
        raise _fault(error) from None
    except DecodeError:
        raise SyntaxFault("the statement nests too deeply", None) from None
    finally:
        limit(False)
    return [_tree(statement.stmt) for statement in parsed.stmts]


def _depth_limit() -> Callable[[bool], None]:
    """The switch that lifts protobuf's limit of 100 levels, which is a chain of 48 operators or 45 joins.

    Where an implementation of protobuf lacks the switch, such statements are refused.
    """
    try:
        module = importlib.import_module("google._upb._message")
        switch: Callable[[bool], None] = module.SetAllowOversizeProtos
    except (ImportError, AttributeError):
        return lambda _: None
    return switch


def _with_room(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread with a large stack and give back what it returns or raises."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            errors.append(error)

    before = threading.stack_size(_ROOMY)
    try:
        thread = threading.Thread(target=run, name="parser", daemon=True)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _tree(message: Any) -> Node:
    """Turn protobuf messages into nodes, without recursion: a tree may be 60,000 levels deep."""
    root = _unwrapped(message)
    top = Node(root.DESCRIPTOR.name, {})
    waiting = [(root, top)]
    while waiting:
        source, node = waiting.pop()
        for descriptor, value in source.ListFields():
            if descriptor.message_type is None:
                node.fields[descriptor.name] = value
                continue
            many = not hasattr(value, "ListFields")
            made: list[Node] = []
            for item in value if many else (value,):
                inner = _unwrapped(item)
                child = Node(inner.DESCRIPTOR.name, {})
                made.append(child)
                waiting.append((inner, child))
            node.fields[descriptor.name] = made if many else made[0]
    return top


def _unwrapped(message: Any) -> Any:
    """The message inside a ``Node``, which only says which of all kinds it holds."""
    if message.DESCRIPTOR.name != "Node":
        return message
    kind = message.WhichOneof("node")
    return getattr(message, kind) if kind else message


def _fault(error: postgast.PgQueryError) -> SyntaxFault:
    # NOTE: what a message calls "near" may be the whole rest of the file.
    what, near, rest = error.message.partition(' at or near "')
    if near:
        first = rest.removesuffix('"').partition("\n")[0].rstrip()
        near += (first if len(first) <= _NEAR else first[:_NEAR] + "…") + '"'
    return SyntaxFault(what + near, error.cursorpos - 1 if error.cursorpos > 0 else None)
