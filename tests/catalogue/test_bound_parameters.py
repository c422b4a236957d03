"""Parameters whose values are the caller's."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.catalogue.arguments import Binder
from gateway.catalogue.compiling import NOBODY_KNOWN, Callers, compile_catalogue
from gateway.catalogue.query import Parameter
from gateway.catalogue.types import Family, Type
from gateway.errors import Forbidden, InvalidArguments
from gateway.execution.call import Caller
from gateway.faults import FaultsFound

INT4 = Type(name="integer", sql="pg_catalog.int4", family=Family.INTEGER, size=4)
TEXT = Type(name="text", sql="pg_catalog.text", family=Family.TEXT)
UUID = Type(name="uuid", sql="pg_catalog.uuid", family=Family.UUID)
JSONB = Type(name="jsonb", sql="pg_catalog.jsonb", family=Family.JSON)
SOME = "11111111-2222-3333-4444-555555555555"


def binder(type_: Type = INT4, **more: Any) -> Binder:
    return Binder([Parameter("tenant", bound="claim:t", **more), Parameter("name", default="null")], [type_, TEXT])


def bind(claims: dict[str, Any], made: Binder | None = None, **arguments: Any) -> list[str]:
    filled = (made or binder()).filled(Caller(name="key:a", claims=claims).value_of)
    return filled.bind_json({name: msgspec.Raw(msgspec.json.encode(value)) for name, value in arguments.items()})


def test_its_value_is_the_callers() -> None:
    made = binder()
    assert bind({"t": 7}, made, name="a") == ["'7'", "'a'"]
    assert bind({"t": 8}, made) == ["'8'", "NULL"]
    assert made.filled({"claim:t": 7}.get).bind_text({"name": ["a"]}) == ["'7'", "'a'"]


@pytest.mark.parametrize(
    ("type_", "value", "literal"),
    [
        (INT4, "7", "'7'"),
        (TEXT, "it's", "'it''s'"),
        (TEXT, 7, "'7'"),
        (UUID, SOME, f"'{SOME}'"),
        (JSONB, {"a": [1]}, """'{"a": [1]}'"""),
        (JSONB, "x", """'"x"'"""),
    ],
)
def test_a_value_may_come_as_json_or_as_text(type_: Type, value: Any, literal: str) -> None:
    assert bind({"t": value}, binder(type_))[0] == literal


@pytest.mark.parametrize("claims", [{}, {"t": None}, {"t": "x"}, {"t": 0}, {"t": [1]}, {"t": True}, {"t": 2**40}])
def test_a_caller_that_lacks_one_that_fits_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Forbidden, match="the caller has no tenant that fits"):
        bind(claims, binder(constraints={"minimum": 1}))


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_text_that_postgresql_cannot_hold_does_not_fit(value: str) -> None:
    with pytest.raises(Forbidden):
        bind({"t": value}, binder(TEXT))


@pytest.mark.parametrize("claims", [{"t": 7}, {}])
@pytest.mark.parametrize("sent", [7, None, "x"])
def test_a_client_that_sends_it_is_told_so_with_all_else_that_is_wrong(claims: dict[str, Any], sent: Any) -> None:
    with pytest.raises(InvalidArguments) as refused:
        bind(claims, tenant=sent, name=1, other=2)
    assert [(fault.parameter, fault.message) for fault in refused.value.faults] == [
        ("tenant", "is set by the gateway"),
        ("name", "must be a string"),
        ("other", "is not a parameter of this query"),
    ]


def test_a_default_stands_in_for_a_caller_that_lacks_it_and_for_no_value_that_does_not_fit() -> None:
    made = binder(default="9")
    assert bind({}, made)[0] == "'9'"
    with pytest.raises(Forbidden):
        bind({"t": "x"}, made)


@pytest.mark.parametrize(
    ("source", "name", "value"),
    [
        ("claim:t", "jwt:a", 7),
        ("key:t", "key:a", 7),
        ("key:t", "jwt:a", None),
        ("key:t", "cert:a", None),
        ("claim:a.b", "jwt:a", 8),
        ("claim:https://x.y/z", "jwt:a", 9),
        ("claim:t.x", "jwt:a", None),
        ("claim:none", "jwt:a", None),
    ],
)
def test_a_source_leads_to_a_claim_or_to_a_keys_parameter(source: str, name: str, value: Any) -> None:
    assert Caller(name=name, claims={"t": 7, "a": {"b": 8}, "https://x.y/z": 9}).value_of(source) == value


# --- files ------------------------------------------------------------------------------------------------------------

BOUND = "-- name: q\n-- @param t int4{default} from=claim:t\nSELECT :t::int4"
KNOWN = Callers(are_known=True)


def compiled(folder: Path, text: str, callers: Callers) -> Any:
    (folder / "q.sql").write_text(text)
    return compile_catalogue([folder], groups={"read": "read"}, timeout=1.0, callers=callers).queries["q"]


def test_where_nobody_is_known_it_needs_a_default(tmp_path: Path) -> None:
    with pytest.raises(FaultsFound) as found:
        compiled(tmp_path, BOUND.format(default=""), NOBODY_KNOWN)
    (fault,) = found.value.faults
    assert fault.line == 2
    assert 'with auth.mode = "none" nobody is known' in fault.message
    assert compiled(tmp_path, BOUND.format(default=" = 1"), NOBODY_KNOWN).parameters[0].default == "1"


def test_where_callers_are_known_its_default_does_not_count(tmp_path: Path) -> None:
    for default in ("", " = 1"):
        (parameter,) = compiled(tmp_path, BOUND.format(default=default), KNOWN).parameters
        assert (parameter.bound, parameter.default) == ("claim:t", None)


def test_a_role_that_nobody_has_is_a_fault_where_everybody_is_served(tmp_path: Path) -> None:
    text = "-- name: q\n-- @role sales, support\nSELECT 1"
    with pytest.raises(FaultsFound, match=r"q.sql:2: @role sales, support: with allow_anonymous"):
        compiled(tmp_path, text, Callers(roles=("other",)))
    for callers in (NOBODY_KNOWN, KNOWN, Callers(roles=("support",))):
        assert compiled(tmp_path, text, callers).roles == ("sales", "support")
