"""Tables, types and procedures of every sort, for what the server says of queries over them."""

from tests.live.databases import Desk

TABLES = """
CREATE SCHEMA other;
CREATE SCHEMA "Odd Place";
CREATE TYPE other.mood AS ENUM ('sad', 'ok');
CREATE TYPE "Odd Place".mood AS ENUM ('odd');
CREATE DOMAIN other.positive AS int CHECK (VALUE > 0);
CREATE TYPE other.pair AS (a other.positive, b text, moods other.mood[]);
CREATE TABLE thing (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, big int8, small int2, name text, code varchar(10), price numeric,
    ratio float8, made timestamptz DEFAULT now(), day date, tags text[], doc jsonb, mood other.mood,
    odd "Odd Place".mood, pair other.pair, count other.positive, span tstzrange, data bytea, key uuid);
INSERT INTO thing (big, name, price, made, tags) VALUES (1, 'a', 1.5, '2026-01-01', '{x}'), (2, 'b', 2.5, now(), '{y}');
CREATE VIEW seen AS SELECT * FROM thing;
CREATE VIEW "Thing" AS SELECT * FROM thing;
CREATE FUNCTION leaves() RETURNS text LANGUAGE sql AS $$ SELECT set_config('a.b', 'c', false) $$;
CREATE FUNCTION other.lower(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE TABLE booby (id int, name text DEFAULT leaves());
CREATE TABLE checked (id int CHECK (leaves() IS NOT NULL));
CREATE TABLE plainly (
    id serial PRIMARY KEY, u uuid DEFAULT gen_random_uuid(), at timestamptz DEFAULT now(), v varchar(10) DEFAULT 'x',
    n numeric(10, 2) DEFAULT 1.5, CHECK (length(v) < 10 AND coalesce(n, 0) >= 0));
CREATE TABLE guarded (id int);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE TABLE ruled (id int);
CREATE RULE also AS ON INSERT TO ruled DO ALSO SELECT 1;
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE watched (id int PRIMARY KEY);
CREATE TRIGGER watch BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TABLE refers (id int REFERENCES plainly);
CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_watched (id int) PARTITION BY RANGE (id);
CREATE TABLE parted_watched_1 PARTITION OF parted_watched FOR VALUES FROM (0) TO (10);
CREATE TRIGGER watch BEFORE INSERT ON parted_watched_1 FOR EACH ROW EXECUTE FUNCTION watch();
CREATE PROCEDURE act(a int, INOUT b text) LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE act(a date, INOUT b text) LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE act(a int, b int, INOUT c text) LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE sole(a int, INOUT b text, OUT c numeric, d date DEFAULT now()) LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE other.away(p other.pair, INOUT m other.mood) LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE poly(INOUT a anyelement, OUT b anyarray) LANGUAGE plpgsql AS 'BEGIN b := ARRAY[a]; END';
CREATE PROCEDURE many(VARIADIC a int[]) LANGUAGE plpgsql AS 'BEGIN END';
"""


def types(desk: Desk, text: str) -> dict[str, str]:
    query, signature = desk.learn(text)
    names = [parameter.name for parameter in query.parameters]
    return dict(zip(names, [type_.name for type_ in signature.parameters], strict=True))
