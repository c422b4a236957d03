-- Every kind of read.

-- name: series(n) :many
-- @param n int4 = 3 minimum=0 maximum=1000000
SELECT i, i::int8 * i AS square FROM generate_series(1, :n) AS i;

-- name: few(n) :many
-- @max_rows 5
-- @param n int4
SELECT i FROM generate_series(1, :n) AS i;

-- name: big_numbers^
SELECT 9007199254740993 AS big, 0.1000000000000000000000000001 AS long, 7 AS small, ARRAY[9007199254740993] AS bigs,
       NULL::int8 AS nothing;

-- name: nobody^
SELECT 1 AS one WHERE false;

-- name: nothing$
SELECT 1 WHERE false;

-- name: count_series(n) :execrows
-- @param n int4
SELECT FROM generate_series(1, :n);

-- name: filler(size)$
-- @param size int4
SELECT repeat('x', :size);

-- name: nap(seconds)$
-- @param seconds float8
SELECT 'awake' FROM pg_sleep(:seconds);

-- name: short_nap(seconds)$
-- @timeout 300ms
-- @param seconds float8
SELECT 'awake' FROM pg_sleep(:seconds);

-- name: marked_nap(mark, seconds)$
-- @param mark text
-- @param seconds float8
SELECT :mark FROM pg_sleep(:seconds);

-- name: where_am_i^
SELECT pg_is_in_recovery() AS replica, current_setting('transaction_read_only') AS read_only,
       current_setting('cluster_name') AS server;

-- name: divide(a, b)$
-- @param a int4
-- @param b int4
SELECT :a / :b;

-- name: forbidden :many
SELECT name FROM suite.locked;

-- name: refuse(message, state)$
-- @param message text
-- @param state text = "P0001"
SELECT suite.refuse(:message, :state);

-- name: broken_at_run^
SELECT suite.broken();

-- name: broken_at_start :many
-- @param id int4
SELECT canary FROM suite.there_is_no_such_table WHERE id = :id;
