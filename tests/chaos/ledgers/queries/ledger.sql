-- name: jot(id, part)!
-- A row of a write that can be found again.
-- @param id int8
-- @param part int4 = 0
INSERT INTO ledger (id, part) VALUES (:id, :part);

-- name: jot_back(id, part)<!
-- The same, and which transaction it was: no two runs get the same answer.
-- @param id int8
-- @param part int4 = 0
INSERT INTO ledger (id, part) VALUES (:id, :part) RETURNING xid::text AS xid, part + 1 AS next;

-- name: jot_tracked(id, part)<!
-- @outcome tracked
-- @param id int8
-- @param part int4 = 0
INSERT INTO ledger (id, part) VALUES (:id, :part) RETURNING xid::text AS xid, part + 1 AS next;

-- name: jot_tracked_quietly(id, part)!
-- @outcome tracked
-- @param id int8
-- @param part int4 = 0
INSERT INTO ledger (id, part) VALUES (:id, :part);

-- name: jotted(id)$
-- @param id int8
SELECT count(*)
  FROM ledger
 WHERE id = :id;

-- name: refuse(id)!
-- Succeeds, but its transaction cannot be committed.
-- @outcome tracked
-- @param id int8
WITH jotted AS (INSERT INTO ledger (id, part) VALUES (:id, 0))
INSERT INTO refusals (id) VALUES (:id);
