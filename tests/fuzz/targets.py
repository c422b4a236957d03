"""What reads input from outside, one function each: whatever comes, it answers or refuses, and in known ways only.

A target takes an input and returns what became of it in a word. It raises for a finding: an exception that is not
the refusal of that place, or a promise that does not hold (what is accepted means the same to another reader, bytes
mean the same however they arrive).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.catalogue import json_text
from gateway.catalogue.arguments import Binder
from gateway.catalogue.query import Kind, Parameter
from gateway.catalogue.references import Lookup, Shape, plain, read_reference
from gateway.catalogue.types import Family, Type
from gateway.catalogue.values import Refused
from gateway.errors import InvalidArguments, InvalidJSON, InvalidRequest
from gateway.execution.cursors import Cursors, Position
from gateway.postgres.marks import Mark, NoMark
from gateway.postgres.tokens import Token
from gateway.server.head import BadRequest
from gateway.server.intake import Heads, Intake
from gateway.settings.units import rate, seconds, size
from gateway.web import preferences
from gateway.web.asking import query_string
from tests.catalogue.test_arguments_properties import read_literal
from tests.fuzz import callers
from tests.fuzz.fuzzing import Finding, Target
from tests.fuzz.mutating import Mutator

HEAD_REFUSALS = frozenset({400, 413, 414, 417, 431, 501, 505})


# --- heads ------------------------------------------------------------------------------------------------------------


def _requests(pieces: Sequence[bytes]) -> list[Any]:
    """What a connection makes of these pieces: each request's target, headers and body, then a refusal's status."""
    intake = Intake(heads=Heads({}), max_body=1000, hold=lambda _: True)
    found: list[Any] = []
    try:
        for piece in pieces:
            intake.feed(piece)
            while (request := intake.next()) is not None:
                head, body = request
                found.append((head.environ, head.keep_alive, head.http_1_1, body))
                if not head.keep_alive:
                    return found
    except BadRequest as error:
        if error.status not in HEAD_REFUSALS:
            raise Finding(f"status {error.status}") from error
        found.append(error.status)
    return found


def heads(data: bytes, mutator: Mutator) -> str:
    """Requests as they arrive."""
    whole, cut = _requests([data]), _requests(mutator.pieces(data))
    # Which of several faults is told may depend on what has arrived when the first is seen.
    if [_is_refusal(one) or one for one in whole] != [_is_refusal(one) or one for one in cut]:
        raise Finding(f"in one piece {whole!r}, in several {cut!r}")
    if not whole:
        return "unfinished"
    return str(whole[-1]) if _is_refusal(whole[-1]) else "served"


def _is_refusal(outcome: Any) -> bool:
    return isinstance(outcome, int)


HEADS = [
    b"GET /query/orders?customer_id=7 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /query/orders HTTP/1.1\r\nHost: h:80\r\nContent-Length: 8\r\nContent-Type: application/json\r\n\r\n"
    b'{"id":7}GET / HTTP/1.1\r\nHost: h\r\n\r\n',
    b"POST /transaction HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\n{} \r\n1;x=y\r\n \r\n0\r\nT: x\r\n\r\n",
    b"GET http://h/queries?a=1 HTTP/1.0\r\nConnection: keep-alive\r\nPrefer: wait=1\r\nAccept: */*\r\n\r\n",
    b"HEAD /%7e HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1",
    b"POST /query/keep HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Type: application/json\r\n"
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=1,b@c=2\r\n\r\n{}",
    b"OPTIONS * HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade, TE\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
]
HEAD_WORDS = (
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: +5\r\n", b"Host: x\r\n", b"X_Y: z\r\n", b" HTTP/1.1", b"HTTP/2.0",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n\r\n", b"\r\n ", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"\x16\x03\x01",
    b"CONNECT h:1 HTTP/1.1\r\n", b": ", b"\r\nConnection: close",
    b"traceparent: ", b"tracestate: ", b"00-", b"-01", b"=\xff", b",,", b"a=1,a=1",
)  # fmt: skip


# --- bodies -----------------------------------------------------------------------------------------------------------


def _type(name: str, family: Family, **more: Any) -> Type:
    return Type(name=name, sql=f"pg_catalog.{name}", family=family, **more)


_TEXT = _type("text", Family.TEXT)
_TYPES: Mapping[str, Type] = {
    "b": _type("bool", Family.BOOL),
    "i": _type("int4", Family.INTEGER, size=4),
    "f": _type("float8", Family.FLOAT),
    "n": _type("numeric", Family.NUMERIC),
    "t": _TEXT,
    "u": _type("uuid", Family.UUID),
    "y": _type("bytea", Family.BYTEA),
    "j": _type("jsonb", Family.JSON),
    "e": _type("mood", Family.ENUM, labels=("sad", "so 'so'")),
    "a": _type("_int4", Family.ARRAY, element=_type("int4", Family.INTEGER, size=4)),
    "c": _type("pair", Family.COMPOSITE, fields=(("x", _TEXT), ("y", _type("_text", Family.ARRAY, element=_TEXT)))),
    "o": _type("interval", Family.OTHER),
}
_BINDER = Binder([Parameter(name, default="null") for name in _TYPES], list(_TYPES.values()))


def _bound(members: Mapping[str, msgspec.Raw]) -> str:
    try:
        literals = _BINDER.bind_json(members)
    except InvalidArguments:
        return "invalid arguments"
    _check_literals(literals)
    return "bound"


def _check_literals(literals: Sequence[str]) -> None:
    for literal in literals:
        if literal == "NULL":
            continue
        if "\0" in literal:
            raise Finding("NUL in a literal")
        for standard in (True, False):
            read_literal(literal, standard_conforming_strings=standard)  # ValueError: not one constant to its end
        literal.encode()


def bodies(data: bytes, _mutator: Mutator) -> str:
    """Bodies of queries and lists."""
    try:
        if json_text.begins_list(data):
            outcomes = [_bound(json_text.members(raw) or {}) for raw in json_text.split_list(data)]
        else:
            outcomes = [_bound(json_text.split_object(data))]
    except InvalidJSON:
        return "not JSON"
    if data.strip(b" \t\r\n"):
        json.loads(data, parse_int=str)  # ValueError: another reader does not take it
    return outcomes[0] if outcomes else "empty list"


BODIES = [
    b'{"b": true, "i": 7, "f": 1.5, "n": 12345678901234567890.5, "t": "it\'s \\\\ \\u00e9"}',
    b'{"u": "00000000-0000-4000-8000-000000000000", "y": "\\\\xdeadbeef", "j": {"a": [1, {"b": null}]}, "e": "sad"}',
    b'{"a": [1, null, 3], "c": {"x": "a,b)", "y": ["\\"", "{}", null]}, "o": "1 day"}',
    b'{"o": "no interval"}',
    b'[{"i": 1}, {"i": 2}, {"t": "\\ud83d\\ude00"}]',
    b"",
    b'{"f": "NaN", "n": "Infinity", "i": -2147483648, "a": [], "j": "text", "t": null}',
]
BODY_WORDS = (
    b"\\u0000", b"\\ud800", b"\\udc00", b"\\u", b'"i":', b'"a":', b"[[", b"{{", b"null", b"true", b"1e400", b"-0.0",
    b"1.", b"\\x", b'{"$ref":"/0/row/id"}', b'"\'); DROP TABLE x; --"', b"[" * 70, b"]" * 70, b"\x1f", b"\\'", b"\\\\'",
)  # fmt: skip


def query_strings(data: bytes, _mutator: Mutator) -> str:
    """Arguments in a URL."""
    try:
        arguments = query_string(data.decode("latin-1"))
    except InvalidRequest:
        return "malformed"
    try:
        literals = _BINDER.bind_text(arguments)
    except InvalidArguments:
        return "invalid arguments"
    _check_literals(literals)
    return "bound"


QUERY_STRINGS = [
    b"i=7&t=it%27s&b=true",
    b"a=1&a=2&a=3&t=%C3%A9",
    b"a=%7B1%2C2%7D&j=%7B%22x%22%3A1%7D&c=(1,2)",
    b"f=NaN&n=1e10&u=00000000-0000-4000-8000-000000000000&y=%5Cxff&o=1+day&e=sad",
    b"t=&j=null",
]


# --- what travels in headers, paths and arguments ---------------------------------------------------------------------


def pointers(data: bytes, _mutator: Mutator) -> str:
    """References to results of earlier steps."""
    shapes = [Shape(Kind.MANY, ("id", "a/b")), Shape(Kind.ONE, ("id",)), Shape(Kind.SCALAR, ()), Shape(Kind.EXEC, ())]
    results = [
        (b'{"id":1,"a/b":[1,2]},{"id":2,"a/b":null}', 2),
        (b'{"id":{"x":[7]}}', 1),
        (b'[1,{"k":"v"}]', 1),
        (b"", 3),
    ]
    try:
        _, pointer = plain(json_text.value(json.dumps({"$ref": data.decode("utf-8", "surrogateescape")})))
        reference = read_reference(pointer or "", shapes)
        text, count = results[reference.step]
        found = Lookup().look(reference, shapes[reference.step].kind, text, count)
    except InvalidJSON:
        return "not JSON"
    except Refused:
        return "refused"
    json.loads(bytes(found))
    return "found"


def tokens(data: bytes, _mutator: Mutator) -> str:
    """Consistency tokens."""
    text = data.decode("latin-1")
    try:
        token = Token.read(text)
    except InvalidRequest:
        return "refused"
    if str(token) != text:
        raise Finding("a token that is written otherwise")
    return "read"


def marks(data: bytes, _mutator: Mutator) -> str:
    """Marks of writes, in a path."""
    text = unquote_to_bytes(data).decode("utf-8", "replace")
    try:
        mark = Mark.read(text)
    except NoMark:
        return "refused"
    if mark.token() != text:
        raise Finding("a mark that is written otherwise")
    return "read"


def prefer(data: bytes, _mutator: Mutator) -> str:
    """The header Prefer."""
    try:
        preferences.parse(data.decode("latin-1")).applied.encode("latin-1")
    except InvalidRequest:
        return "refused"
    return "read"


def units(data: bytes, _mutator: Mutator) -> str:
    """Durations, sizes and rates, in settings and in what operators ask for."""
    text = data.decode("utf-8", "replace")
    read = 0
    for reader in (seconds, size, rate):
        try:
            reader(text)
            read += 1
        except ValueError:
            continue
    return "read" if read else "refused"


_CONTEXT = b"query, arguments and order"
_CURSORS = Cursors(b"a secret")
_CURSOR = _CURSORS.write(Position(["7", None, "2026-01-01"], Token(7_300_000_000_000_000_000, 1, 4711)), _CONTEXT)


def cursors(data: bytes, _mutator: Mutator) -> str:
    """Cursors of pages, of which only what was written with the secret is one."""
    text = data.decode("latin-1")
    found = _CURSORS.read(text, _CONTEXT)
    if (found is not None) != (text == _CURSOR):
        raise Finding(f"a cursor that was changed is read as {found}")
    if found is not None and _CURSORS.read(text, b"another context") is not None:
        raise Finding("a cursor is good in another context")
    return "refused" if found is None else "read"


_TOKEN = str(Token(7_300_000_000_000_000_000, 1, 123_456_789)).encode()
_MARK = (
    Mark(7_300_000_000_000_000_000, 1, 4711, 123_456_789, 1_700_000_000_000_000, 1_700_000_100_000_000).token().encode()
)

TARGETS: Mapping[str, Target] = {
    "heads": Target(heads, HEADS, HEAD_WORDS),
    "bodies": Target(bodies, BODIES, BODY_WORDS),
    "query_strings": Target(query_strings, QUERY_STRINGS, BODY_WORDS),
    "pointers": Target(
        pointers,
        [b"/0/rows/1/id", b"/0/row_count", b"/1/row/id/x/0", b"/2/value/1/k", b"/3/affected", b"/0/rows/0/a~1b/1"],
        [b"~", b"~0", b"~1", b"/", b"/-", b"/01", b"//"],
    ),
    "tokens": Target(tokens, [_TOKEN, b"", b"AAAA"], [b"=", b"-", b"_", b"+", b"/"]),
    "cursors": Target(cursors, [_CURSOR.encode(), b"", b"AAAA"], [b"=", b"-", b"_", b"+", b"/", b"%3D"]),
    "marks": Target(marks, [_MARK, b"", b"AAAA", b"%41"], [b"=", b"-", b"_", b"%2F"]),
    "prefer": Target(
        prefer,
        [b"wait=1.5, bigint=string", b'max-staleness="0.5"; x=y, handling=strict', b"respond-async", b'a="\\", wait=9'],
        [b"wait=", b"wait", b"handling=lenient", b'"', b";", b","],
    ),
    "units": Target(
        units, [b"250ms", b"1.5 h", b"64kB", b"100/s burst=200", b"5"], [b"ms", b"min", b"TB", b" burst=", b"/"]
    ),
    **callers.TARGETS,
}  # fmt: skip
