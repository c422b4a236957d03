-- What the queries of the writes' audit work on; run by a superuser, after gateway_idempotency is there.

SET client_min_messages = warning;
DROP TABLE IF EXISTS ledger, refusals, branches, tellers, accounts, history;

-- Nothing here is unique: what took place twice has to show.
CREATE TABLE ledger (
    id   bigint      NOT NULL,
    part int         NOT NULL,
    xid  xid8        NOT NULL DEFAULT pg_current_xact_id(),
    at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON ledger (id);

-- A row here makes the COMMIT itself fail.
CREATE TABLE refusals (id bigint REFERENCES refusals (other) DEFERRABLE INITIALLY DEFERRED, other bigint UNIQUE);

-- pgbench's own tables, small: many transactions meet at a branch.
CREATE TABLE branches (bid int PRIMARY KEY, bbalance bigint NOT NULL DEFAULT 0);
CREATE TABLE tellers (tid int PRIMARY KEY, bid int NOT NULL, tbalance bigint NOT NULL DEFAULT 0);
CREATE TABLE accounts (aid int PRIMARY KEY, bid int NOT NULL, abalance bigint NOT NULL DEFAULT 0);
CREATE TABLE history (
    id    bigint      NOT NULL,
    tid   int         NOT NULL,
    bid   int         NOT NULL,
    aid   int         NOT NULL,
    delta bigint      NOT NULL,
    xid   xid8        NOT NULL DEFAULT pg_current_xact_id(),
    at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO branches (bid) SELECT generate_series(1, 5);
INSERT INTO tellers (tid, bid) SELECT n, (n - 1) / 10 + 1 FROM generate_series(1, 50) AS n;
INSERT INTO accounts (aid, bid) SELECT n, (n - 1) / 1000 + 1 FROM generate_series(1, 5000) AS n;

GRANT SELECT, INSERT, UPDATE, DELETE ON gateway_idempotency TO gateway;
GRANT SELECT, INSERT, UPDATE ON ledger, refusals, branches, tellers, accounts, history TO gateway;
TRUNCATE gateway_idempotency;

ANALYZE;
