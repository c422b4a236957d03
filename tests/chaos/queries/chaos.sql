-- name: look(n)^
-- A read of every day, and who answered it.
-- @param n int4
SELECT n, word, current_setting('cluster_name') AS server
  FROM numbers
 WHERE n = :n;

-- name: doze(n, seconds)^
-- The same, slowly.
-- @timeout 30s
-- @param n int4
-- @param seconds float8 = 0.3
SELECT numbers.n, current_setting('cluster_name') AS server
  FROM numbers, pg_sleep(:seconds)
 WHERE numbers.n = :n;

-- name: doze_on_contested(seconds)^
-- A slow read of a table that somebody is about to truncate.
-- @timeout 30s
-- @param seconds float8 = 0.3
SELECT (SELECT count(*) FROM contested) AS rows, current_setting('cluster_name') AS server
  FROM pg_sleep(:seconds);

-- name: note(id)!
-- A write that can be found again.
-- @param id int8
INSERT INTO audit (id) VALUES (:id);

-- name: note_slowly(id, seconds)!
-- @param id int8
-- @param seconds float8 = 0.3
-- @timeout 30s
INSERT INTO audit (id) SELECT :id FROM pg_sleep(:seconds);

-- name: noted(id)$
-- How often that write took place.
-- @param id int8
SELECT count(*)
  FROM audit
 WHERE id = :id;

-- name: moving_put(id, at, amount)!
-- A write into a table that is migrated meanwhile.
INSERT INTO moving (id, at, amount) VALUES (:id, :at, :amount);

-- name: moving_get
-- The last rows of it, with all their columns.
SELECT * FROM moving ORDER BY id DESC LIMIT 5;
