-- What the queries of the chaos suite work on; run by a superuser in a database of its own.

CREATE TABLE numbers (n int PRIMARY KEY, word text NOT NULL);
INSERT INTO numbers SELECT n, 'number ' || n FROM generate_series(1, 1000) AS n;

-- Nothing here is unique: a write that took place twice has to show.
CREATE TABLE audit (
    id     bigint      NOT NULL,
    server text        NOT NULL DEFAULT current_setting('cluster_name'),
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON audit (id);

CREATE TABLE contested (n int);

-- What is migrated under load.
CREATE TYPE moving_mood AS ENUM ('calm');
CREATE TABLE moving (id bigint, at timestamp, amount real, mood moving_mood, note text DEFAULT 'note', old boolean);
GRANT SELECT, INSERT ON moving TO gateway;

GRANT SELECT ON numbers, audit, contested TO gateway;
GRANT INSERT ON audit TO gateway;

ANALYZE;
