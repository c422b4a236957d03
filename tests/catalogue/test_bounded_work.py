"""The longest uninterrupted work on one request's arguments, in every form that a body of 1 MB can have.

``python -m tests.catalogue.test_bounded_work`` prints the figures.
"""

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import process_time
from typing import Any, NamedTuple

import pytest

from gateway.catalogue import json_text
from gateway.catalogue.arguments import Binder
from gateway.catalogue.query import Kind, Parameter
from gateway.catalogue.references import Lookup, Reference
from gateway.catalogue.types import Family, Type
from gateway.catalogue.values import Refused
from gateway.errors import GatewayError

LONGEST = 0.1
"""Seconds of processor time between two pauses, where other processes use the machine's caches and cores, too.

Alone, none takes more than half of this.
"""
BODY = 1024**2
LINE = 8190
"""Bytes of the longest request line that is taken."""

INT4 = Type("integer", "pg_catalog.int4", Family.INTEGER, size=4)
INT8 = Type("bigint", "pg_catalog.int8", Family.INTEGER, size=8)
TEXT = Type("text", "pg_catalog.text", Family.TEXT)
NUMERIC = Type("numeric", "pg_catalog.numeric", Family.NUMERIC)
FLOAT = Type("double precision", "pg_catalog.float8", Family.FLOAT)
UUID = Type("uuid", "pg_catalog.uuid", Family.UUID)
BYTEA = Type("bytea", "pg_catalog.bytea", Family.BYTEA)
JSONB = Type("jsonb", "pg_catalog.jsonb", Family.JSON)
BOOL = Type("boolean", "pg_catalog.bool", Family.BOOL)
MOOD = Type("mood", "shop.mood", Family.ENUM, labels=("good", "bad"))
DATE = Type("date", "pg_catalog.date", Family.OTHER)
PAIR = Type("pair", "shop.pair", Family.COMPOSITE, fields=(("a", INT4), ("b", TEXT)))
WIDE = Type("wide", "shop.wide", Family.COMPOSITE, fields=tuple((f"f{number}", INT4) for number in range(1000)))


def array(element: Type) -> Type:
    return Type(f"{element.name}[]", "shop.array", Family.ARRAY, element=element)


NESTED = Type("nested", "shop.nested", Family.COMPOSITE, fields=(("p", array(PAIR)), ("n", array(INT4))))


class Clock:
    """What is given to a binder as its pause: the longest time between two calls."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = process_time()

    def __call__(self) -> None:
        self.longest = max(self.longest, process_time() - self._began)
        self._began = process_time()


class Case(NamedTuple):
    name: str
    type: Type
    text: str
    """JSON of the argument; of a query string, the text itself."""
    constraints: Mapping[str, Any] = {}
    in_query_string: bool = False


def many(item: str, total: int = BODY, around: str = "[]") -> str:
    """A list of as many items as fit."""
    return around[0] + ",".join([item] * ((total - 2) // (len(item) + 1))) + around[1]


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


CASES = [
    *(
        Case(f"array of {what}", array(type_), many(item))
        for what, type_, item in [
            ("integers", INT4, "1"),
            ("integers in strings", INT8, '"1"'),
            ("nulls", INT4, "null"),
            ("booleans", BOOL, "true"),
            ("numerics", NUMERIC, "1"),
            ("numerics in strings", NUMERIC, '"1"'),
            ("floats", FLOAT, "1e1"),
            ("strings", TEXT, '""'),
            ("strings with escapes", TEXT, '"\\\\"'),
            ("UUIDs", UUID, quoted("1234abcd" * 4)),
            ("labels", MOOD, '"bad"'),
            ("dates", DATE, '"2026-01-01"'),
            ("bytea", BYTEA, '"\\\\x"'),
            ("JSON", JSONB, "1"),
            ("JSON objects", JSONB, "{}"),
            ("composites", PAIR, '{"a":1,"b":""}'),
            ("empty composites", PAIR, "{}"),
            ("empty composites of many fields", WIDE, "{}"),
            ("composites of many fields", WIDE, '{"f999":1}'),
            ("composites of arrays", NESTED, '{"n":[1,2],"p":[{},{}]}'),
            ("lists", INT4, "[1]"),
            ("lists in six dimensions", INT4, "[[[[[1]]]]]"),
            ("lists of strings", TEXT, '[""]'),
        ]
    ),
    Case("one long list in a list", array(INT4), f"[{many('1')}]"),
    Case("lists of 500", array(INT4), many(many("1", 1000))),
    Case("a last element that is wrong", array(INT4), many("1")[:-1] + ',"x"]'),
    Case("a last list that is longer", array(INT4), many("[1]")[:-1] + ",[1,2]]"),
    Case("composite of long arrays", NESTED, f'{{"n":{many("1", BODY // 2)},"p":{many("{}", BODY // 2)}}}'),
    Case("string", TEXT, quoted("a" * BODY)),
    Case("string of quotes", TEXT, quoted("'\\" * (BODY // 4))),
    Case("string of escapes", TEXT, '"' + "\\u00e9" * (BODY // 6) + '"'),
    Case("string of backslashes", TEXT, '"' + "\\\\" * (BODY // 2) + '\\ud83d\\ude00"'),
    Case("bytea", BYTEA, quoted("\\x" + "ab" * (BODY // 2))),
    Case("integer", INT4, "1" * BODY),
    Case("integer in a string", INT8, quoted("1" * BODY)),
    Case("numeric", NUMERIC, "1" * BODY),
    Case("float", FLOAT, "1" * BODY),
    Case("numeric with a bound", NUMERIC, "1" * BODY, {"minimum": 5}),
    Case("numeric with a great exponent", NUMERIC, "1e999999999999999999", {"maximum": 5, "enum": [5]}),
    Case("numeric that is chosen", NUMERIC, "1" * BODY, {"enum": [5]}),
    Case("JSON that is chosen", JSONB, many('{"a":1}'), {"enum": [1]}),
    Case("JSON that is chosen, as long as it may be", JSONB, many('{"a":1}', 65_000), {"enum": [1]}),
    Case("array that is chosen", array(INT4), many("1"), {"enum": [[1]]}),
    Case("array that is counted", array(INT4), many("1"), {"minLength": 1, "maxLength": 100}),
    Case("JSON that is counted", JSONB, many("1"), {"minLength": 1, "maxLength": 100}),
    Case("string with a pattern", TEXT, quoted("a" * (BODY - 100)), {"pattern": "^(a+)+$", "maxLength": 9}),
    *(
        Case(f"query string {name}", array(TEXT), text[:LINE], in_query_string=True)
        for name, text in [
            ("array", "{" + ",".join("a" * LINE) + "}"),
            ("of empty strings", "{" + ",".join(['""'] * LINE)),
            ("of braces", "{" * LINE),
            ("of bounds", "[1]" * LINE),
            ("of digits", "[" + "1" * LINE),
            ("of spaces", "{a" + " " * LINE),
            ("of backslashes", "{" + "\\" * LINE),
            ("of an open quote", '{"' + "a" * LINE),
        ]
    ),
]


def turn(case: Case) -> float:
    """Seconds of the longest work without a pause."""
    clock = Clock()
    binder = Binder([Parameter("x", constraints=dict(case.constraints))], [case.type], clock)
    clock()
    clock.longest = 0.0
    with suppress(GatewayError):
        if case.in_query_string:
            binder.bind_text({"x": [case.text]})
        else:
            binder.bind_json(json_text.split_object(b'{"x":%b}' % case.text.encode()))
    clock()
    return clock.longest


BODIES: list[tuple[str, bytes, Callable[[bytes], object]]] = [
    ("opened lists", b"[" * BODY, json_text.split_list),
    ("lists within each other", b"[" * (BODY // 2) + b"]" * (BODY // 2), json_text.split_list),
    ("lists as deep as allowed", many("[" * 60 + "]" * 60).encode(), json_text.split_list),
    ("empty lists", many("[]").encode(), json_text.split_list),
    ("strings in lists", many('[""]').encode(), json_text.split_list),
    ("strings", (many('""') + "[]" * 65).encode(), json_text.split_list),
    ("an open string", b'["' + b'\\"' * (BODY // 2), json_text.split_list),
    ("escapes", b'["' + b"\\u0041" * (BODY // 6) + b'"]', json_text.split_list),
    ("backslashes", b'["' + b"\\\\" * (BODY // 2) + b'\\ud800"]', json_text.split_list),
    ("surrogate pairs", b'["' + b"\\ud83d\\ude00" * (BODY // 12) + b'"]', json_text.split_list),
    ("members", json.dumps(dict.fromkeys(map(str, range(90_000)), 1)).encode(), json_text.split_object),
    ("white space", b" " * BODY, json_text.split_object),
]


def split(body: bytes, how: Callable[[bytes], object]) -> float:
    began = process_time()
    with suppress(GatewayError):
        how(body)
    return process_time() - began


def unknown_names(count: int, length: int, parameters: int) -> float:
    clock = Clock()
    known = [Parameter(f"{'p' * 50}{number}") for number in range(parameters)]
    binder = Binder(known, [INT4] * parameters, clock)
    raw = json_text.split_object(json.dumps({f"{number}".rjust(length, "p"): 1 for number in range(count)}).encode())
    clock()
    clock.longest = 0.0
    with suppress(GatewayError):
        binder.bind_json(raw)
    clock()
    return clock.longest


def objects(body: str, types: Sequence[Type]) -> float:
    """1,000 objects of a list, one after the other."""
    clock = Clock()
    binder = Binder([Parameter(f"p{number}") for number in range(len(types))], types, clock)
    elements = json_text.split_list(many(body, 1000 * (len(body) + 1)).encode())
    clock()
    clock.longest = 0.0
    for element in elements:
        with suppress(GatewayError):
            binder.bind_json(json_text.members(element) or {})
    clock()
    return clock.longest


def references(text: bytes, pointer: tuple[str, ...], kind: Kind = Kind.MANY) -> float:
    lookup = Lookup()
    began = process_time()
    for _ in range(1000):
        with suppress(Refused):
            lookup.look(Reference("/0", 0, pointer), kind, text, 1)
    return process_time() - began


def figures() -> Iterator[tuple[str, Callable[[], float]]]:
    for case in CASES:
        yield case.name, lambda case=case: turn(case)  # type: ignore[misc]
    for name, body, how in BODIES:
        yield f"body of {name}", lambda body=body, how=how: split(body, how)  # type: ignore[misc]
    yield "70,000 unknown names", lambda: unknown_names(70_000, 8, 10)
    yield "unknown names like 100 parameters'", lambda: unknown_names(10_000, 60, 100)
    yield "1,000 objects", lambda: objects('{"p0":1,"p1":"a"}', [INT4, TEXT])
    numbers = "{" + ",".join(f'"p{number}":1' for number in range(100)) + "}"
    yield "1,000 objects of 100 arguments", lambda: objects(numbers, [INT4] * 100)
    yield "1,000 objects of 500 numbers", lambda: objects(f'{{"p0":{many("1", 1000)}}}', [array(INT4)])
    yield "1,000 wrong objects", lambda: objects("{" + ",".join(f'"{n}":1' for n in range(100)) + "}", [INT4] * 100)
    row = ("rows", "0", "a")
    yield "1,000 references into rows", lambda: references(many('{"a":1}', around="  ").encode().strip(), row)
    yield "1,000 references into a large result", lambda: references(many('{"a":1}', 16 * BODY)[1:-1].encode(), row)
    yield "1,000 references into a value", lambda: references(many("1").encode(), ("value", "9"), Kind.SCALAR)


@pytest.mark.parametrize(("name", "measure"), [pytest.param(*figure, id=figure[0]) for figure in figures()])
def test_no_part_of_a_request_takes_long_without_a_pause(name: str, measure: Callable[[], float]) -> None:
    gc.collect()
    assert any(measure() < LONGEST for _ in range(5)), name


if __name__ == "__main__":
    for name, measure in figures():
        gc.collect()
        print(f"{min(measure() for _ in range(3)) * 1000:7.1f} ms  {name}", flush=True)
