"""The texts that run a query, and the name it is prepared under."""

import re

import pytest

from gateway.catalogue.query import Access, Kind, Parameter, Query, Statement, Text, Verb
from gateway.catalogue.types import Column, Family, Form, Signature, Type
from gateway.postgres.statement import NAME, Plan

INT4 = Type("integer", "pg_catalog.int4", Family.INTEGER, size=4)
INT8 = Type("bigint", "pg_catalog.int8", Family.INTEGER, size=8)
NUMERIC = Type("numeric", "pg_catalog.numeric", Family.NUMERIC)
TEXT = Type("text", "pg_catalog.text", Family.TEXT)
COUNT = Type("app.count", '"app"."count"', Family.INTEGER, size=8)
INT8S = Type("bigint[]", "pg_catalog._int8", Family.ARRAY, element=INT8)

BARE = Text(("SELECT ", "[1], ", " -- end"), (0, 1))
SOURCE = Text(("(\nSELECT ", "[1], ", " -- end\n)"), (0, 1))


def query(kind: Kind = Kind.MANY, *, access: Access = Access.READ, name: str = "reports.daily") -> Query:
    return Query(
        name=name,
        kind=kind,
        access=access,
        statement=Statement(Verb.SELECT, BARE, source=SOURCE),
        timeout=5.0,
        parameters=(Parameter("a"), Parameter("b")),
    )


def signature(form: Form = Form.WRAPPED, *columns: Column, second: Type = TEXT) -> Signature:
    return Signature(parameters=(INT8S, second), columns=columns, form=form)


def test_prepare_names_every_type_and_execute_gives_literals_in_order() -> None:
    plan = Plan.of(query(), signature())
    assert plan.prepare() == (
        "PREPARE /*action='reports.daily',application='pg-query-gateway'*/"
        f" {plan.name}(pg_catalog._int8, pg_catalog.text) AS"
        " SELECT pg_catalog.count(*), coalesce(pg_catalog.string_agg(_gw._gw_c, ','), '') FROM (SELECT"
        " pg_catalog.row_to_json(_gw.*)::pg_catalog.text FROM (\nSELECT $1[1], $2 -- end\n) AS _gw) AS _gw(_gw_c)"
    )
    assert plan.execute(["'{1}'", "NULL"]) == f"/*action='reports.daily'*/ EXECUTE {plan.name}('{{1}}', NULL)"


def test_a_statement_without_parameters_has_no_parentheses() -> None:
    bare = Query("q", Kind.EXEC, Access.READ, Statement(Verb.SELECT, Text(("SELECT 1",))), 5.0)
    plan = Plan.of(bare, Signature((), (), Form.PLAIN))
    assert plan.prepare() == f"PREPARE /*action='q',application='pg-query-gateway'*/ {plan.name} AS SELECT 1"
    assert plan.execute([]) == f"/*action='q'*/ EXECUTE {plan.name}"


def test_literals_in_place_carry_their_type_in_parentheses_so_that_a_subscript_stays_one() -> None:
    plan = Plan.of(query(), signature(Form.PLAIN))
    assert plan.inline(["'{1}'", "'x'"]) == (
        "/*action='reports.daily'*/ SELECT ('{1}'::pg_catalog._int8)[1], ('x'::pg_catalog.text) -- end"
    )


def test_the_name_is_short_and_depends_on_text_types_and_epoch_only() -> None:
    plan = Plan.of(query(), signature())
    assert re.fullmatch("gw_[0-9a-f]{16}", plan.name)
    assert NAME.search(f'prepared statement "{plan.name}" does not exist')
    assert Plan.of(query(name="other"), signature()).name == plan.name
    different = {
        Plan.of(query(), signature(second=INT4)).name,
        Plan.of(query(), signature(), epoch=1).name,
        Plan.of(query(Kind.ONE), signature()).name,
        Plan.of(query(), signature(Form.PLAIN)).name,
        plan.name,
    }
    assert len(different) == 5


def test_big_numbers_become_text_by_family_domains_and_arrays_included() -> None:
    columns = [
        Column("id", INT8),
        Column("n", INT4),
        Column('a "b"', NUMERIC),
        Column("all", INT8S),
        Column("c", COUNT),
    ]
    plan = Plan.of(query(), signature(Form.WRAPPED, *columns), bigint_as_string=True)
    assert plan.text.render() == (
        "SELECT pg_catalog.count(*), coalesce(pg_catalog.string_agg(_gw._gw_c, ','), '')"
        ' FROM (SELECT pg_catalog.row_to_json(_gw.*)::pg_catalog.text FROM (SELECT _gw."id"::pg_catalog.text AS "id",'
        ' _gw."n" AS "n", _gw."a ""b"""::pg_catalog.text AS "a ""b""", _gw."all"::pg_catalog.text[] AS "all",'
        ' _gw."c"::pg_catalog.text AS "c" FROM (\nSELECT $1[1], $2 -- end\n) AS _gw) AS _gw) AS _gw(_gw_c)'
    )


def test_columns_of_one_name_are_not_cast_by_it() -> None:
    twice = signature(Form.WRAPPED, Column("id", INT8), Column("id", INT4))
    assert Plan.of(query(), twice).form is Form.WRAPPED
    assert Plan.of(query(), twice, bigint_as_string=True).form is Form.PLAIN
    assert Plan.of(query(Kind.SCALAR), twice, bigint_as_string=True).form is Form.WRAPPED
    assert Plan.accumulating(query(), twice) is not None
    assert Plan.accumulating(query(), twice, bigint_as_string=True) is None


@pytest.mark.parametrize(
    ("form", "kind", "access", "transaction"),
    [
        (Form.WRAPPED, Kind.MANY, Access.READ, False),
        (Form.WRAPPED, Kind.ONE, Access.WRITE, False),
        (Form.PLAIN, Kind.EXEC, Access.READ, False),
        (Form.PLAIN, Kind.EXEC, Access.WRITE, False),
        (Form.PLAIN, Kind.ONE, Access.WRITE, True),
        (Form.PLAIN, Kind.MANY, Access.READ, True),
        (Form.CALL, Kind.EXEC, Access.WRITE, True),
        (Form.CALL, Kind.ONE, Access.WRITE, True),
    ],
)
def test_what_needs_an_explicit_transaction(form: Form, kind: Kind, access: Access, transaction: bool) -> None:
    assert Plan.of(query(kind, access=access), signature(form)).transaction is transaction


def test_rows_that_came_as_text_are_written_by_the_server() -> None:
    columns = (Column("id", INT8), Column('a"b', TEXT), Column("all", INT8S))
    plan = Plan.of(query(access=Access.WRITE), signature(Form.PLAIN, *columns))
    assert plan.encode_rows([["'1'", "NULL", "NULL"], ["'2'", "'x'", "'{1}'"]]) == (
        "SELECT pg_catalog.row_to_json(_gw.*)::pg_catalog.text FROM (VALUES"
        " ('1'::pg_catalog.int8, NULL::pg_catalog.text, NULL::pg_catalog._int8),"
        " ('2'::pg_catalog.int8, 'x'::pg_catalog.text, '{1}'::pg_catalog._int8)"
        ') AS _gw("id", "a""b", "all")'
    )
    as_text = Plan.of(query(Kind.SCALAR, access=Access.WRITE), signature(Form.PLAIN, *columns), bigint_as_string=True)
    assert as_text.encode_rows([["'1'", "NULL", "NULL"]]) == (
        "SELECT coalesce(pg_catalog.to_json(_gw.c)::pg_catalog.text, 'null') FROM (VALUES"
        " ('1'::pg_catalog.int8::pg_catalog.text, NULL::pg_catalog.text,"
        " NULL::pg_catalog._int8::pg_catalog.text[])) AS _gw(c)"
    )
