"""References into earlier results: read strictly, passed on exactly."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue import json_text
from gateway.catalogue.query import Kind
from gateway.catalogue.references import Lookup, Reference, Shape, plain, read_reference
from gateway.catalogue.values import Refused

BEFORE = [
    Shape(Kind.ONE, ["id", "a/b", "m~n"]),
    Shape(Kind.MANY, ["id"]),
    Shape(Kind.SCALAR, ["x"]),
    Shape(Kind.EXEC, []),
]


@pytest.mark.parametrize(
    ("pointer", "step", "path"),
    [
        ("/0/row/id", 0, ("row", "id")),
        ("/0/row", 0, ("row",)),
        ("/0/row/id/deeper/0", 0, ("row", "id", "deeper", "0")),
        ("/0/row/a~1b", 0, ("row", "a/b")),
        ("/0/row/m~0n", 0, ("row", "m~n")),
        ("/1/rows", 1, ("rows",)),
        ("/1/rows/12", 1, ("rows", "12")),
        ("/1/rows/0/id", 1, ("rows", "0", "id")),
        ("/1/row_count", 1, ("row_count",)),
        ("/2/value", 2, ("value",)),
        ("/2/value/anything", 2, ("value", "anything")),
        ("/3/affected", 3, ("affected",)),
    ],
)
def test_a_pointer_that_can_be_right(pointer: str, step: int, path: tuple[str, ...]) -> None:
    assert read_reference(pointer, BEFORE) == Reference(pointer, step, path)


@pytest.mark.parametrize(
    ("pointer", "why"),
    [
        ("", "not a JSON pointer"),
        ("0/row/id", "not a JSON pointer"),
        ("#/0/row/id", "not a JSON pointer"),
        ("/0/row/a~2", "not a JSON pointer"),
        ("/0/row/a~", "not a JSON pointer"),
        ("/", "the number of a step"),
        ("/a/row", "the number of a step"),
        ("/-1/row", "the number of a step"),
        ("/00/row", "the number of a step"),
        ("/٣/row", "the number of a step"),
        ("/4/row/id", "an earlier step"),
        ("/999999999/row", "an earlier step"),
        ("/0", "as a whole"),
        ("/0/", "has row only"),
        ("/0/rows/0", "has row only"),
        ("/0/outcome", "has row only"),
        ("/1/row/id", "has rows and row_count only"),
        ("/0/row/nothing", "no column nothing"),
        ("/0/row/", "no column"),
        ("/1/rows/-", "numbered from 0"),
        ("/1/rows/id", "numbered from 0"),
        ("/1/rows/0/nothing", "no column nothing"),
        ("/1/row_count/0", "row_count is a number"),
        ("/3/affected/0", "affected is a number"),
    ],
)
def test_a_pointer_that_cannot_be_right_is_refused_before_anything_runs(pointer: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        read_reference(pointer, BEFORE)


@given(st.text(max_size=40).map(lambda text: "/" + text))
def test_any_text_is_read_or_refused(pointer: str) -> None:
    try:
        reference = read_reference(pointer, BEFORE)
    except Refused:
        return
    assert reference.step < len(BEFORE)


def look(pointer: str, *rows: bytes, affected: int = 0, lookup: Lookup | None = None) -> msgspec.Raw:
    reference = read_reference(pointer, BEFORE)
    return (lookup or Lookup()).look(reference, BEFORE[reference.step].kind, b",".join(rows), affected or len(rows))


@pytest.mark.parametrize(
    "number",
    ["0.1000000000000000000000000001", "1e400", "-0", "9007199254740993", "1.50", '"\\u00e9"', "null", "[1, 2]"],
)
def test_what_is_pointed_at_comes_as_its_own_text(number: str) -> None:
    row = f'{{"id":{number},"other":1}}'.encode()
    assert bytes(look("/0/row/id", row)).decode() == number
    assert bytes(look("/1/rows/1/id", b"{}", row)).decode() == number
    assert bytes(look("/2/value/0", b"[%b]" % number.encode())).decode() == number


@pytest.mark.parametrize(
    ("pointer", "rows", "affected", "found"),
    [
        ("/0/row", [b'{"id":1}'], 0, b'{"id":1}'),
        ("/0/row", [], 0, b"null"),
        ("/1/rows", [b'{"id":1}', b'{"id":2}'], 0, b'[{"id":1},{"id":2}]'),
        ("/1/rows", [], 0, b"[]"),
        ("/1/rows/1", [b'{"id":1}', b'{"id":2}'], 0, b'{"id":2}'),
        ("/1/row_count", [b"{}"] * 12, 0, b"12"),
        ("/2/value", [b'"x"'], 0, b'"x"'),
        ("/2/value", [], 0, b"null"),
        ("/3/affected", [], 7, b"7"),
    ],
)
def test_every_place_of_a_result_can_be_pointed_at(
    pointer: str, rows: list[bytes], affected: int, found: bytes
) -> None:
    assert bytes(look(pointer, *rows, affected=affected)) == found


@pytest.mark.parametrize(
    ("pointer", "rows"),
    [
        ("/0/row/id", []),
        ("/1/rows/0/id", []),
        ("/1/rows/1", [b'{"id":1}']),
        ("/0/row/id/0", [b'{"id":"text"}']),
        ("/0/row/id/x", [b'{"id":{"y":1}}']),
        ("/0/row/id/01", [b'{"id":[1,2]}']),
        ("/0/row/id/2", [b'{"id":[1,2]}']),
        ("/2/value/x", [b"[1]"]),
    ],
)
def test_where_there_is_nothing_that_is_told(pointer: str, rows: list[bytes]) -> None:
    with pytest.raises(Refused, match="where there is nothing"):
        look(pointer, *rows)


def test_what_is_nested_too_deep_is_refused() -> None:
    deep = b'{"id":%b1%b}' % (b"[" * 900_000, b"]" * 900_000)
    with pytest.raises(Refused, match="too deep"):
        look("/1/rows/1/id", deep, b'{"id":7}')


def test_a_piece_is_split_once_however_many_references_go_through_it() -> None:
    lookup = Lookup()
    rows = [b'{"id":{"x":[10,20]}}', b'{"id":7}']
    pieces = [look("/1/rows/0/id/x/1", *rows, lookup=lookup) for _ in range(2)]
    assert pieces[0] is pieces[1]
    assert bytes(pieces[0]) == b"20"
    assert bytes(look("/1/rows/1/id", *rows, lookup=lookup)) == b"7"
    assert bytes(look("/0/row/id", b'{"id":5}', lookup=lookup)) == b"5"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(JSON)
def test_every_value_can_be_said_literally(value: Any) -> None:
    raw, pointer = plain(msgspec.Raw(json.dumps({"$literal": value}).encode()))
    assert pointer is None
    assert json.loads(bytes(raw)) == value


@given(JSON)
def test_what_is_neither_a_reference_nor_literal_stays_as_it_is(value: Any) -> None:
    if isinstance(value, dict) and len(value) == 1 and value.keys() & {"$ref", "$literal"}:
        return
    raw = msgspec.Raw(json.dumps(value).encode())
    assert plain(raw) == (raw, None)


def test_a_reference_is_an_object_with_nothing_else_in_it() -> None:
    assert plain(json_text.value('{"$ref": "/0/row/id"}'))[1] == "/0/row/id"
    assert plain(json_text.value('{"$ref": "/0/row/id", "title": 1}'))[1] is None
    with pytest.raises(Refused, match="in a string"):
        plain(json_text.value('{"$ref": 7}'))
