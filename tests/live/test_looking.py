"""Whatever a migration changes of what a query depends on is seen by a look, on the primary and on its standbys."""

from collections.abc import Iterator
from pathlib import Path

import psycopg2.extensions
import pytest

from gateway.catalogue.dependencies import SETTINGS, Dependencies
from gateway.demo.cluster import Cluster
from gateway.postgres.looking import Look, look
from gateway.postgres.session import Session
from tests.live.databases import Desk, connect, database, plain, soon

NAME = "live_looking"
ROLE = "looker"
TABLES = f"""
DROP SCHEMA IF EXISTS app, extra CASCADE;
DROP OWNED BY {ROLE};
CREATE SCHEMA app AUTHORIZATION {ROLE};
CREATE SCHEMA extra;
GRANT USAGE ON SCHEMA extra TO {ROLE};
SET ROLE {ROLE};
CREATE TYPE app.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
CREATE TYPE app.pair AS (a int, b text);
CREATE TYPE app.loose AS (a int, b text);
CREATE TABLE app.parent (id int PRIMARY KEY, name text);
CREATE TABLE app.thing (
    id int PRIMARY KEY, word text DEFAULT 'x', price real, at timestamp, mood app.mood, pair app.pair,
    count app.positive, parent int REFERENCES app.parent, tags text[], CONSTRAINT long CHECK (length(word) < 100));
CREATE INDEX thing_word ON app.thing (lower(word));
CREATE TABLE app.detail (id int PRIMARY KEY, thing int REFERENCES app.thing ON DELETE CASCADE);
CREATE TABLE app.parted (id int, word text) PARTITION BY RANGE (id);
CREATE TABLE app.parted_1 PARTITION OF app.parted FOR VALUES FROM (0) TO (10);
CREATE TABLE app.spare (id int, word text);
CREATE VIEW app.seen AS SELECT id, word FROM app.parent AS p(id, word);
CREATE VIEW app.seen_twice AS SELECT * FROM app.seen;
CREATE TABLE app.guarded (id int, tenant text);
CREATE TABLE app.other (id int, word text);
CREATE FUNCTION app.twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
CREATE FUNCTION app.trace() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION app.same(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION app.as_mood(int) RETURNS app.mood LANGUAGE sql AS $$ SELECT 'ok'::app.mood $$;
RESET ROLE;
INSERT INTO app.thing (id, word) SELECT i, i::text FROM generate_series(1, 100) AS i;
"""
QUERIES = {
    "thing": "SELECT * FROM thing WHERE id = :id",
    "insert": "-- name: q!\nINSERT INTO app.thing (id, word, pair) VALUES (:id, :word, :pair)",
    "delete": "-- name: q!\nDELETE FROM thing WHERE id = :id",
    "parted": "SELECT * FROM parted",
    "seen": "SELECT * FROM seen_twice",
    "guarded": "SELECT * FROM guarded",
    "twice": "SELECT twice(:x) AS y, lower(:y) AS z",
    "mood": "SELECT :x::mood AS x, :y::app.loose[] AS y, :z::positive AS z",
    "call": "-- name: q!\nCALL act(:x)",
}
CHANGES = [
    ("thing", "ALTER TABLE app.thing ALTER price TYPE double precision"),
    ("thing", "ALTER TABLE app.thing ALTER at TYPE timestamptz"),
    ("thing", "ALTER TABLE app.thing ALTER word TYPE varchar(20)"),
    ("thing", "ALTER TABLE app.thing ADD extra int"),
    ("thing", "ALTER TABLE app.thing DROP tags"),
    ("thing", "ALTER TABLE app.thing RENAME word TO words"),
    ("thing", "ALTER TABLE app.thing RENAME TO things"),
    ("thing", "ALTER TABLE app.thing SET SCHEMA extra"),
    ("thing", "ALTER SCHEMA app RENAME TO apps; ALTER SCHEMA apps RENAME TO app_2"),
    ("thing", "DROP TABLE app.thing CASCADE; CREATE TABLE app.thing (id int)"),
    ("thing", "DROP TABLE app.thing CASCADE; CREATE VIEW app.thing AS SELECT 1 AS id"),
    ("thing", "CREATE TABLE extra.thing (id int)"),
    ("thing", "ALTER TABLE app.thing ADD CHECK (id > 0)"),
    ("thing", "ALTER TABLE app.thing DROP CONSTRAINT long"),
    ("thing", "CREATE INDEX ON app.thing (upper(word))"),
    ("thing", "CREATE INDEX ON app.thing (id) WHERE word = 'x'"),
    ("thing", "DROP INDEX app.thing_word"),
    ("thing", "CREATE STATISTICS app.of_thing ON (upper(word)), id FROM app.thing"),
    ("thing", "CREATE TABLE app.thing_child () INHERITS (app.thing)"),
    ("thing", "ALTER TABLE app.thing ENABLE ROW LEVEL SECURITY"),
    ("thing", "ALTER TABLE app.thing FORCE ROW LEVEL SECURITY"),
    ("thing", "ALTER TABLE app.thing OWNER TO postgres"),
    ("guarded", "ALTER TABLE app.guarded SET UNLOGGED"),
    ("insert", "ALTER TABLE app.thing ALTER word SET DEFAULT 'y'"),
    ("insert", "ALTER TABLE app.thing ALTER word DROP DEFAULT"),
    ("insert", "ALTER TABLE app.thing ALTER word SET NOT NULL"),
    ("insert", "ALTER TABLE app.thing ADD made int GENERATED ALWAYS AS (id * 2) STORED"),
    ("insert", "ALTER TABLE app.thing ALTER id ADD GENERATED ALWAYS AS IDENTITY"),
    ("insert", "CREATE TRIGGER t AFTER INSERT ON app.thing FOR EACH ROW EXECUTE FUNCTION app.trace()"),
    ("insert", "CREATE RULE r AS ON INSERT TO app.thing DO ALSO SELECT 1"),
    ("insert", "ALTER TYPE app.pair ADD ATTRIBUTE c int"),
    ("insert", "ALTER TYPE app.pair RENAME ATTRIBUTE a TO z"),
    ("insert", "ALTER TYPE app.mood ADD VALUE 'fine'"),
    ("insert", "ALTER TABLE app.parent ADD CHECK (id > 0)"),
    ("delete", "CREATE TRIGGER t AFTER DELETE ON app.detail FOR EACH ROW EXECUTE FUNCTION app.trace()"),
    ("delete", "CREATE TABLE app.more (thing int REFERENCES app.thing ON DELETE CASCADE)"),
    ("delete", "ALTER TABLE app.detail DROP CONSTRAINT detail_thing_fkey"),
    ("parted", "CREATE TABLE app.parted_2 PARTITION OF app.parted FOR VALUES FROM (10) TO (20)"),
    ("parted", "ALTER TABLE app.parted DETACH PARTITION app.parted_1"),
    ("parted", "ALTER TABLE app.parted_1 ADD CHECK (length(word) > 0)"),
    ("seen", "CREATE OR REPLACE VIEW app.seen AS SELECT id, upper(name) AS word FROM app.parent"),
    ("seen", "CREATE OR REPLACE VIEW app.seen_twice AS SELECT id, word, 1 AS more FROM app.seen"),
    ("seen", "ALTER VIEW app.seen SET (security_barrier)"),
    ("seen", "ALTER TABLE app.parent ENABLE ROW LEVEL SECURITY"),
    ("guarded", "CREATE POLICY p ON app.guarded USING (tenant = 'x')"),
    ("guarded", f"GRANT pg_read_all_data TO {ROLE}"),
    ("guarded", f"ALTER ROLE {ROLE} BYPASSRLS"),
    ("guarded", f"ALTER ROLE {ROLE} SET search_path = extra, app"),
    ("twice", "CREATE FUNCTION extra.twice(bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ("twice", "CREATE FUNCTION app.lower(citext text) RETURNS text LANGUAGE sql AS 'SELECT $1'"),
    ("twice", "DROP FUNCTION app.twice; CREATE FUNCTION app.twice(int) RETURNS bigint LANGUAGE sql AS 'SELECT 1'"),
    ("twice", "ALTER FUNCTION app.twice IMMUTABLE"),
    ("twice", "ALTER FUNCTION app.twice RENAME TO thrice"),
    ("twice", "CREATE OPERATOR app.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = app.same)"),
    ("twice", "CREATE CAST (int AS app.mood) WITH FUNCTION app.as_mood(int)"),
    ("mood", "ALTER TYPE app.mood RENAME VALUE 'ok' TO 'okay'"),
    ("mood", "ALTER TYPE app.mood ADD VALUE 'odd' BEFORE 'ok'"),
    ("mood", "ALTER TYPE app.mood RENAME TO temper"),
    ("mood", "CREATE TYPE extra.mood AS ENUM ('other')"),
    ("mood", "ALTER TYPE app.loose ALTER ATTRIBUTE b TYPE varchar"),
    ("mood", "ALTER TYPE app.loose DROP ATTRIBUTE b"),
    ("mood", "ALTER DOMAIN app.positive ADD CHECK (VALUE < 10)"),
    ("mood", "ALTER DOMAIN app.positive DROP CONSTRAINT positive_check"),
    ("mood", "ALTER DOMAIN app.positive SET DEFAULT 3"),
    ("call", "CREATE PROCEDURE app.act(x bigint) LANGUAGE sql AS 'SELECT 1'"),
]  # fmt: skip
NOTHING = [
    "ANALYZE",
    "VACUUM (FREEZE, ANALYZE)",
    "VACUUM FULL",
    "CLUSTER app.thing USING thing_pkey",
    "REINDEX SCHEMA app",
    "REINDEX TABLE CONCURRENTLY app.thing",
    "TRUNCATE app.thing CASCADE",
    "CREATE INDEX ON app.thing (word)",
    "CREATE INDEX CONCURRENTLY ON app.thing (price, word)",
    "CREATE UNIQUE INDEX ON app.thing (word)",
    "CREATE TEMP TABLE thing (id int)",
    "CREATE TEMP TABLE twice AS SELECT 1 AS x",
    f"GRANT SELECT ON app.thing TO PUBLIC; REVOKE INSERT ON app.thing FROM {ROLE}",
    "GRANT SELECT (id) ON app.thing TO PUBLIC; GRANT EXECUTE ON FUNCTION app.twice TO PUBLIC",
    "COMMENT ON TABLE app.thing IS 'x'; COMMENT ON COLUMN app.thing.id IS 'x'",
    "ALTER TABLE app.thing ALTER word SET STATISTICS 200; ALTER TABLE app.thing ALTER word SET STORAGE EXTERNAL",
    "CREATE STATISTICS app.stats ON id, word FROM app.thing; ANALYZE app.thing",
    "CREATE TABLE app.unrelated (id int REFERENCES app.spare_key); CREATE VIEW app.unrelated_view AS SELECT 1 AS id",
    "ALTER TABLE app.other ADD more int; CREATE FUNCTION app.unrelated(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA tenant_2; CREATE TABLE tenant_2.thing (id int); DROP SCHEMA tenant_2 CASCADE",
    "CREATE OR REPLACE FUNCTION app.twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + $1'",
    "CREATE ROLE unrelated; ALTER ROLE unrelated SET work_mem = '1MB'; DROP ROLE unrelated",
    "ALTER SYSTEM SET log_min_duration_statement = 1000; SELECT pg_reload_conf()",
    "INSERT INTO app.thing (id, word) SELECT i, i::text FROM generate_series(1000, 2000) AS i; DELETE FROM app.thing",
]  # fmt: skip


@pytest.fixture(scope="module")
def owner(cluster: Cluster) -> Iterator[psycopg2.extensions.cursor]:
    """Who migrates."""
    with database(cluster.primary, NAME) as dsn, plain(dsn) as cursor:
        cursor.execute(f"CREATE ROLE {ROLE} LOGIN; ALTER ROLE {ROLE} SET search_path = extra, app, public")
        try:
            yield cursor
        finally:
            cursor.execute(f"DROP SCHEMA IF EXISTS app, app_2, extra CASCADE; DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")
            cursor.execute("ALTER SYSTEM RESET log_min_duration_statement")
            cursor.execute("SELECT pg_reload_conf()")


@pytest.fixture
def tables(owner: psycopg2.extensions.cursor) -> psycopg2.extensions.cursor:
    """The tables as above, whatever the last migration made of them."""
    owner.execute("DROP SCHEMA IF EXISTS app_2 CASCADE")
    owner.execute(TABLES)
    owner.execute(f"ALTER ROLE {ROLE} SET search_path = extra, app, public; ALTER ROLE {ROLE} NOBYPASSRLS")
    owner.execute(f"REVOKE pg_read_all_data FROM {ROLE}")
    owner.execute("CREATE TABLE app.spare_key (id int PRIMARY KEY)")
    owner.execute("CREATE PROCEDURE app.act(x int) LANGUAGE sql AS 'SELECT 1'")
    return owner


@pytest.fixture
def lookers(cluster: Cluster, tables: psycopg2.extensions.cursor) -> Iterator[list[Session]]:
    """Sessions of an ordinary role on the primary and on a standby."""
    tables.execute("SELECT 1")
    cluster.wait_until_caught_up()
    servers = (cluster.primary, cluster.replicas[0])
    connections = [connect(server.dsn(NAME, ROLE), read_only=True) for server in servers]
    yield connections
    for connection in connections:
        connection.close()


def looks(cluster: Cluster, lookers: list[Session], watched: Dependencies) -> Look:
    """What the primary shows, once the standby shows the same."""
    cluster.wait_until_caught_up()
    first, second = (look(connection, watched, soon()) for connection in lookers)
    assert first.parts == second.parts
    return first


def run(cursor: psycopg2.extensions.cursor, migration: str) -> None:
    for statement in migration.split("; "):
        cursor.execute(statement)


@pytest.mark.parametrize(("query", "migration"), CHANGES, ids=[migration[:70] for _, migration in CHANGES])
def test_what_changes_for_a_query_is_seen_on_every_server(
    query: str,
    migration: str,
    cluster: Cluster,
    lookers: list[Session],
    tables: psycopg2.extensions.cursor,
    tmp_path: Path,
) -> None:
    watched = Desk(lookers[0], tmp_path / "queries").learn(QUERIES[query])[1].dependencies
    before = looks(cluster, lookers, watched)
    run(tables, migration)
    fresh = look(connect(cluster.primary.dsn(NAME, ROLE)), watched, soon())
    after = looks(cluster, lookers, watched)
    changed = after.changed_since(before.parts) | fresh.changed_since(before.parts)
    assert watched.touched_by(changed), changed
    assert look(lookers[0], watched, soon(), since=before).parts == after.parts


def test_what_changes_nothing_for_any_query_is_not_seen(
    cluster: Cluster, lookers: list[Session], tables: psycopg2.extensions.cursor, tmp_path: Path
) -> None:
    desk = Desk(lookers[0], tmp_path / "queries")
    watched = Dependencies()
    for text in QUERIES.values():
        watched |= desk.learn(text)[1].dependencies
    before = looks(cluster, lookers, watched)
    for migration in NOTHING:
        run(tables, migration)
        after = looks(cluster, lookers, watched)
        assert after.changed_since(before.parts) == frozenset(), migration
        assert after.moment != before.moment


def test_a_query_is_not_touched_by_what_changes_for_another(
    cluster: Cluster, lookers: list[Session], tables: psycopg2.extensions.cursor, tmp_path: Path
) -> None:
    desk = Desk(lookers[0], tmp_path / "queries")
    thing, parted = (desk.learn(QUERIES[name])[1].dependencies for name in ("thing", "parted"))
    before = looks(cluster, lookers, thing | parted)
    tables.execute("ALTER TABLE app.thing ADD more int")
    changed = looks(cluster, lookers, thing | parted).changed_since(before.parts)
    assert thing.touched_by(changed)
    assert not parted.touched_by(changed)


def test_alike_changes_of_alike_tables_do_not_hide_each_other(
    cluster: Cluster, lookers: list[Session], tables: psycopg2.extensions.cursor, tmp_path: Path
) -> None:
    tables.execute("CREATE TABLE app.twin_1 (id int); CREATE TABLE app.twin_2 (id int)")
    desk = Desk(lookers[0], tmp_path / "queries")
    watched = desk.learn("SELECT twin_1.id FROM app.twin_1 JOIN app.twin_2 USING (id)")[1].dependencies
    before = looks(cluster, lookers, watched)
    tables.execute("BEGIN; ALTER TABLE app.twin_1 ADD word text; ALTER TABLE app.twin_2 ADD word text; COMMIT")
    cluster.wait_until_caught_up()
    for connection in lookers:
        assert len(look(connection, watched, soon(), since=before).changed_since(before.parts)) == 2


def test_nothing_is_read_where_nothing_was_written(lookers: list[Session]) -> None:
    for connection in lookers:
        first = look(connection, Dependencies(relation_names=frozenset({"thing"})), soon())
        assert look(connection, Dependencies(relation_names=frozenset({"thing"})), soon(), since=first) is first


def test_settings_of_the_role_or_the_database_touch_no_query_but_are_told(
    cluster: Cluster, lookers: list[Session], tables: psycopg2.extensions.cursor
) -> None:
    watched = Dependencies(relation_names=frozenset({"thing"}))
    for change in (f"ALTER ROLE {ROLE} SET work_mem = '5MB'", f"ALTER DATABASE {NAME} SET work_mem = '6MB'"):
        before = looks(cluster, lookers, watched)
        tables.execute(change)
        changed = looks(cluster, lookers, watched).changed_since(before.parts)
        assert changed == {SETTINGS}
        assert not watched.touched_by(changed)


def test_a_table_that_is_missing_is_seen_when_it_comes(
    cluster: Cluster, lookers: list[Session], tables: psycopg2.extensions.cursor
) -> None:
    watched = Dependencies(relation_names=frozenset({"awaited"}), function_names=frozenset({"hoped_for"}))
    before = looks(cluster, lookers, watched)
    tables.execute("CREATE TABLE app.awaited (id int)")
    between = looks(cluster, lookers, watched)
    assert watched.touched_by(between.changed_since(before.parts))
    tables.execute("CREATE FUNCTION app.hoped_for() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert watched.touched_by(looks(cluster, lookers, watched).changed_since(between.parts))


@pytest.mark.usefixtures("tables")
def test_through_a_pooler_a_look_prepares_nothing(cluster: Cluster) -> None:
    watched = Dependencies(relation_names=frozenset({"it's", 'a "name", too', "thing"}), types=frozenset({16384}))
    dsn = cluster.primary.dsn(NAME, ROLE)
    here, there = connect(dsn), connect(dsn, prepare=False)
    assert look(here, watched, soon()).parts == look(there, watched, soon()).parts
    assert there.ask("SELECT count(*)::text FROM pg_prepared_statements", soon()) == [("0",)]
    for connection in (here, there):
        connection.close()
