"""What one statement answers several calls is what each of them would have been answered alone, byte for byte."""

import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.catalogue.arguments import NULL, literal
from gateway.catalogue.compiling import compile_catalogue
from gateway.catalogue.json_text import split_object
from gateway.catalogue.types import Family, Type
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.errors import GatewayError, QueryBroken
from gateway.postgres import joinable, joined, single
from gateway.postgres.joinable import SAMPLES as JUDGED
from gateway.postgres.joinable import Verdict
from gateway.postgres.joined import JoinedPlan
from gateway.postgres.learning import learn
from gateway.postgres.objects import Book
from gateway.postgres.session import Session
from gateway.postgres.single import Result
from gateway.postgres.statement import Plan
from tests.live.databases import GROUPS, Desk, connect, database, plain, soon
from tests.live.families import SAMPLES, SCHEMA, Sample

TABLES = """
CREATE TABLE item (id integer PRIMARY KEY, name text, lot integer, price numeric, day date, note jsonb);
INSERT INTO item SELECT i, 'n' || i, i % 1000, i / 100.0, date '2020-01-01' + i % 3000, json_build_object('i', i)
  FROM generate_series(1, 50000) i;
CREATE INDEX ON item (name text_pattern_ops);
CREATE INDEX ON item (lot);
CREATE INDEX ON item (lower(name));
CREATE INDEX ON item (day, id);
CREATE INDEX part ON item (price) WHERE lot = 5;
CREATE TABLE line (id integer PRIMARY KEY, item integer NOT NULL REFERENCES item);
INSERT INTO line SELECT i, i FROM generate_series(1, 50000) i;
CREATE INDEX ON line (item);
CREATE DOMAIN short AS varchar(3);
CREATE DOMAIN cents AS numeric(10, 2);
CREATE DOMAIN plain_text AS text CHECK (VALUE <> 'no');
ANALYZE;
"""
UNFIT = {"regclass", "regtype", "regprocedure", "xml", '"char"'}
"""Types of which a text is not cast as an argument is read, or is not known to be."""
quickly = settings(
    max_examples=15, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, "live_joined") as dsn, plain(dsn) as cursor:
        cursor.execute(SCHEMA)
        cursor.execute(TABLES)
        yield dsn


@pytest.fixture(scope="module")
def desk(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    connection = connect(dsn)
    yield Desk(connection, tmp_path_factory.mktemp("joined"))
    connection.close()


def alone(session: Session, plan: Plan, literals: Sequence[str]) -> Result | str | None:
    """The result, or the code of the failure."""
    try:
        return single.run(session, plan, literals, deadline=soon())
    except GatewayError as error:
        return error.code
    finally:
        session.settle(soon())


def together(session: Session, plan: Plan, calls: Sequence[Sequence[str]]) -> Sequence[Result | None] | GatewayError:
    try:
        return joined.run(session, JoinedPlan.of(plan), calls, deadline=soon())
    except GatewayError as error:
        return error
    finally:
        session.settle(soon())


def agree(session: Session, plan: Plan, calls: Sequence[Sequence[str]]) -> None:
    """Together they are answered as each alone; or, if any of them fails alone, they fail.

    For a result that is too large there is none.
    """
    each = [alone(session, plan, literals) for literals in calls]
    each = [None if result == "result_too_large" else result for result in each]
    both = together(session, plan, calls)
    if any(isinstance(result, str) for result in each):
        assert isinstance(both, GatewayError), each
    else:
        assert both == each


def literals_of(desk: Desk, text: str, *bodies: str) -> list[list[str]]:
    *_, binder = desk._known(text)
    return [binder.bind_json(split_object(body.encode())) for body in bodies]


def judged(desk: Desk, text: str, *bodies: str, compare: bool = True) -> Verdict:
    """By calls with these arguments in turn."""
    calls = literals_of(desk, text, *bodies)
    samples = [calls[number % len(calls)] for number in range(JUDGED)]
    return joinable.judge(desk.connection, JoinedPlan.of(desk.plan(text)), samples, deadline=soon(), compare=compare)


class TestEveryType:
    @pytest.mark.parametrize("sample", [sample for sample in SAMPLES if sample.returns], ids=lambda sample: sample.type)
    @quickly
    @given(data=st.data())
    def test_joined_and_single_answers_are_equal(self, sample: Sample, desk: Desk, data: st.DataObject) -> None:
        suffix = data.draw(st.sampled_from(["", "[]"] if sample.array else [""]))
        shape = data.draw(
            st.sampled_from(
                [
                    ("$", "SELECT :x"),
                    ("^", "SELECT :x AS x, pg_typeof(:x) AS n WHERE :x IS NOT NULL"),
                    ("", "SELECT p, :x AS _gw_a1, :x::text AS u FROM generate_series(1, 3) AS p ORDER BY p"),
                ]
            )
        )
        plan = desk.plan(f"-- name: q{shape[0]}\n-- @param x {sample.type}{suffix}\n{shape[1]}")
        if why := joinable.refused(desk.connection, JoinedPlan.of(plan), soon()):
            assert sample.type in UNFIT, why
            return
        good = st.sampled_from(sample.texts) | sample.more
        if suffix:
            good = st.lists(good, max_size=3).map(lambda texts: array(texts))
        values = good.map(literal) | st.just(NULL)
        calls = data.draw(st.lists(values.map(lambda value: [value]), min_size=1, max_size=6))
        if data.draw(st.booleans()):
            calls.append([literal(data.draw(st.text("ab'\"\\{}(), 1é", max_size=6)))])
        agree(desk.connection, plan, calls)


def array(texts: Sequence[str]) -> str:
    quoted = ('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts)
    return "{" + ",".join(quoted) + "}"


class TestTheSampleCatalogue:
    def test_all_that_may_be_joined_is_answered_as_alone(self, cluster: Cluster) -> None:
        catalogue = compile_catalogue([shop.QUERIES], groups=GROUPS, timeout=5.0)
        session = connect(shop.dsn(cluster.primary), read_only=True)
        choose = random.Random(7)  # noqa: S311 -- no secret
        book, joined_ones = Book(), set()
        try:
            for query in catalogue.queries.values():
                signature = learn(session, query, book, soon())
                plan = Plan.of(query, signature)
                if not plan.types or joinable.objection(query, signature):
                    continue
                if joinable.refused(session, JoinedPlan.of(plan), soon()):
                    continue
                joined_ones.add(query.name)
                for _ in range(8):
                    calls = [[some(type_, choose) for type_ in plan.types] for _ in range(choose.randint(1, 12))]
                    agree(session, plan, calls)
        finally:
            session.close()
        assert len(joined_ones) >= 5


def some(type_: Type, choose: random.Random) -> str:
    """A value that may well occur, NULL, or nonsense."""
    by_name = {sample.type: sample.texts for sample in SAMPLES}
    if choose.random() < 0.1:
        return NULL
    if choose.random() < 0.02:
        return literal("nonsense")
    match type_.family:
        case Family.INTEGER | Family.NUMERIC | Family.FLOAT:
            return literal(str(choose.randint(0, 20)))
        case Family.ENUM:
            return literal(choose.choice(type_.labels))
        case Family.ARRAY:
            return literal("{}")
    return literal(choose.choice(by_name.get(type_.name, ["2026-01-01", "a", "1"])))


class TestCapture:
    @pytest.mark.parametrize(
        "text",
        [
            "SELECT n, p, a0 FROM (VALUES (1, 2, 3)) AS u(n, p, a0) WHERE n = :x::int",
            "SELECT r.x AS _gw, u.x AS _gw_r FROM (SELECT :x::int) AS r(x), (SELECT :x::int + 1) AS u(x)",
            "WITH _gw_r AS (SELECT :x::int AS n) SELECT * FROM _gw_r",
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < :x::int) TABLE r ORDER BY n",
            "SELECT id, (SELECT count(*) FROM item i WHERE i.lot = item.lot AND i.id < :x::int) FROM item"
            " WHERE lot = :x::int ORDER BY id LIMIT 3",
            "SELECT count(*), max(id) FROM item WHERE lot = :x::int GROUP BY lot HAVING count(*) > 1",
            "SELECT sum(id) OVER (ORDER BY id ROWS :x::int PRECEDING) FROM item WHERE id < 10 ORDER BY id",
            "SELECT id FROM item ORDER BY id LIMIT :x::int OFFSET 2 -- a comment at the end",
            "SELECT DISTINCT ON (lot) lot, id FROM item WHERE id < :x::int ORDER BY lot, id",
            "SELECT id FROM item WHERE id < :x::int UNION SELECT -1 ORDER BY 1",
            "VALUES (:x::int, 'a''b')",
        ],
    )  # fmt: skip
    def test_no_name_of_a_query_is_taken_for_one_of_the_joins(self, text: str, desk: Desk) -> None:
        agree(desk.connection, desk.plan(text), [["'1'"], ["'7'"], ["'3'"], ["NULL"], ["'7'"]])


class TestTraps:
    def test_an_argument_is_cast_once_and_not_for_each_row(self, desk: Desk) -> None:
        text = "SELECT count(*) AS n FROM item WHERE note @> :x AND id <= 5000"
        plan = JoinedPlan.of(desk.plan(text))
        desk.connection.make_ready(plan)
        explained = "\n".join(
            row[0] or ""
            for row in desk.connection.ask(f"EXPLAIN (VERBOSE) {plan.execute([['NULL'], ['NULL']])}", soon())
        )
        assert "SubPlan" not in explained
        (filter_,) = [line for line in explained.splitlines() if "@>" in line]
        assert "Filter: (item.note @>" in filter_
        took = joinable._explained(desk.connection, joinable._ANALYZE + plan.execute([["'{\"i\": 7}'"]] * 2), soon())
        assert took["Execution Time"] < 200

    def test_an_argument_that_nothing_refers_to_must_be_one_of_its_type_all_the_same(self, desk: Desk) -> None:
        text = "-- name: q$\n-- @param y int4\nSELECT CASE WHEN true THEN :x::int ELSE :y END"
        plan = desk.plan(text)
        assert isinstance(together(desk.connection, plan, [["'1'", "'2'"], ["'1'", "'no'"]]), GatewayError)
        agree(desk.connection, plan, [["'1'", "'2'"], ["'3'", "NULL"]])

    def test_an_aggregate_over_parameters_alone_is_refused_and_never_one_for_all_calls(self, desk: Desk) -> None:
        text = "-- name: q$\n-- @param x int4\nSELECT max(:x)"
        assert judged(desk, text, '{"x": 1}') == Verdict(False, "the server does not take it joined (42803)")

    @pytest.mark.parametrize("type_", ["short", "cents", "regclass", "regtype", "xml", "short[]"])
    def test_types_whose_cast_is_not_what_reads_an_argument_are_not_joined(self, type_: str, desk: Desk) -> None:
        text = f"-- name: q$\n-- @param x {type_}\nSELECT :x"
        verdict = judged(desk, text, '{"x": null}')
        if type_ == "short[]":  # its input function applies the domain's, modifier and all
            assert verdict.joins
            agree(desk.connection, desk.plan(text), [["'{abcd}'"], ["'{a}'"]])
        else:
            assert verdict == Verdict(False, f"a text is not cast to {type_} as an argument of it is read")

    @pytest.mark.parametrize("type_", ["varchar", "bpchar", "numeric", "bit", "name", "plain_text", "interval"])
    def test_a_declared_modifier_is_ignored_as_it_is_alone(self, type_: str, desk: Desk) -> None:
        sized = {"varchar": "varchar(3)", "bpchar": "char(3)", "numeric": "numeric(4,1)", "bit": "bit(3)"}
        text = f"-- name: q$\n-- @param x {sized.get(type_, type_)}\nSELECT :x::text"
        value = {"numeric": "12345.678", "bit": "10101", "interval": "1 day 3 hours"}.get(type_, "abcdef ")
        agree(desk.connection, desk.plan(text), [[literal(value)], ["NULL"], [literal(value[:3])]])

    @pytest.mark.parametrize(
        ("text", "body"),
        [
            ("-- @param x int4\nSELECT * FROM item WHERE :x IS NULL OR id = :x", '{"x": 7}'),
            ("SELECT * FROM item WHERE name LIKE :x", '{"x": "n123%"}'),
            ("SELECT * FROM item WHERE name ^@ :x", '{"x": "n123"}'),
            ("SELECT * FROM item WHERE price = :p AND lot = :x", '{"x": 5, "p": 50.05}'),
            ("SELECT * FROM item WHERE id = coalesce(:x, id)", '{"x": 7}'),
        ],
    )
    def test_what_the_server_plans_by_its_arguments_runs_alone(self, text: str, body: str, desk: Desk) -> None:
        assert judged(desk, f"-- name: q\n{text}", body) == Verdict(
            False, "the server plans it by its arguments, and could not if it were joined"
        )

    @pytest.mark.parametrize(
        ("text", "bodies"),
        [
            ("SELECT * FROM item WHERE id = :x", ['{"x": 7}', '{"x": 50001}']),
            ("SELECT * FROM item WHERE lot = :x ORDER BY id LIMIT 10", ['{"x": 7}']),
            ("SELECT * FROM item JOIN line ON line.item = item.id WHERE item.id = :x", ['{"x": 7}']),
            ("SELECT * FROM item WHERE lower(name) = :x", ['{"x": "n7"}']),
            ("SELECT * FROM item WHERE id = ANY (:x)", ['{"x": [1, 2, 3]}']),
            ("SELECT lot % 2 AS odd, count(*) FROM item WHERE lot = :x GROUP BY 1 ORDER BY 1", ['{"x": 7}']),
            ("SELECT * FROM item WHERE (day, id) > (:d, :x) ORDER BY day, id LIMIT 5",
             ['{"d": "2021-01-01", "x": 7}']),
        ],
    )  # fmt: skip
    def test_what_it_plans_alike_is_joined(self, text: str, bodies: list[str], desk: Desk) -> None:
        assert judged(desk, text, *bodies) == Verdict(True)
        calls = literals_of(desk, text, *bodies)
        agree(desk.connection, desk.plan(text), [calls[number % len(calls)] for number in range(64)])

    def test_what_takes_long_runs_alone(self, desk: Desk) -> None:
        verdict = judged(desk, "SELECT pg_sleep(0.01), :x::int", '{"x": 1}')
        assert (verdict.joins, verdict.why[:9]) == (False, "one takes")

    def test_with_the_authors_word_nothing_is_compared(self, desk: Desk) -> None:
        text = "-- @param x int4\n-- @join on\nSELECT * FROM item WHERE :x IS NULL OR id = :x"
        assert judged(desk, f"-- name: q\n{text}", '{"x": 7}', compare=False) == Verdict(True)


class TestObjections:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("SELECT random(), :x::int", "it gives something else each time, as functions such as random do"),
            ("SELECT * FROM item TABLESAMPLE system (1) WHERE id = :x",
             "it gives something else each time, as functions such as random do"),
            ("-- @join off\nSELECT :x::int", "it is annotated with @join off"),
            ("DELETE FROM item WHERE id = :x RETURNING id", "it writes"),
            ("SELECT now(), :x::int", ""),
        ],
    )  # fmt: skip
    def test_they_are_known_before_anything_was_called(self, text: str, why: str, desk: Desk) -> None:
        assert joinable.objection(*desk.learn(f"-- name: q\n{text}")) == why

    def test_a_function_of_a_user_may_be_vouched_for(self, dsn: str, desk: Desk) -> None:
        with plain(dsn) as cursor:
            cursor.execute("CREATE FUNCTION twice(integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * $1'")
        text = "SELECT twice(:x)"
        assert joinable.objection(*desk.learn(text)).startswith("it is not proven")
        vouched = f"-- name: q\n-- @join on\n{text}"
        assert joinable.objection(*desk.learn(vouched)) == ""
        agree(desk.connection, desk.plan(vouched), [["'1'"], ["'2'"]])


class TestRunning:
    TEXT = "-- name: q^\nSELECT id, name FROM item WHERE id = :x"

    def test_a_result_that_is_too_large_is_not_sent_and_the_others_are(self, desk: Desk) -> None:
        text = "-- name: q\n-- @max_rows 3\nSELECT id FROM item WHERE id <= :x ORDER BY id"
        plan = desk.plan(text)
        small, large = together(desk.connection, plan, [["'2'"], ["'4'"]])  # type: ignore[misc]
        assert (small, large) == (Result(b'{"id":1},{"id":2}', 2), None)

    def test_a_statement_that_was_deallocated_is_prepared_again(self, desk: Desk) -> None:
        plan = desk.plan(self.TEXT)
        agree(desk.connection, plan, [["'1'"], ["'2'"]])
        desk.connection.ask("DEALLOCATE ALL", soon())
        agree(desk.connection, plan, [["'1'"], ["'2'"]])

    def test_the_callers_settings_hold_for_it_and_for_nothing_after_it(self, desk: Desk) -> None:
        plan = desk.plan("-- name: q$\nSELECT current_setting('app.tenant', true) || :x::text")
        session = desk.connection
        found = joined.run(
            session, JoinedPlan.of(plan), [["'a'"], ["'b'"]], deadline=soon(), settings={"app.tenant": "7"}
        )
        session.settle(soon())
        assert found == [Result(b'"7a"', 1), Result(b'"7b"', 1)]
        assert together(session, plan, [["'a'"]]) in ([Result(b'"a"', 1)], [Result(b"null", 1)])

    def test_a_migration_makes_it_fail_as_it_makes_one_call(self, dsn: str, desk: Desk) -> None:
        with plain(dsn) as cursor:
            cursor.execute("CREATE TABLE moved (id integer PRIMARY KEY, v text); INSERT INTO moved VALUES (1, 'a')")
            plan = desk.plan("-- name: q^\nSELECT v FROM moved WHERE id = :x")
            agree(desk.connection, plan, [["'1'"], ["'2'"]])
            cursor.execute("DROP TABLE moved")
        assert isinstance(together(desk.connection, plan, [["'1'"], ["'2'"]]), QueryBroken)

    def test_rows_come_in_the_order_of_the_calls(self, desk: Desk) -> None:
        numbers = list(range(1, 65))
        random.Random(3).shuffle(numbers)  # noqa: S311 -- no secret
        found = together(desk.connection, desk.plan(self.TEXT), [[literal(str(number))] for number in numbers])
        assert isinstance(found, list)
        assert [result.text for result in found] == [b'{"id":%d,"name":"n%d"}' % (n, n) for n in numbers]
