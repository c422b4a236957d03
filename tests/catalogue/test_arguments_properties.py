"""Literals are read back by small readers written from PostgreSQL's documentation, not from our writer."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue.arguments import Binder, literal
from gateway.catalogue.json_text import split_object
from gateway.catalogue.query import Parameter
from gateway.catalogue.types import Family, Type
from gateway.errors import GatewayError


def read_literal(sql: str, *, standard_conforming_strings: bool) -> str:
    """A string constant as PostgreSQL's lexer reads it; ValueError unless it is one constant to its very end."""
    escapes = sql.startswith("E") or not standard_conforming_strings
    if not sql.removeprefix("E").startswith("'"):
        raise ValueError(sql)
    position = sql.index("'") + 1
    out: list[str] = []
    while True:
        char = sql[position : position + 1]
        following = sql[position + 1 : position + 2]
        if char == "'" and following != "'":
            if position + 1 != len(sql):
                raise ValueError(sql)
            return "".join(out)
        if char == "" or (escapes and char == "\\" and following != "\\"):
            raise ValueError(sql)
        doubled = char == "'" or (escapes and char == "\\")
        out.append(char)
        position += 2 if doubled else 1


def read_array(text: str, delimiter: str) -> list[Any]:
    """An array literal whose every element is quoted or NULL."""
    position = 0

    def value() -> Any:
        nonlocal position
        if text[position] == "{":
            found = []
            while text[position] in "{" + delimiter and text[position + 1] != "}":
                position += 1
                found.append(value())
            position += 1 if found else 2
            return found
        if text.startswith("NULL", position):
            position += 4
            return None
        if text[position] != '"':
            raise ValueError(text)
        out = ""
        position += 1
        while text[position] != '"':
            position += text[position] == "\\"
            out += text[position]
            position += 1
        position += 1
        return out

    whole = value()
    if position != len(text) or not isinstance(whole, list):
        raise ValueError(text)
    return whole


def read_row(text: str) -> list[str | None]:
    """A row literal: nothing is NULL, quotes and backslashes are doubled."""
    if text[0] != "(" or text[-1] != ")":
        raise ValueError(text)
    fields: list[str | None] = []
    position = 1
    while True:
        if text[position] == '"':
            out = ""
            position += 1
            while text[position] != '"' or text[position + 1] == '"':
                position += text[position] in '"\\'
                out += text[position]
                position += 1
            position += 1
            fields.append(out)
        else:
            fields.append(None)
        if text[position] == ")" and position == len(text) - 1:
            return fields
        if text[position] != ",":
            raise ValueError(text)
        position += 1


TEXT = Type(name="text", sql="pg_catalog.text", family=Family.TEXT)
INT4 = Type(name="integer", sql="pg_catalog.int4", family=Family.INTEGER, size=4)
NUMERIC = Type(name="numeric", sql="pg_catalog.numeric", family=Family.NUMERIC)
JSON = Type(name="json", sql="pg_catalog.json", family=Family.JSON)
ODD = Type(name="odd", sql="public.odd", family=Family.TEXT, delimiter=";")


def array(element: Type) -> Type:
    return Type(name=f"{element.name}[]", sql="", family=Family.ARRAY, element=element)


ROW = Type(name="line", sql="", family=Family.COMPOSITE, fields=(("a", TEXT), ("b", array(TEXT)), ("c", TEXT)))
FAMILIES = [
    *(Type(name=family, sql="", family=family, size=8, labels=("a",)) for family in Family if family not in {"array"}),
    ROW,
    array(INT4),
    array(JSON),
    array(ROW),
    array(array(NUMERIC)),
]

tricky = st.text(st.sampled_from("'\"\\{}(),;NULEx \n") | st.characters(exclude_characters="\0", codec="utf-8"))
any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["NaN", "12", "\\x0", "a", 10**5000 // 7**1000]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcx") | st.text(), inner, max_size=4),
    max_leaves=20,
)


def bind(type_: Type, value: Any) -> str:
    body = json.dumps({"p": value}).encode()
    (bound,) = Binder([Parameter("p")], [type_]).bind_json(split_object(body))
    return bound


def sent(bound: str) -> str:
    return read_literal(bound, standard_conforming_strings=True)


@given(tricky)
def test_a_literal_reads_back_as_its_text_in_both_modes(text: str) -> None:
    for mode in (True, False):
        assert read_literal(literal(text), standard_conforming_strings=mode) == text


@given(st.lists(tricky | st.none()))
def test_an_array_reads_back_as_its_elements(elements: list[str | None]) -> None:
    assert read_array(sent(bind(array(TEXT), elements)), ",") == elements
    assert read_array(sent(bind(array(ODD), elements)), ";") == elements


@given(st.integers(1, 3), st.integers(1, 3), st.data())
def test_a_matrix_reads_back_as_its_rows(rows: int, columns: int, data: st.DataObject) -> None:
    row = st.lists(tricky | st.none(), min_size=columns, max_size=columns)
    matrix = data.draw(st.lists(row, min_size=rows, max_size=rows))
    # A row that begins with null is still a row: only lists make dimensions.
    assert read_array(sent(bind(array(TEXT), matrix)), ",") == matrix


@given(tricky | st.none(), st.lists(tricky | st.none()) | st.none(), tricky | st.none())
def test_a_row_reads_back_as_its_fields_at_every_level(
    a: str | None, b: list[str | None] | None, c: str | None
) -> None:
    value = {"c": c, "b": b, "a": a}
    row = read_row(sent(bind(ROW, value)))
    assert (row[0], None if row[1] is None else read_array(row[1], ","), row[2]) == (a, b, c)
    (element, absent) = read_array(sent(bind(array(ROW), [value, None])), ",")
    assert absent is None
    assert read_row(element) == row


@given(any_json)
def test_json_goes_in_as_its_own_text(value: Any) -> None:
    bound = _or_refusal(JSON, value)
    if value is None:
        assert bound == "NULL"
    elif bound is not None:
        assert sent(bound) == json.dumps(value)


@given(st.integers(), st.integers(0, 400), st.sampled_from(["", "e5", "E-3", ".10", "e+999999999999"]))
def test_numeric_text_is_never_touched(integer: int, zeros: int, rest: str) -> None:
    text = f"{integer}{'0' * zeros}{rest}" if integer else f"0{rest}"
    (bound,) = Binder([Parameter("p")], [NUMERIC]).bind_json(split_object(f'{{"p":{text}}}'.encode()))
    assert bound == f"'{text}'"


def _or_refusal(type_: Type, value: Any) -> str | None:
    try:
        return bind(type_, value)
    except GatewayError:
        return None


@given(any_json)
def test_any_json_is_one_literal_of_any_type_or_a_refusal(value: Any) -> None:
    for type_ in FAMILIES:
        bound = _or_refusal(type_, value)
        if bound not in {None, "NULL"}:
            assert "\0" not in sent(str(bound))


@given(st.lists(st.text() | st.text('{}[]:=,"\\ NUL1', max_size=12), min_size=1, max_size=3))
def test_any_query_string_is_one_literal_of_any_type_or_a_refusal(texts: list[str]) -> None:
    for type_ in FAMILIES:
        for constraints in ({}, {"enum": ["a", ["a"], 1]}):
            try:
                (bound,) = Binder([Parameter("p", constraints=constraints)], [type_]).bind_text({"p": texts})
            except GatewayError:
                continue
            assert bound == "NULL" or "\0" not in sent(bound)


@given(
    st.binary(max_size=60)
    | st.text('{}[]",:\\u0dc8 1e.-ntrfp', max_size=60).map(lambda text: f'{{"p":{text}}}'.encode())
)
def test_any_body_is_one_literal_of_any_type_or_a_refusal(body: bytes) -> None:
    for type_ in FAMILIES:
        binder = Binder([Parameter("p", default="null")], [type_])
        try:
            (bound,) = binder.bind_json(split_object(body))
        except GatewayError:
            continue
        assert bound == "NULL" or "\0" not in sent(bound)
