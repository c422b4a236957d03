-- What is sent comes back: one query for each way a value can go wrong on its way.

-- name: echo_numeric(x)$
-- @param x numeric = null
SELECT :x;

-- name: echo_int4(x)$
-- @param x int4 minimum=-1000
SELECT :x;

-- name: echo_int8(x)$
-- @param x int8
SELECT :x;

-- name: echo_float8(x)$
-- @param x float8
SELECT :x;

-- name: echo_text(x)$
-- @param x text maxLength=100000
SELECT :x;

-- name: echo_json(x)$
-- @param x json
SELECT :x;

-- name: echo_jsonb(x)$
-- @param x jsonb
SELECT :x;

-- name: echo_texts(x)$
-- @param x text[]
SELECT :x;

-- name: echo_ints(x)$
-- @param x int4[] = []
SELECT :x;

-- name: echo_bool(x)$
-- @param x bool
SELECT :x;

-- name: echo_uuid(x)$
-- @param x uuid
SELECT :x;

-- name: echo_date(x)$
-- @param x date
SELECT :x;

-- name: echo_bytea(x)$
-- @param x bytea
SELECT :x;

-- name: echo_range(x)$
-- @param x int4range
SELECT :x;

-- name: echo_mood(x)$
-- @param x suite.mood
SELECT :x;

-- name: several(a, b, c)^
-- @param a int4 minimum=1 maximum=9
-- @param b text = "b" maxLength=3 pattern="^[a-z]*$"
-- @param c date = null
SELECT :a AS a, :b AS b, :c AS c;
