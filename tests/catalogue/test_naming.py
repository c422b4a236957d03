"""Names for parameters that are only numbered: as sqlc names them, as far as the text alone tells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue.headers import is_parameter
from gateway.catalogue.naming import named
from gateway.catalogue.placeholders import find_parameters
from gateway.catalogue.statements import analyse


def names(body: str, *declared: str) -> tuple[str, ...]:
    marked, faults = find_parameters(body, None)
    assert faults == []
    analysis, wrong = analyse(marked)
    assert wrong == []
    assert analysis is not None
    return named(marked, analysis.hints, declared)


TYPICAL = [
    ("SELECT id FROM boat WHERE length > $1", "length"),
    ("SELECT id FROM boat WHERE length > $1 AND length < $2", "length length_2"),
    ("SELECT id FROM boat WHERE length BETWEEN $1 AND $2", "length length_2"),
    ("SELECT id FROM boat WHERE $1 < length", "length"),
    ("SELECT id FROM boat WHERE lower(name) = $1", "name"),
    ("SELECT id FROM boat WHERE built_at::date = $1", "built_at"),
    ("SELECT id FROM boat WHERE coalesce(length, 0) > $1", "length"),
    ("SELECT id FROM boat WHERE name LIKE $1 OR note ILIKE $2", "name note"),
    ("SELECT id FROM boat WHERE name ~* $1", "name"),
    ("SELECT id FROM boat WHERE name IS DISTINCT FROM $1", "name"),
    ("SELECT id FROM boat WHERE id IN ($1, $2)", "id id_2"),
    ("SELECT id FROM boat WHERE id = ANY($1)", "id"),
    ("SELECT id FROM boat WHERE $1 = ANY(tags)", "tags"),
    ("SELECT id FROM boat WHERE tags && $1 AND meta @> $2", "tags meta"),
    ("SELECT id FROM boat WHERE (name = $1 OR $1 IS NULL) AND sold = $2", "name sold"),
    ("SELECT b.id FROM boat b JOIN owner o ON o.id = b.owner_id WHERE o.email = $1 AND b.id = $2", "email id"),
    ("SELECT id FROM boat WHERE owner_id IN (SELECT id FROM owner WHERE email = $1) LIMIT $2", "email limit"),
    ("SELECT id FROM boat ORDER BY id LIMIT $1 OFFSET $2", "limit offset"),
    ("SELECT frob(amount => $1, who => $2)", "amount who"),
    ("INSERT INTO boat (id, name) VALUES ($1, $2)", "id name"),
    ("INSERT INTO boat (id, name) VALUES ($1, $2), ($3, $4)", "id name id_2 name_2"),
    ("INSERT INTO boat (id, name) SELECT $1, name FROM owner WHERE owner.id = $2", "id id_2"),
    ("INSERT INTO boat (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = $3", "id name name_2"),
    ("UPDATE boat SET name = $2, length = $3 WHERE id = $1", "id name length"),
    ("UPDATE boat SET name = coalesce($2, name) WHERE id = $1", "id name"),
    ("UPDATE boat SET (name, note) = ($1, $2) WHERE id = $3", "name note id"),
    ("UPDATE boat SET name = $1 WHERE name = $2", "name name_2"),
    ("UPDATE boat SET name = coalesce(sqlc.narg('new_name'), name) WHERE id = $1", "id new_name"),
    ("DELETE FROM boat WHERE id = $1 AND owner_id = $2", "id owner_id"),
    ("WITH x AS (SELECT id, sold FROM boat WHERE name = $1) SELECT id FROM x WHERE sold = $2", "name sold"),
]
"""Statements with the names that sqlc 1.31 gives their parameters (its ``json`` output, with the suffixes of the code
that it writes for Go), over the tables ``boat(id, name, length, sold, tags, built_at, meta, owner_id, note)`` and
``owner(id, name, email)``."""


@pytest.mark.parametrize(("body", "expected"), TYPICAL)
def test_a_number_is_called_as_sqlc_calls_it(body: str, expected: str) -> None:
    assert names(body) == tuple(expected.split())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("SELECT id FROM boat WHERE id = ANY($1::bigint[])", "id"),
        ("SELECT id FROM boat WHERE ($1::text IS NULL OR name = $1)", "name"),
        ("SELECT id FROM boat WHERE id = ANY(ARRAY[$1, $2::bigint])", "id id_2"),
        ("SELECT id FROM boat WHERE $1 IN (SELECT owner_id FROM owner)", "owner_id"),
        ("SELECT id FROM boat WHERE (berth).pier = $1", "pier"),
        ("INSERT INTO boat (id, meta) VALUES ($1, $2::jsonb)", "id meta"),
        ("INSERT INTO boat (id, name) SELECT $1, 'x' UNION ALL SELECT $2, 'y'", "id id_2"),
        ("UPDATE boat SET name = CASE WHEN sold THEN $2::text ELSE name END WHERE id = $1", "id name"),
        ("SELECT id FROM boat LIMIT $1::int", "limit"),
        (
            "MERGE INTO boat USING owner o ON o.id = boat.id WHEN MATCHED THEN UPDATE SET name = $1"
            " WHEN NOT MATCHED THEN INSERT (id, note) VALUES ($2, $3)",
            "name id note",
        ),
    ],
)
def test_what_sqlc_leaves_without_a_name_has_one_where_the_text_tells(body: str, expected: str) -> None:
    assert names(body) == tuple(expected.split())


def test_a_row_is_compared_column_by_column() -> None:
    assert names("SELECT id FROM boat WHERE (built_at, id) < ($1, $2)") == ("built_at", "id")


@pytest.mark.parametrize(
    "body",
    [
        "SELECT frob($1)",
        "SELECT $1::int",
        "SELECT $1 AS length",
        "SELECT id FROM boat WHERE lower(name) = lower($1)",
        "SELECT id FROM boat WHERE built_at > now() - $1::interval",
        "SELECT id FROM boat WHERE name LIKE '%' || $1 || '%'",
        "SELECT id FROM boat WHERE length * width > $1",
        "SELECT id FROM boat WHERE count(*) > $1",
        "UPDATE boat SET length = length + $1",
        "UPDATE boat SET note = NULLIF($1, '')",
        "INSERT INTO boat VALUES ($1)",
        'SELECT id FROM boat WHERE "le ngth" = $1',
        "CALL frob($1)",
    ],
)
def test_what_the_text_does_not_tell_stays_a_number(body: str) -> None:
    assert names(body) == ("arg1",)


def test_the_first_use_that_tells_names_a_parameter_and_assigning_tells_most() -> None:
    assert names("SELECT 1 FROM boat WHERE note = $1 AND name = $1") == ("note",)
    assert names("WITH x AS (SELECT 1 FROM boat WHERE note = $1) INSERT INTO boat (name) VALUES ($1)") == ("name",)
    assert names("SELECT 1 FROM boat WHERE length > $1 LIMIT $1") == ("limit",)


def test_a_name_of_the_text_is_never_given_to_a_number() -> None:
    assert names("UPDATE boat SET name = @name WHERE name = $1 OR name = $3") == ("name_2", "name", "name_3")
    assert names("SELECT $1, :arg1") == ("arg1_2", "arg1")


def test_a_declared_number_keeps_the_name_it_was_declared_with() -> None:
    assert names("SELECT id FROM boat WHERE length > $1 AND sold = $2", "arg1") == ("arg1", "sold")


COLUMNS = ["length", "length_2", "arg1", '"limit"', '"Order"', '"no name"', "lower(name)", "a + b"]
NUMBERED = st.tuples(st.sampled_from(COLUMNS), st.integers(1, 4).map("${}".format))
NAMED = st.tuples(st.sampled_from(COLUMNS), st.sampled_from([":length", "@length_2", "sqlc.arg(arg1)", ":x"]))


@given(st.lists(NUMBERED | NAMED, min_size=1, max_size=12))
def test_names_are_usable_and_differ_and_those_of_the_text_stay(conditions: list[tuple[str, str]]) -> None:
    numbers = [1, 2, 3, 4]  # all of them, so that there is no gap
    written = [f"{column} > {parameter}" for column, parameter in conditions]
    body = "SELECT 1 FROM boat WHERE " + " AND ".join([*written, *(f"${number} > 0" for number in numbers)])
    given_names = names(body)
    assert len({*given_names}) == len(given_names)
    assert all(map(is_parameter, given_names))
    own = {parameter.strip(":@").removeprefix("sqlc.arg(").rstrip(")") for _, parameter in conditions}
    assert {name for name in own if not name.startswith("$")} <= {*given_names}
    assert given_names == names(body)
