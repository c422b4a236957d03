-- name: add_to_account(aid, delta)!
-- The first of pgbench's five statements.
-- @param delta int8
-- @retry serialization
UPDATE accounts SET abalance = abalance + :delta WHERE aid = :aid;

-- name: balance(aid)$
SELECT abalance
  FROM accounts
 WHERE aid = :aid;

-- name: add_to_teller(tid, delta)!
-- @param delta int8
UPDATE tellers SET tbalance = tbalance + :delta WHERE tid = :tid;

-- name: add_to_branch(bid, delta)!
-- @param delta int8
UPDATE branches SET bbalance = bbalance + :delta WHERE bid = :bid;

-- name: note_in_history(id, tid, bid, aid, delta)<!
INSERT INTO history (id, tid, bid, aid, delta)
VALUES (:id, :tid, :bid, :aid, :delta) RETURNING xid::text AS xid;
