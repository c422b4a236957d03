"""Nothing of what the gateway writes itself can be taken for an object that somebody put into the search path."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import postgast
import psycopg2.extensions
import pytest

from gateway import errors
from gateway.catalogue.dependencies import Dependencies
from gateway.demo.cluster import Cluster
from gateway.demo.server import Server
from gateway.postgres import driver as drivers
from gateway.postgres import guarding, idempotency, outcomes, transaction
from gateway.postgres.idempotency import Claim
from gateway.postgres.looking import look
from gateway.postgres.marks import Mark
from gateway.postgres.positions import token_after_commit
from gateway.postgres.probing import Looker, identify
from gateway.postgres.session import Session
from gateway.postgres.single import Result
from gateway.postgres.statement import Plan
from gateway.postgres.tokens import Token
from gateway.postgres.work import Step, Work
from tests.live.databases import Desk, connect, database, plain, soon

TABLES = """
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'happy');
CREATE TABLE app.things (i int, n int8, t text, m app.mood, at timestamptz);
CREATE TABLE app.unread (i int, t text);
CREATE TABLE app.ruled (i int);
CREATE RULE ruled AS ON INSERT TO app.ruled DO INSTEAD INSERT INTO app.things (i) VALUES (new.i) RETURNING i;
CREATE PROCEDURE app.twice(INOUT i int) LANGUAGE plpgsql AS 'BEGIN i := i OPERATOR(pg_catalog.*) 2; END';
CREATE FUNCTION app.leaves() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_catalog.set_config('my.mark', 'left', false); RETURN 1; END $$;
CREATE ROLE app LOGIN;
GRANT USAGE ON SCHEMA app TO app;
GRANT ALL ON app.things, app.ruled TO app;
GRANT INSERT ON app.unread TO app;
GRANT CREATE ON SCHEMA public TO app;
"""
FUNCTIONS = {
    "to_json(int4)": "json",
    "row_to_json(record)": "json",
    "unnest(text[])": "SETOF text",
    "pg_is_in_recovery()": "boolean",
    "current_setting(text)": "text",
    "set_config(text, text, boolean)": "text",
    "format(text, text)": "text",
    "format(text, pg_lsn)": "text",
    "concat(text, text)": "text",
    "substr(text, int4, int4)": "text",
    "chr(int4)": "text",
    "octet_length(text)": "int4",
    "now()": "timestamptz",
    "clock_timestamp()": "timestamptz",
    "pg_advisory_unlock_all()": "void",
    "pg_current_wal_insert_lsn()": "pg_lsn",
    "pg_last_wal_replay_lsn()": "pg_lsn",
    "pg_wal_lsn_diff(pg_lsn, pg_lsn)": "numeric",
    "pg_walfile_name(pg_lsn)": "text",
    "pg_current_xact_id()": "xid8",
    "pg_xact_status(xid8)": "text",
    "pg_control_system()": "record",
    "pg_typeof(int4)": "regtype",
    "to_regclass(text)": "regclass",
    "to_regtype(text)": "regtype",
    "format_type(oid, int4)": "text",
    "hash_record_extended(record, int8)": "int8",
    "pg_has_role(name, text, text)": "boolean",
}
"""Signatures that fit better than PostgreSQL's own, or as well."""
OPERATORS = {
    "=": ("text", "int8", "int4", "oid", "name", '"char"', "regtype", "boolean", "xid8", "int2", "tid", "regproc"),
    "<>": ("text", "int4", "oid", "name", '"char"'),
    ">=": ("pg_lsn", "int8", "int4", "oid", "timestamptz"),
    "<=": ("int4", "int8", "oid"),
    "<": ("timestamptz", "oid", "int4", "int8"),
    ">": ("int2", "int4", "int8"),
    "||": ("text", "oid[]"),
    "*": ("numeric", "int4", "float8"),
    "-": ("pg_lsn", "int8"),
}
TYPES = ("text", "int8", "int4", "oid", "regtype", "regproc", "timestamptz", "name", "xid8", "pg_lsn")

SCALAR = "-- name: q$\nSELECT :i::pg_catalog.int4"
ONE = "-- name: q^\nSELECT 1::pg_catalog.int4 AS a, 'b'::pg_catalog.text AS b"
MANY = "-- name: q\nSELECT i, n, t, m FROM app.things WHERE i OPERATOR(pg_catalog.<) :i"
OPTIONAL = "-- name: q\nSELECT i FROM app.things WHERE :i IS NULL OR i OPERATOR(pg_catalog.=) :i"
INSERT = "-- name: q!\nINSERT INTO app.things (i, t, m, at) VALUES (:i, :t, :m, '2026-01-01')"
RETURNING = "-- name: q$\nINSERT INTO app.things (i, t) VALUES (:i, :t) RETURNING n"
UNREAD = "-- name: q!\nINSERT INTO app.unread VALUES (:i, :t)"
RULED = "-- name: q\nINSERT INTO app.ruled VALUES (:i) RETURNING i"
CALL = "-- name: q^\nCALL app.twice(:i)"
LEAVES = "-- name: q$\nSELECT app.leaves()"


def hostile() -> Iterator[str]:
    for signature, result in FUNCTIONS.items():
        body = "LANGUAGE plpgsql AS $$ BEGIN RAISE 'a stranger''s function ran'; END $$"
        yield f"CREATE FUNCTION public.{signature} RETURNS {result} {body}"
    for operator, types in OPERATORS.items():
        for number, type_ in enumerate(types):
            result = "boolean" if operator in "=<>=" else type_
            name = f"public.op_{abs(hash((operator, number)))}"
            yield (
                f"CREATE FUNCTION {name}({type_}, {type_}) RETURNS {result} LANGUAGE plpgsql AS"
                f" $$ BEGIN RAISE 'a stranger''s operator ran'; END $$"
            )
            yield (f"CREATE OPERATOR public.{operator} (LEFTARG = {type_}, RIGHTARG = {type_}, FUNCTION = {name})")
    # In the end: what is created after them would be made of these.
    yield from (f"CREATE DOMAIN public.{name} AS bool CHECK (pg_catalog.random() IS NULL)" for name in TYPES)


@contextmanager
def served(server: Server, name: str) -> Iterator[str]:
    """The DSN of a database with the tables above, for a role that may do little and looks into ``public`` first."""
    with database(server, name) as dsn:
        with plain(dsn) as cursor:
            cursor.execute(TABLES + idempotency.DDL + "GRANT ALL ON gateway_idempotency TO app")
        try:
            yield f"{server.dsn(name, 'app')} options='-c search_path=public,pg_catalog'"
        finally:
            with plain(dsn) as cursor:
                cursor.execute("DROP OWNED BY app; DROP ROLE app")


def constant(*literals: str) -> Callable[[Sequence[Result]], Sequence[str]]:
    return lambda _: literals


def encode(results: Sequence[Result]) -> bytes:
    return b"|".join(result.text or b"%d" % result.row_count for result in results)


def work(connection: Session, what: Work, **more: Any) -> bytes:
    answer = transaction.run(connection, what, deadline=soon(), **more)
    assert connection.settle(soon())
    return answer.body


def exercise(dsn: str, folder: Path, **more: Any) -> list[str | None]:
    """Do all that has the gateway write SQL, and give what was answered."""
    connection = connect(dsn, **more)
    desk = Desk(connection, folder)
    told = [
        desk.value(SCALAR, '{"i": 7}'),
        desk.value(ONE),
        str(desk.affected(INSERT, '{"i": 1, "t": "x", "m": "sad"}')),
        desk.value(RETURNING, '{"i": 2, "t": "y"}'),
        str(desk.affected(UNREAD, '{"i": 1, "t": "x"}')),
        desk.value(RULED, '{"i": 3}'),
        desk.value(CALL, '{"i": 21}'),
        desk.value(LEAVES),
        *desk.rows(MANY, '{"i": 2}', bigint_as_string=True),
        *desk.rows(OPTIONAL, '{"i": 2}'),
        desk.value(SCALAR, '{"i": 8}', guard=guarding.writes_timeline(Token(0, 1, 0))),
    ]
    assert connection.clean(soon())
    with pytest.raises(errors.InvalidArguments):
        desk.run(UNREAD, '{"i": 99999999999, "t": "x"}')
    plan, piled = desk.plan(INSERT), Plan.accumulating(*desk.learn(INSERT))
    steps = [Step(plan, constant(str(number), "'z'", "'sad'")) for number in range(3)]
    told.append(work(connection, Work(steps, encode, accumulated=piled, tracked=True), max_bytes=99).decode())
    returning = Step(desk.plan(RETURNING), constant("'9'", "'z'"))
    claim = Claim("", "k", "h")
    told += [work(connection, Work([returning, *steps], encode, claim=claim)).decode() for _ in range(2)]
    idempotency.sweep(connection, retention=0.0, deadline=soon())
    return told


def as_operator(dsn: str) -> None:
    """What a role asks that may see everything."""
    connection = connect(dsn)
    seen = Looker(connection).look(soon())
    system = identify(connection, soon())
    token = token_after_commit(connection, system=None, deadline=soon())
    assert token is not None
    assert str(token.system) == system
    assert token_after_commit(connection, system=system, deadline=soon()) is not None
    origin = connection.origin()
    assert origin is not None
    mark = Mark(origin.system, seen.timeline or 0, 3, 0, origin.life, 0)
    assert outcomes.ask(connection, mark, soon()).writable
    watched = Dependencies(relation_names=frozenset({"things"}), function_names=frozenset({"leaves"}))
    first = look(connection, watched, soon())
    assert look(connection, watched, soon(), since=first).parts == first.parts
    connection.close()


EXPECTED = [
    "7",
    '{"a":1,"b":"b"}',
    "1",
    "null",
    "1",
    '{"i":3}',
    '{"i":42}',
    "1",
    '{"i":1,"n":null,"t":"x","m":"sad"}',
    '{"i":2}',
    "8",
    "1|1|1",
    "null|1|1|1",
    "null|1|1|1",
]


@pytest.mark.parametrize("prepare", [True, False])
def test_a_stranger_who_may_create_objects_changes_no_answer(prepare: bool, cluster: Cluster, tmp_path: Path) -> None:
    with served(cluster.primary, "live_hostile") as dsn:
        with plain(cluster.primary.dsn("live_hostile")) as cursor:
            for statement in hostile():
                cursor.execute(statement)
        assert exercise(dsn, tmp_path / "queries", prepare=prepare) == EXPECTED
        as_operator(cluster.primary.dsn("live_hostile") + " options='-c search_path=public,pg_catalog'")
        replica = connect(cluster.replicas[0].dsn("postgres"))
        assert Looker(replica).look(soon()).role == "replica"
        replica.close()


MESSAGES: list[str] = []


class Recorder(psycopg2.extensions.cursor):
    """Keeps what is sent."""

    def execute(self, query: Any, arguments: Any = None) -> None:
        MESSAGES.append(str(query))
        super().execute(query, arguments)


class Recorded(Session):
    """A session of whose messages the texts are kept."""

    def cursor(self, *_: Any, **__: Any) -> Any:
        return super().cursor(cursor_factory=Recorder)


def unqualified(sql: str) -> set[str]:
    """The names in a message that the search path has a say in."""
    tree = postgast.parse(sql)
    found: set[str] = set()
    own = {"gateway_idempotency"}
    _collect(tree, found, own)
    return {name for name in found if name not in own}


def _collect(message: Any, found: set[str], own: set[str]) -> None:
    kind = message.DESCRIPTOR.name
    if kind == "CommonTableExpr":
        own.add(message.ctename)
    names = {"FuncCall": "funcname", "A_Expr": "name", "TypeName": "names", "SortBy": "use_op"}.get(kind)
    if names is not None:
        parts = [part.string.sval for part in getattr(message, names)]
        if len(parts) == 1:
            found.add(parts[0])
    if kind == "RangeVar" and not message.schemaname:
        found.add(message.relname)
    if (kind == "CaseExpr" and message.HasField("arg")) or (kind == "SubLink" and message.HasField("testexpr")):
        found.add(f"the operator of a {kind}")
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in value if field.is_repeated else [value]:
                _collect(each, found, own)


def test_an_unqualified_name_is_found() -> None:
    assert unqualified("SELECT count(*) FROM t WHERE a = b AND x::text IN (SELECT y)") == {
        "count",
        "t",
        "=",
        "text",
        "the operator of a SubLink",
    }
    assert unqualified("WITH c AS (SELECT pg_catalog.now()::int) SELECT a OPERATOR(pg_catalog.=) 1 FROM c") == set()


def test_every_name_in_what_the_gateway_writes_is_qualified(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drivers, "Session", Recorded)
    MESSAGES.clear()
    began = monotonic()
    for prepare in (True, False):
        with served(cluster.primary, "live_qualified") as dsn:
            assert exercise(dsn, tmp_path / str(prepare), prepare=prepare) == EXPECTED
            as_operator(cluster.primary.dsn("live_qualified"))
    messages = dict.fromkeys(MESSAGES)
    assert len(messages) > 100, monotonic() - began
    faults = {name: message for message in messages for name in unqualified(message)}
    assert not faults
