"""What the server says of queries: everyday idioms type without help, and the rest is told with the line to add."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.catalogue.types import Family, Form
from gateway.demo.cluster import Cluster
from gateway.postgres.inferring import CannotLearn
from gateway.postgres.learning import learn
from gateway.postgres.objects import Book
from tests.live.databases import Desk, connect, database, plain, soon
from tests.live.learnt import TABLES, types


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, "live_learning") as dsn, plain(dsn) as cursor:
        cursor.execute(TABLES)
        yield dsn


@pytest.fixture(scope="module")
def desk(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    connection = connect(dsn)
    yield Desk(connection, tmp_path_factory.mktemp("learning"))
    connection.close()


IDIOMS: list[tuple[str, dict[str, str]]] = [
    ("SELECT * FROM thing WHERE id = :x", {"x": "integer"}),
    ("SELECT * FROM thing WHERE :x IS NULL OR id = :x", {"x": "integer"}),
    ("SELECT * FROM thing WHERE id = :x OR :x IS NULL", {"x": "integer"}),
    ("SELECT * FROM thing WHERE (:x IS NULL OR id = :x) AND (:y IS NULL OR name = :y)", {"x": "integer", "y": "text"}),
    ("SELECT * FROM thing WHERE (:x IS NULL OR made >= :x) AND (:y IS NULL OR made < :y)",
     {"x": "timestamp with time zone", "y": "timestamp with time zone"}),
    ("SELECT * FROM thing WHERE name = COALESCE(:x, name)", {"x": "text"}),
    ("SELECT * FROM thing WHERE mood = COALESCE(:x, mood)", {"x": "other.mood"}),
    ("SELECT * FROM thing WHERE id IN (:a, :b)", {"a": "integer", "b": "integer"}),
    ("SELECT * FROM thing WHERE id = ANY(:x)", {"x": "integer[]"}),
    ("SELECT * FROM thing WHERE :x = ANY(tags)", {"x": "text"}),
    ("SELECT * FROM thing WHERE tags && :x", {"x": "text[]"}),
    ("SELECT * FROM thing WHERE tags @> ARRAY[:x]", {"x": "text"}),
    ("SELECT * FROM thing LIMIT :n OFFSET :m", {"n": "bigint", "m": "bigint"}),
    ("SELECT * FROM thing WHERE price BETWEEN :lo AND :hi", {"lo": "numeric", "hi": "numeric"}),
    ("SELECT * FROM thing WHERE name LIKE :x", {"x": "text"}),
    ("SELECT * FROM thing WHERE name ILIKE '%' || :x || '%'", {"x": "text"}),
    ("SELECT :x::date + 1 AS d", {"x": "date"}),
    ("SELECT CAST(:x AS numeric(10,2)) AS d", {"x": "numeric"}),
    ("SELECT * FROM thing WHERE made > now() - :age::interval", {"age": "interval"}),
    ("SELECT * FROM thing WHERE made > now() - make_interval(days => :days)", {"days": "integer"}),
    ("SELECT * FROM thing WHERE day = :d AND made::date = :d", {"d": "date"}),
    ("SELECT * FROM thing WHERE doc @> :x", {"x": "jsonb"}),
    ("SELECT doc -> :x AS v FROM thing", {"x": "text"}),
    ("SELECT * FROM thing WHERE span @> :at::timestamptz", {"at": "timestamp with time zone"}),
    ("SELECT * FROM thing WHERE (id, name) > (:i, :n)", {"i": "integer", "n": "text"}),
    ("SELECT * FROM thing WHERE id = :x OR big = :x", {"x": "integer"}),
    ("SELECT * FROM thing WHERE (:x IS NULL OR id = :x) OR (:x IS NULL OR big = :x)", {"x": "bigint"}),
    ("SELECT * FROM thing WHERE (:x IS NULL OR id = :x) AND (:y IS NULL OR name = :y)"
     " AND (:z IS NULL OR :z = ANY(tags)) AND (:p IS NULL OR price < :p) AND (:m IS NULL OR mood = :m) LIMIT :n",
     {"x": "integer", "y": "text", "z": "text", "p": "numeric", "m": "other.mood", "n": "bigint"}),
    ("SELECT * FROM thing WHERE (:x::int IS NULL OR id = :x)", {"x": "integer"}),
    ("SELECT * FROM thing WHERE big = :x OR id = :x OR small = :x", {"x": "bigint"}),
    ("SELECT * FROM thing WHERE price > :x AND id > :x", {"x": "numeric"}),
    ("SELECT * FROM thing WHERE made > :x AND day > :x", {"x": "timestamp with time zone"}),
    ("SELECT * FROM thing WHERE name = :x OR code = :x", {"x": "text"}),
    ("SELECT CASE WHEN :x IS NULL THEN 'none' ELSE name END FROM thing WHERE id = :x", {"x": "integer"}),
    ("SELECT date_trunc(:u, made) AS t, count(*) FROM thing GROUP BY date_trunc(:u, made)", {"u": "text"}),
    ("SELECT price * :f AS p, count(*) FROM thing GROUP BY price * :f", {"f": "numeric"}),
    ("SELECT * FROM unnest(:a::int[], :b::text[]) AS u(x, y)", {"a": "integer[]", "b": "text[]"}),
    ("SELECT * FROM json_to_recordset(:x) AS r(a int, b text)", {"x": "json"}),
    ("SELECT * FROM generate_series(:a::date, :b::date, '1 day') d", {"a": "date", "b": "date"}),
    ("SELECT * FROM thing ORDER BY CASE WHEN :by = 'name' THEN name END", {"by": "text"}),
    ("SELECT * FROM thing WHERE lower(name) = lower(:x)", {"x": "text"}),
    ("SELECT * FROM thing WHERE key = :k AND data = :d", {"k": "uuid", "d": "bytea"}),
    ("SELECT * FROM thing WHERE odd = :o AND mood = :m", {"o": '"Odd Place".mood', "m": "other.mood"}),
    ("SELECT * FROM thing WHERE (pair).b = :b AND (pair).a = :a", {"b": "text", "a": "integer"}),
    ("SELECT * FROM thing WHERE id = (SELECT max(id) FROM thing WHERE name = :n)", {"n": "text"}),
    ("SELECT NULLIF(:x, '') AS v", {"x": "text"}),
    ("SELECT GREATEST(:x, 1) AS v, :y || '' AS w", {"x": "integer", "y": "text"}),
    ("INSERT INTO thing (name, price, mood, pair, doc, tags, count) VALUES (:n, :p, :m, :q, :d, :t, :c) RETURNING id",
     {"n": "text", "p": "numeric", "m": "other.mood", "q": "other.pair", "d": "jsonb", "t": "text[]",
      "c": "other.positive"}),
    ("UPDATE thing SET name = COALESCE(:n, name), price = price + :d WHERE id = :i RETURNING id",
     {"n": "text", "d": "numeric", "i": "integer"}),
    ("UPDATE thing SET name = CASE WHEN :n IS NULL THEN name ELSE :n END WHERE id = :i RETURNING id",
     {"n": "text", "i": "integer"}),
    ("INSERT INTO thing (name) SELECT unnest(:names::text[]) RETURNING id", {"names": "text[]"}),
    ("INSERT INTO thing (name, code) VALUES (:n, :n) RETURNING id", {"n": "character varying"}),
    ("WITH x AS (DELETE FROM thing WHERE id = :i RETURNING name) SELECT name FROM x WHERE name <> :n",
     {"i": "integer", "n": "text"}),
    ("-- name: q!\nMERGE INTO thing t USING (VALUES (:i::int)) AS v(id) ON v.id = t.id"
     " WHEN MATCHED THEN UPDATE SET name = :n",
     {"i": "integer", "n": "text"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), IDIOMS, ids=[text[:70] for text, _ in IDIOMS])
def test_an_everyday_idiom_types_without_help(text: str, expected: dict[str, str], desk: Desk) -> None:
    assert types(desk, text) == expected
    query = desk.compile(text)
    if query.access == "read":
        null = ", ".join(f'"{name}": null' for name in expected)
        desk.run(text, "{" + null + "}")


HELPLESS = [
    ("SELECT * FROM thing WHERE made > now() - :age", ["age"]),
    ("SELECT json_build_object('a', :x) AS j", ["x"]),
    ("SELECT * FROM thing WHERE id = :i AND made > now() - :age", ["age"]),
    ("SELECT :x IS NULL AS n", ["x"]),
    ("SELECT :x IS NULL AS n, :y IS NULL AS m, :z::int AS z", ["x", "y"]),
    ("SELECT * FROM thing WHERE pair = :p AND id = :x", ["p"]),
    ("SELECT * FROM thing WHERE made > now() - :a AND made < now() - :b AND id = :x", ["a", "b", "x"]),
    ("SELECT num_nulls(:a, :b) AS n", ["a", "b"]),
    ("SELECT * FROM thing WHERE id = :x AND day = :x", ["x"]),
    ("SELECT * FROM thing WHERE id = :x AND day = :x AND name = :y", ["x"]),
]


@pytest.mark.parametrize(("text", "names"), HELPLESS, ids=[text[:60] for text, _ in HELPLESS])
def test_what_cannot_be_typed_is_told_with_the_line_to_add_and_works_with_it(
    text: str, names: list[str], desk: Desk
) -> None:
    with pytest.raises(CannotLearn) as caught:
        desk.learn(text)
    lines = [f'"-- @param {name} TYPE"' for name in names]
    assert str(caught.value).endswith("; add " + " and ".join(lines))
    assert desk.connection.is_usable()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("SELECT 1 AS n FROM thing WHERE frob(thing) = :x", "function frob(thing) does not exist [42883]"),
        ("SELECT frob(:x) AS n", "there is no function frob [42883]"),
        ("SELECT other.frob(name, :x) AS n FROM thing", "there is no function other.frob [42883]"),
        ("-- name: q!\nCALL frob(:x)", "there is no procedure frob [42883]"),
        ("SELECT 1 AS n FROM thing WHERE id = name AND :x", "operator does not exist: integer = text [42883]"),
        (
            "SELECT 1 AS n FROM thing WHERE price + :x",
            "argument of WHERE must be type boolean, not type numeric [42804]",
        ),
    ],
)
def test_no_type_is_asked_for_where_another_fault_stands_in_the_way(text: str, fault: str, desk: Desk) -> None:
    with pytest.raises(CannotLearn) as caught:
        desk.learn(text)
    assert str(caught.value).partition("; hint")[0] == fault


def test_a_parameter_has_its_name_in_what_the_server_says_of_it(desk: Desk) -> None:
    with pytest.raises(CannotLearn, match="could not determine data type of parameter x"):
        desk.learn("SELECT json_build_object('a', :x) AS j")


def test_a_utility_statement_names_relations_that_are_there(desk: Desk) -> None:
    assert desk.learn("-- name: q!\nANALYZE thing")[1].form is Form.CALL
    with pytest.raises(CannotLearn, match='there is no relation "nothing"'):
        desk.learn("-- name: q!\nTRUNCATE thing, nothing")


def test_a_row_is_compared_with_the_declared_type(desk: Desk) -> None:
    text = "-- name: q\n-- @param p other.pair\nSELECT id FROM thing WHERE pair IS NOT DISTINCT FROM :p ORDER BY id"
    assert desk.rows(text, '{"p": null}') == ['{"id":1}', '{"id":2}']


def test_the_line_to_add_works(desk: Desk) -> None:
    text = "-- name: q\n-- @param age interval\nSELECT id FROM thing WHERE made > now() - :age ORDER BY id"
    assert types(desk, text) == {"age": "interval"}
    assert desk.rows(text, '{"age": "1 hour"}') == ['{"id":2}']


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT * FROM nowhere", ["nowhere", "42P01"]),
        ("SELECT nothing FROM thing", ["nothing", "42703"]),
        ("SELECT nofunction(:x) AS x", ["nofunction", "42883"]),
        ("-- name: q\n-- @param x nosuchtype\nSELECT :x AS x", ["there is no type nosuchtype"]),
        ("-- name: q\n-- @param x a.b.c\nSELECT :x AS x", ["a.b.c"]),
        ("-- name: q\n-- @param x varchar(0)\nSELECT :x AS x", ["22023"]),
        ("-- name: q\n-- @param x numeric(2000,1)\nSELECT :x AS x", ["22023"]),
        ("-- name: q\n-- @param x bit(0)\nSELECT :x AS x", ["22023"]),
        ('-- name: q\n-- @param x int4 = "a"\nSELECT :x AS x', ["parameter x", "default"]),
        ("-- name: q\n-- @param x bool minimum=1\nSELECT :x AS x", ["parameter x", "minimum"]),
        ("-- name: q\n-- @param x date\nSELECT id FROM thing WHERE id = :x", ["42883"]),
        ("INSERT INTO thing (id) VALUES (:x, :y) RETURNING id", ["42601"]),
        ("-- name: q!\nCALL nowhere(:x)", ["procedure", "42883"]),
        ("-- name: q!\nCALL act(:a, :b)", ["42725"]),
    ],
)
def test_what_the_server_does_not_take_is_told_in_its_words(text: str, words: list[str], desk: Desk) -> None:
    with pytest.raises(CannotLearn) as caught:
        desk.learn(text)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_declared_type_wins_over_what_the_server_would_say(desk: Desk) -> None:
    assert types(desk, "-- name: q\n-- @param x int8\nSELECT id FROM thing WHERE id = :x") == {"x": "bigint"}
    assert types(desk, "-- name: q\n-- @param x other.positive\nSELECT :x AS x") == {"x": "other.positive"}
    assert types(desk, '-- name: q\n-- @param x "Odd Place".mood[]\nSELECT :x AS x') == {"x": '"Odd Place".mood[]'}
    assert types(desk, "-- name: q\n-- @param x varchar(3)\nSELECT :x AS x") == {"x": "character varying"}


def test_a_declared_type_of_one_parameter_helps_the_ladder_with_the_others(desk: Desk) -> None:
    text = (
        "-- name: q\n-- @param age interval\nSELECT id FROM thing WHERE made > now() - :age AND (:x IS NULL OR id = :x)"
    )
    assert types(desk, text) == {"age": "interval", "x": "integer"}


def test_types_are_held_by_oid_whatever_the_search_path_is(dsn: str, desk: Desk, tmp_path: Path) -> None:
    text = "SELECT mood, odd, pair FROM public.thing WHERE mood = :m OR odd = :o OR pair = ANY(ARRAY[pair, :p])"
    query, signature = desk.learn(text)
    odd = connect(f"{dsn} options='-c search_path=other'")
    try:
        elsewhere = learn(odd, query, Book(), soon())
        assert [type_.sql for type_ in elsewhere.parameters] == [type_.sql for type_ in signature.parameters]
        assert [type_.sql for type_ in signature.parameters] == [
            '"other"."mood"',
            '"Odd Place"."mood"',
            '"other"."pair"',
        ]
        desk_there = Desk(odd, tmp_path / "there")
        declared = "-- name: q$\n-- @param x other.pair[]\nSELECT :x AS x"
        value = '[{"a":1,"b":"x","moods":["sad",null]}]'
        assert desk_there.value(declared, f'{{"x": {value}}}') == value == desk.value(declared, f'{{"x": {value}}}')
    finally:
        odd.close()


def test_columns_are_described_with_their_names_and_types(desk: Desk) -> None:
    _, signature = desk.learn("SELECT id, count, mood, pair, tags, span, 1.5 AS n FROM thing")
    assert [(column.name, column.type.name) for column in signature.columns] == [
        ("id", "integer"),
        ("count", "integer"),
        ("mood", "other.mood"),
        ("pair", "other.pair"),
        ("tags", "text[]"),
        ("span", "tstzrange"),
        ("n", "numeric"),
    ]
    pair = signature.columns[3].type
    assert [(name, field.name, field.family) for name, field in pair.fields] == [
        ("a", "other.positive", Family.INTEGER),
        ("b", "text", Family.TEXT),
        ("moods", "other.mood[]", Family.ARRAY),
    ]
    _, write = desk.learn("DELETE FROM thing WHERE id = -1 RETURNING big, name")
    assert [column.name for column in write.columns] == ["big", "name"]


# CALL: the server resolves it, overloads, defaults, polymorphism and all.


@pytest.mark.parametrize(
    ("call", "parameters", "columns"),
    [
        ("CALL act(:a::date, :b)", {"a": "date", "b": "text"}, {"b": "text"}),
        ("CALL act(:a, :b, :c)", {"a": "integer", "b": "integer", "c": "text"}, {"c": "text"}),
        ("CALL sole(:a, :b, NULL)", {"a": "integer", "b": "text"}, {"b": "text", "c": "numeric"}),
        ("CALL sole(:a, :b, NULL, :d)", {"a": "integer", "b": "text", "d": "date"}, {"b": "text", "c": "numeric"}),
        ("CALL sole(d => :d, c => NULL, a => :a + 1, b => :b)", {"d": "date", "a": "integer", "b": "text"},
         {"b": "text", "c": "numeric"}),
        ("CALL other.away(:p, :m)", {"p": "other.pair", "m": "other.mood"}, {"m": "other.mood"}),
        ("CALL poly(:a::int8, NULL)", {"a": "bigint"}, {"a": "bigint", "b": "bigint[]"}),
        ("CALL/**/sole ( :a , upper(:b), NULL /* ) */ ) -- (", {"a": "integer", "b": "text"},
         {"b": "text", "c": "numeric"}),
    ],
)  # fmt: skip
def test_a_call_is_resolved_by_the_server(
    call: str, parameters: dict[str, str], columns: dict[str, str], desk: Desk
) -> None:
    text = f"-- name: q^\n{call}"
    assert types(desk, text) == parameters
    _, signature = desk.learn(text)
    assert {column.name: column.type.name for column in signature.columns} == columns
    assert (signature.form, signature.harmless) == (Form.CALL, False)
    arguments = ", ".join(f'"{name}": null' for name in parameters)
    assert len(desk.rows(text, "{" + arguments + "}")) == 1


def test_a_declared_type_picks_the_overload(desk: Desk) -> None:
    for type_ in ("date", "integer"):
        declared = f"-- name: q^\n-- @param a {type_}\nCALL act(:a, :b)"
        assert types(desk, declared) == {"a": type_, "b": "text"}


def test_a_variadic_procedure_takes_an_array_or_its_elements(desk: Desk) -> None:
    assert types(desk, "-- name: q!\nCALL many(VARIADIC :a)") == {"a": "integer[]"}
    assert types(desk, "-- name: q!\nCALL many(:a, :b)") == {"a": "integer", "b": "integer"}
    assert desk.affected("-- name: q!\nCALL many(VARIADIC :a)", '{"a": [1, 2]}') == 0
