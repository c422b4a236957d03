"""Migrations of every kind, each with a call that it changes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

STRINGS = {"Prefer": "bigint=string"}


class Change(NamedTuple):
    """A migration of one kind, and a call that it changes."""

    what: str
    before: str
    """SQL that makes what the query needs, in the schema ``moved``."""
    query: str
    """Without its header."""
    arguments: str
    """JSON of a call that is right after the migration."""
    migration: str
    answer: Any
    """What the call answers then; for a write, what ``stored`` gives."""
    kind: str = ""
    stored: str = ""
    """SQL that reads what a write has stored last."""
    headers: Mapping[str, str] = {}
    first: str | None = None
    """Arguments of a call before the migration; None: the same."""
    name: str = "moved"
    """Of its query, and of the schema that all of it is in."""

    def under(self, name: str) -> "Change":
        """The same under another name."""

        def put(text: str) -> str:
            return text.replace(f"{self.name}.", f"{name}.")

        before, query, migration, stored = map(put, (self.before, self.query, self.migration, self.stored))
        return self._replace(name=name, before=before, query=query, migration=migration, stored=stored)


def column(what: str, before: str, after: str, value: str, read: str, right: str) -> Change:
    """A column of another type: a value of the new one is stored as it is."""
    return Change(
        what=what,
        before=f"CREATE TABLE moved.t (n serial, v {before})",
        query="INSERT INTO moved.t (v) VALUES (:v)",
        kind="!",
        arguments=f'{{"v": {value}}}',
        first='{"v": null}',
        migration=f"ALTER TABLE moved.t ALTER v TYPE {after}",
        stored=f"SELECT {read} FROM moved.t ORDER BY n DESC LIMIT 1",
        answer=right,
    )


WRITES = [
    column(
        "timestamp becomes timestamptz",
        "timestamp",
        "timestamptz",
        '"2026-01-01T12:00:00+02:00"',
        "v AT TIME ZONE 'UTC'",
        "2026-01-01 10:00:00",
    ),
    column(
        "date becomes timestamptz",
        "date",
        "timestamptz",
        '"2026-01-01T12:34:56Z"',
        "v AT TIME ZONE 'UTC'",
        "2026-01-01 12:34:56",
    ),
    column("real becomes double precision", "real", "double precision", "0.1", "v", "0.1"),
    column(
        "double precision becomes numeric",
        "double precision",
        "numeric",
        "0.12345678901234567890",
        "v",
        "0.12345678901234567890",
    ),
    column("char becomes text", "char(5)", "text", '"a  "', "quote_literal(v)", "'a  '"),
    column("int becomes bigint", "int", "bigint", "3000000000", "v", "3000000000"),
    Change(
        what="an enum has a label more",
        before="CREATE TYPE moved.mood AS ENUM ('sad'); CREATE TABLE moved.t (n serial, v moved.mood)",
        query="INSERT INTO moved.t (v) VALUES (:v)",
        kind="!",
        arguments='{"v": "glad"}',
        first='{"v": "sad"}',
        migration="ALTER TYPE moved.mood ADD VALUE 'glad'",
        stored="SELECT v FROM moved.t ORDER BY n DESC LIMIT 1",
        answer="glad",
    ),
    Change(
        what="a label of an enum is renamed",
        before="CREATE TYPE moved.mood AS ENUM ('sad'); CREATE TABLE moved.t (n serial, v moved.mood)",
        query="INSERT INTO moved.t (v) VALUES (:v)",
        kind="!",
        arguments='{"v": "glum"}',
        first='{"v": "sad"}',
        migration="ALTER TYPE moved.mood RENAME VALUE 'sad' TO 'glum'",
        stored="SELECT v FROM moved.t ORDER BY n DESC LIMIT 1",
        answer="glum",
    ),
    Change(
        what="a composite type has an attribute more",
        before="CREATE TYPE moved.pair AS (a int, b text); CREATE TABLE moved.t (n serial, v moved.pair[])",
        query="INSERT INTO moved.t (v) VALUES (:v)",
        kind="!",
        arguments='{"v": [{"a": 1, "b": "x", "c": true}]}',
        first='{"v": [{"a": 1, "b": "x"}]}',
        migration="ALTER TYPE moved.pair ADD ATTRIBUTE c bool",
        stored="SELECT v[1] FROM moved.t ORDER BY n DESC LIMIT 1",
        answer="(1,x,t)",
    ),
]
READS = [
    Change(
        what="a column is dropped and another is added",
        before="CREATE TABLE moved.t (a int8, b int8); INSERT INTO moved.t VALUES (1, 2)",
        query="SELECT * FROM moved.t",
        arguments="{}",
        migration="ALTER TABLE moved.t DROP a, ADD c int8 DEFAULT 3",
        answer=[{"b": "2", "c": "3"}],
        headers=STRINGS,
    ),
    Change(
        what="a column is renamed",
        before="CREATE TABLE moved.t (a int8); INSERT INTO moved.t VALUES (1)",
        query="SELECT * FROM moved.t",
        arguments="{}",
        migration="ALTER TABLE moved.t RENAME a TO b",
        answer=[{"b": "1"}],
        headers=STRINGS,
    ),
    Change(
        what="an int becomes bigint",
        before="CREATE TABLE moved.t (a int); INSERT INTO moved.t VALUES (1)",
        query="SELECT a FROM moved.t WHERE a <= :most",
        arguments='{"most": 9007199254740993}',
        first='{"most": 1}',
        migration="ALTER TABLE moved.t ALTER a TYPE int8; UPDATE moved.t SET a = 9007199254740993",
        answer=[{"a": "9007199254740993"}],
        headers=STRINGS,
    ),
    Change(
        what="a table with a rule has other columns",
        before="CREATE TABLE moved.t (a int, b text); INSERT INTO moved.t VALUES (1, 'x');"
        " CREATE RULE also AS ON UPDATE TO moved.t DO ALSO SELECT 1 WHERE false",
        query="UPDATE moved.t SET b = 'y' RETURNING *",
        arguments="{}",
        migration="ALTER TABLE moved.t ALTER a TYPE text USING 'one'",
        answer=[{"a": "one", "b": "y"}],
    ),
    Change(
        what="a view is defined anew",
        before="CREATE VIEW moved.t AS SELECT 1 AS a",
        query="SELECT * FROM moved.t",
        arguments="{}",
        migration="DROP VIEW moved.t; CREATE VIEW moved.t AS SELECT 'x'::text AS b",
        answer=[{"b": "x"}],
        headers=STRINGS,
    ),
    Change(
        what="a procedure has its results in another order",
        before="CREATE PROCEDURE moved.t(IN k int, OUT a text, OUT b text)"
        " LANGUAGE plpgsql AS $$ BEGIN a := 'a'; b := 'b'; END $$",
        query="CALL moved.t(:k, NULL, NULL)",
        kind="^",
        arguments='{"k": 1}',
        migration="DROP PROCEDURE moved.t(int); CREATE PROCEDURE moved.t(IN k int, OUT b text, OUT a text)"
        " LANGUAGE plpgsql AS $$ BEGIN a := 'a'; b := 'b'; END $$",
        answer={"a": "a", "b": "b"},
    ),
]
