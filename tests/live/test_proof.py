"""What is called harmless leaves nothing in its session: everything that may run counts, also what is only caused."""

from collections.abc import Iterator

import pytest

from gateway.demo.cluster import Cluster
from tests.live.databases import Desk, database, plain

TABLES = """
CREATE FUNCTION leaves(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN PERFORM set_config('my.mark', 'left', false); RETURN $1; END $$;
CREATE FUNCTION leaves(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN PERFORM set_config('my.mark', 'left', false); RETURN $1; END $$;
CREATE FUNCTION leaves_too() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM set_config('my.mark', 'left', false); RETURN NEW; END $$;
CREATE FUNCTION "greatest"(text) RETURNS text LANGUAGE sql AS 'SELECT leaves($1)';
CREATE FUNCTION random(text) RETURNS text LANGUAGE sql AS 'SELECT leaves($1)';
CREATE FUNCTION lower(int) RETURNS int LANGUAGE sql AS 'SELECT leaves($1)';

CREATE DOMAIN watched_text AS text CHECK (leaves(VALUE) IS NOT NULL);
CREATE DOMAIN over_it AS watched_text;
CREATE DOMAIN short AS text CHECK (length(VALUE) < 10);
CREATE DOMAIN defaulted AS text DEFAULT leaves('x');
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (a int, b text, m mood);
CREATE TYPE traced_pair AS (a int, b watched_text);
CREATE TYPE textrange AS RANGE (subtype = text);
CREATE TYPE castable AS ENUM ('a');
CREATE FUNCTION to_json_of(castable) RETURNS json LANGUAGE sql AS $$ SELECT to_json(leaves('x')) $$;
CREATE CAST (castable AS json) WITH FUNCTION to_json_of(castable);

CREATE TABLE item (id int PRIMARY KEY, word text, m mood, p pair, CHECK (length(word) < 1000));
CREATE FUNCTION f(item) RETURNS text LANGUAGE sql AS $$ SELECT leaves('x') $$;
CREATE TABLE domained (id int, word watched_text);
CREATE TABLE traced_row (id int, p traced_pair);
CREATE TABLE shortly (id int, word short);
CREATE TABLE with_default (id int, word text DEFAULT leaves('x'));
CREATE TABLE with_domain_default (id int, word defaulted);
CREATE TABLE checked (id int CHECK (leaves(id) > 0));
CREATE TABLE indexed (id int, word text);
CREATE INDEX ON indexed (leaves(word));
CREATE TABLE partly_indexed (id int, word text);
CREATE INDEX ON partly_indexed (id) WHERE leaves(word) = 'x';
CREATE TABLE excluded (id int, word text, EXCLUDE USING btree (leaves(word) WITH =));
CREATE TABLE generated (id int, word text GENERATED ALWAYS AS (leaves('x')) STORED);
CREATE TABLE measured (id int, word text);
CREATE STATISTICS of_it ON (leaves(word)), id FROM measured;
CREATE TABLE castables (id int, c castable);
CREATE TABLE ranged (id int, r textrange);

CREATE TABLE audited (id int PRIMARY KEY, word text);
CREATE TRIGGER audit AFTER INSERT ON audited FOR EACH ROW EXECUTE FUNCTION leaves_too();
CREATE TABLE off (id int PRIMARY KEY);
CREATE TRIGGER audit AFTER INSERT ON off FOR EACH ROW EXECUTE FUNCTION leaves_too();
ALTER TABLE off DISABLE TRIGGER audit;
CREATE TABLE by_statement (id int PRIMARY KEY);
CREATE TRIGGER audit AFTER TRUNCATE OR DELETE ON by_statement EXECUTE FUNCTION leaves_too();

CREATE TABLE mother (id int PRIMARY KEY, code text UNIQUE);
CREATE TABLE child (id int, mother int REFERENCES mother ON DELETE CASCADE);
CREATE TABLE grandchild_key (id int PRIMARY KEY, mother int REFERENCES mother ON DELETE CASCADE);
CREATE TABLE grandchild (id int REFERENCES grandchild_key ON DELETE SET NULL);
CREATE TRIGGER audit AFTER UPDATE ON grandchild FOR EACH ROW EXECUTE FUNCTION leaves_too();
CREATE TABLE lonely (id int PRIMARY KEY);
CREATE TABLE refers (id int REFERENCES lonely, other int REFERENCES lonely ON DELETE RESTRICT);
CREATE TRIGGER audit AFTER DELETE ON refers FOR EACH ROW EXECUTE FUNCTION leaves_too();
CREATE TABLE odd_default (id int PRIMARY KEY);
CREATE TABLE takes_default (id int DEFAULT leaves(1) REFERENCES odd_default ON DELETE SET DEFAULT);
CREATE TABLE renamed_key (id int PRIMARY KEY);
CREATE TABLE follows (id int REFERENCES renamed_key ON UPDATE CASCADE);
CREATE TRIGGER audit AFTER UPDATE ON follows FOR EACH ROW EXECUTE FUNCTION leaves_too();
CREATE TABLE ruled_key (id int PRIMARY KEY);
CREATE TABLE ruled_child (id int REFERENCES ruled_key ON DELETE CASCADE);
CREATE RULE also AS ON DELETE TO ruled_child DO ALSO SELECT leaves('x');

CREATE TABLE parted (id int, word text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
CREATE TRIGGER audit AFTER DELETE ON parted_2 FOR EACH ROW EXECUTE FUNCTION leaves_too();
CREATE TABLE parted_by_it (id int, word text) PARTITION BY LIST (leaves(word));
CREATE TABLE parted_by_it_1 PARTITION OF parted_by_it FOR VALUES IN ('x');
CREATE TABLE plain_parts (id int) PARTITION BY RANGE (id);
CREATE TABLE plain_parts_1 PARTITION OF plain_parts FOR VALUES FROM (0) TO (10);

CREATE FUNCTION at(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT leaves($1) = leaves($2)';
CREATE OPERATOR @@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = at);
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE FUNCTION compared(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT leaves($1) - leaves($2)';
CREATE OPERATOR CLASS odd_order FOR TYPE int USING btree AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 compared(int, int);
CREATE TABLE oddly_indexed (id int);
CREATE INDEX ON oddly_indexed (id odd_order);

CREATE VIEW seen AS SELECT id, word FROM item;
CREATE VIEW seen_twice AS SELECT id, upper(word) AS word FROM seen;
CREATE VIEW traced AS SELECT id, leaves(word) AS word FROM item;
CREATE VIEW traced_twice AS SELECT * FROM traced;
CREATE VIEW instead AS SELECT id + 0 AS id FROM item;
CREATE TRIGGER instead INSTEAD OF INSERT ON instead FOR EACH ROW EXECUTE FUNCTION leaves_too();
CREATE TABLE ruled (id int);
CREATE RULE also AS ON INSERT TO ruled DO ALSO SELECT 1;
CREATE RULE also_too AS ON UPDATE TO ruled DO ALSO SELECT leaves('x');
CREATE MATERIALIZED VIEW kept AS SELECT 1 AS id;

CREATE TABLE guarded (id int, tenant text);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON guarded USING (tenant = current_setting('app.tenant', true));
CREATE TABLE badly_guarded (id int, tenant text);
ALTER TABLE badly_guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON badly_guarded USING (tenant = leaves('x'));
CREATE TABLE guarded_writes (id int, tenant text);
ALTER TABLE guarded_writes ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_it ON guarded_writes FOR SELECT USING (true);
CREATE POLICY mine ON guarded_writes FOR INSERT WITH CHECK (tenant = leaves('x'));
CREATE UNLOGGED TABLE fleeting (id int);
CREATE TABLE numbered (id serial, word text);
CREATE TABLE identified (id int GENERATED ALWAYS AS IDENTITY, word text);
CREATE PROCEDURE act() LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION pg_temp_like(int) RETURNS SETOF int LANGUAGE sql AS 'SELECT leaves($1)';
"""
ROLE = "proof"


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    """As an ordinary role: row-level security does not hold for a superuser."""
    with database(cluster.primary, "live_proof") as dsn, plain(dsn) as cursor:
        cursor.execute(TABLES)
        cursor.execute(f"CREATE ROLE {ROLE} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}")
        try:
            yield dsn.replace("user=postgres", f"user={ROLE}")
        finally:
            cursor.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


READS = [
    # Text, whether it is harmless, and otherwise a word of the reason.
    ("SELECT * FROM item", ""),
    ("SELECT upper(word), now(), random(), clock_timestamp(), count(*) OVER () FROM item", ""),
    ("SELECT m, p, (p).a, m::text, to_json(p), row_to_json(item.*) FROM item", ""),
    ("SELECT greatest(word, 'x'), coalesce(word, ''), nullif(word, '') FROM item", ""),
    ("WITH item AS (SELECT 1 AS f) SELECT f FROM item", ""),
    ("SELECT :x::short AS x", ""),
    ("SELECT :x::mood[] AS x, :y::pair[] AS y", ""),
    ("SELECT id === 1 AS x FROM item", ""),
    ("SELECT * FROM seen JOIN seen_twice USING (id)", ""),
    ("SELECT * FROM parted JOIN plain_parts USING (id)", ""),
    ("SELECT * FROM guarded", ""),
    ("SELECT * FROM guarded_writes", ""),
    ("SELECT * FROM with_default JOIN audited USING (id) JOIN ruled USING (id)", ""),
    ("SELECT * FROM kept, pg_stat_activity", ""),
    ("SELECT * FROM jsonb_to_recordset(:x) AS r(a int, b short, c mood)", ""),
    ("SELECT i.f FROM item AS i", "calls f"),
    ("SELECT (i).f FROM item AS i", "calls f"),
    ("SELECT f(i) FROM item AS i", "calls f"),
    ("SELECT leaves(word) FROM item", "calls leaves"),
    ('SELECT "greatest"(word) FROM item', "calls greatest"),
    ("SELECT random(word) FROM item", "calls random"),
    ("SELECT lower(id) FROM item", "calls lower"),
    ("SELECT count(*) FILTER (WHERE leaves(word) = '') OVER (ORDER BY leaves(id)) FROM item", "calls leaves"),
    ("SELECT 1 AS a FROM item ORDER BY leaves(word)", "calls leaves"),
    ("SELECT a FROM pg_temp_like(1) AS a", "calls pg_temp_like"),
    ("SELECT id FROM item LIMIT leaves(1)", "calls leaves"),
    ("SELECT :x::watched_text AS x", "calls leaves"),
    ("SELECT :x::over_it[] AS x", "calls leaves"),
    ("SELECT json_populate_record(NULL::traced_pair, :x) AS x", "calls leaves"),
    ("SELECT json_populate_recordset(NULL::traced_row, :x) AS x", "calls leaves"),
    ("SELECT * FROM json_to_recordset(:x) AS r(a int, b watched_text)", "calls leaves"),
    ("-- name: q\n-- @param x traced_pair\nSELECT (:x).a AS x", "calls leaves"),
    ("SELECT 'a'::text::over_it AS x", "calls leaves"),
    ("SELECT ARRAY['a']::watched_text[] AS x", "calls leaves"),
    ("SELECT id @@@ 1 AS x FROM item", "an operator"),
    ("SELECT to_json(c) AS x FROM castables", "castable"),
    ("SELECT r FROM ranged", "textrange"),
    ("SELECT id FROM indexed", "calls leaves"),
    ("SELECT id FROM partly_indexed", "calls leaves"),
    ("SELECT id FROM excluded", "calls leaves"),
    ("SELECT id FROM measured", "calls leaves"),
    ("SELECT id FROM checked", "calls leaves"),
    ("SELECT id FROM generated", "calls leaves"),
    ("SELECT id FROM parted_by_it", "calls leaves"),
    ("SELECT id FROM parted_by_it_1", "calls leaves"),
    ("SELECT id FROM oddly_indexed", "ordinary table"),
    ("SELECT id FROM traced", "calls leaves"),
    ("SELECT id FROM traced_twice", "calls leaves"),
    ("SELECT * FROM badly_guarded", "calls leaves"),
    ("SELECT setseed(0.5)", "setseed"),
    ("SELECT lastval(), currval('numbered_id_seq')", "currval"),
    ("SELECT query_to_xml('SELECT 1', true, true, '')", "query_to_xml"),
    ("SELECT table_to_xml('item', true, true, '')", "table_to_xml"),
    ("SELECT ts_rewrite('a'::tsquery, 'SELECT leaves(1)')", "ts_rewrite"),
    ("SELECT * FROM ts_stat('SELECT leaves(1)')", "ts_stat"),
    ("SELECT pg_try_advisory_xact_lock(1)", "pg_try_advisory_xact_lock"),
    ("SELECT * FROM pg_catalog.pg_ls_dir('.')", "pg_ls_dir"),
]  # fmt: skip
WRITES = [
    ("INSERT INTO item VALUES (1, :w, 'ok', :p)", ""),
    ("UPDATE item SET word = :w WHERE id = :i", ""),
    ("DELETE FROM item", ""),
    ("INSERT INTO numbered (word) VALUES ('x')", ""),
    ("INSERT INTO identified (word) VALUES ('x')", ""),
    ("INSERT INTO item (id) SELECT nextval('numbered_id_seq')", ""),
    ("INSERT INTO shortly VALUES (1, :w)", ""),
    ("INSERT INTO with_default VALUES (1, 'x')", ""),
    ("INSERT INTO off VALUES (1)", ""),
    ("UPDATE audited SET word = 'x'", ""),
    ("DELETE FROM audited", ""),
    ("INSERT INTO by_statement VALUES (1)", ""),
    ("UPDATE by_statement SET id = 1", ""),
    ("INSERT INTO mother VALUES (1)", ""),
    ("INSERT INTO child VALUES (1, 1)", ""),
    ("INSERT INTO refers VALUES (1)", ""),
    ("DELETE FROM lonely", ""),
    ("INSERT INTO odd_default VALUES (1)", ""),
    ("INSERT INTO plain_parts VALUES (1)", ""),
    ("INSERT INTO parted VALUES (1)", ""),
    ("DELETE FROM renamed_key", ""),
    ("INSERT INTO ruled_key VALUES (1)", ""),
    ("INSERT INTO guarded VALUES (1, 'x')", ""),
    ("UPDATE seen SET word = 'x'", ""),
    ("INSERT INTO item (id) SELECT id FROM audited", ""),
    ("MERGE INTO item i USING audited a ON a.id = i.id WHEN MATCHED THEN UPDATE SET word = 'x'", ""),
    ("INSERT INTO domained VALUES (1, 'x')", "calls leaves"),
    ("INSERT INTO with_default (id) VALUES (1)", "calls leaves"),
    ("INSERT INTO with_domain_default (id) VALUES (1)", "calls leaves"),
    ("INSERT INTO checked VALUES (1)", "calls leaves"),
    ("INSERT INTO indexed VALUES (1)", "calls leaves"),
    ("INSERT INTO audited VALUES (1)", "trigger audit"),
    ("UPDATE audited SET word = leaves(word)", "calls leaves"),
    ("INSERT INTO audited VALUES (1) ON CONFLICT DO NOTHING", "trigger audit"),
    ("MERGE INTO audited a USING item i ON a.id = i.id WHEN NOT MATCHED THEN INSERT VALUES (1)", "trigger audit"),
    ("WITH x AS (INSERT INTO audited VALUES (1) RETURNING id) SELECT id FROM x", "trigger audit"),
    ("DELETE FROM by_statement", "trigger audit"),
    ("DELETE FROM mother", "trigger audit"),
    ("WITH x AS (DELETE FROM mother RETURNING id) INSERT INTO item SELECT id FROM x", "trigger audit"),
    ("DELETE FROM odd_default", "calls leaves"),
    ("UPDATE renamed_key SET id = 1", "trigger audit"),
    ("DELETE FROM ruled_key", "rules"),
    ("DELETE FROM parted", "trigger audit"),
    ("UPDATE parted SET id = 1", "trigger audit"),
    ("DELETE FROM parted_2", "trigger audit"),
    ("INSERT INTO instead VALUES (1)", "trigger instead"),
    ("INSERT INTO ruled VALUES (1)", "rules"),
    ("INSERT INTO badly_guarded VALUES (1, 'x')", "calls leaves"),
    ("INSERT INTO guarded_writes VALUES (1, 'x')", "calls leaves"),
    ("CALL act()", "procedure"),
]  # fmt: skip


def unproven(desk: Desk, text: str) -> str:
    return desk.learn(text)[1].unproven


@pytest.mark.parametrize(("text", "reason"), READS, ids=[text[:60] for text, _ in READS])
def test_a_read_is_harmless_unless_something_of_a_user_may_run(text: str, reason: str, desk: Desk) -> None:
    found = unproven(desk, text)
    assert reason in found
    assert bool(found) is bool(reason), found


@pytest.mark.parametrize(("text", "reason"), WRITES, ids=[text[:60] for text, _ in WRITES])
def test_a_write_is_harmless_unless_something_of_a_user_may_be_caused(text: str, reason: str, desk: Desk) -> None:
    found = unproven(desk, f"-- name: q!\n{text}")
    assert reason in found
    assert bool(found) is bool(reason), found
