"""The link to a next page asks for the same as the call whose page it is."""

import json
from typing import Any
from urllib.parse import parse_qs

from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue.arguments import Binder
from gateway.catalogue.json_text import split_object
from gateway.catalogue.query import Parameter
from gateway.catalogue.types import INTEGER, TEXT, Family, Type
from gateway.web import links

TYPES = {
    "number": INTEGER,
    "text": TEXT,
    "exact": Type("numeric", "pg_catalog.numeric", Family.NUMERIC),
    "flag": Type("boolean", "pg_catalog.bool", Family.BOOL),
    "words": Type("text[]", "pg_catalog._text", Family.ARRAY, element=TEXT),
    "doc": Type("jsonb", "pg_catalog.jsonb", Family.JSON),
    "day": Type("date", "pg_catalog.date", Family.OTHER),
}
BINDER = Binder([Parameter(name, default="null") for name in TYPES], list(TYPES.values()))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)
plain = st.integers() | texts | st.booleans()
documents = plain | st.lists(plain, max_size=3) | st.dictionaries(texts, plain, max_size=3)
arguments = st.fixed_dictionaries(
    {},
    optional={
        "number": st.integers(-(2**31), 2**31 - 1),
        "text": texts,
        "exact": st.integers(-(10**40), 10**40),
        "flag": st.booleans(),
        "words": st.lists(texts, min_size=2, max_size=4),
        "doc": documents,
        "day": st.dates().map(str),
    },
)


@given(arguments)
def test_it_binds_what_the_json_did(given_: dict[str, Any]) -> None:
    raw = split_object(json.dumps({**given_, "cursor": "abc"}).encode())
    query = links.of_json(raw, TYPES)
    assert query is not None
    own = {name: value for name, value in raw.items() if name != "cursor"}
    pairs = parse_qs(query.removesuffix("&"), keep_blank_values=True, strict_parsing=bool(query))
    assert BINDER.bind_text(pairs) == BINDER.bind_json(own)


@given(st.sampled_from([None, [], ["a"], ["a", None], [["a"], ["b"]], "x" * 2100, ["x" * 700] * 3, {"a": 1}]))
def test_what_has_no_such_form_or_is_too_long_has_no_link(value: Any) -> None:
    assert links.of_json(split_object(json.dumps({"words": value}).encode()), TYPES) is None


def test_a_cursor_is_left_out_and_all_else_stays() -> None:
    assert links.of_text({"a": ["1", "2 3"], "cursor": ["x"], "b": [""]}) == "a=1&a=2+3&b=&"
    assert links.of_text({"cursor": ["x"]}) == ""
