-- Every kind of write, and every way one fails.

-- name: add_thing(name, size, owner)<!
-- @param name text = null
-- @param size int4 = 1
-- @param owner int4 = null
INSERT INTO suite.things (name, size, owner) VALUES (:name, :size, :owner) RETURNING name, size;

-- name: add_things(names) :many
-- @param names text[]
INSERT INTO suite.things (name) SELECT unnest(:names) RETURNING name;

-- name: rename_thing(name, new_name)!
UPDATE suite.things SET name = :new_name WHERE name = :name;

-- name: next_number$
-- @access write
SELECT nextval('suite.numbers');

-- name: slow_rename(name, seconds)!
-- @param seconds float8
UPDATE suite.things SET size = size + 1 FROM pg_sleep(:seconds) WHERE name = :name;

-- name: few_renamed(prefix) :many
-- @max_rows 2
-- @param prefix text
UPDATE suite.things SET size = size + 1 WHERE starts_with(name, :prefix) RETURNING name;

-- name: call_double(x) :one
CALL suite.double(:x, NULL);

-- name: where_do_i_write$
-- @access write
SELECT pg_is_in_recovery();
