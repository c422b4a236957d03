-- What runs many times, or together with others, in one transaction.

-- name: enter(word, amount, data, parent)<!
-- @param amount numeric = null
-- @param data jsonb = null
-- @param parent int8 = null
INSERT INTO suite.entries (word, amount, data, parent) VALUES (:word, :amount, :data, :parent)
RETURNING id, word, amount, data;

-- name: enter_silently(word)!
INSERT INTO suite.entries (word) VALUES (:word) -- nothing comes back

-- name: enter_each(words) :many
-- @max_rows 2
INSERT INTO suite.entries (word) SELECT unnest(:words::text[]) RETURNING word;

-- name: enter_by_hand(word)!
-- @batch off
INSERT INTO suite.entries (word) VALUES (:word);

-- name: enter_and_note(word)!
WITH noted AS (INSERT INTO suite.entries (word) VALUES (:word || ' noted') RETURNING word)
INSERT INTO suite.entries (word) SELECT :word FROM noted;

-- name: enter_by_rule(word)!
INSERT INTO suite.ruled (word) VALUES (:word);

-- name: enter_by_call(word) :one
CALL suite.enter(:word, NULL);

-- name: enter_tracked(word, seconds)$
-- @outcome tracked
-- @param seconds float8 = 0
INSERT INTO suite.entries (word) SELECT :word FROM pg_sleep(:seconds) RETURNING word;

-- name: enter_slowly(word, seconds)$
-- @param seconds float8
INSERT INTO suite.entries (word) SELECT :word FROM pg_sleep(:seconds) RETURNING id;

-- name: count_entries(word)$
SELECT count(*) FROM suite.entries WHERE word = :word;

-- name: entry(id)^
-- @param id int8
SELECT id, word, amount, data FROM suite.entries WHERE id = :id;

-- name: entries(word) :many
SELECT id, word FROM suite.entries WHERE word = :word ORDER BY id;

-- name: sneak(word)$
SELECT suite.sneak(:word);

-- name: raise_amount(word, by)<!
-- @retry serialization
-- @param by numeric
UPDATE suite.entries SET amount = amount + :by WHERE word = :word RETURNING amount;

-- name: raise_amount_once(word, by)<!
-- @param by numeric
UPDATE suite.entries SET amount = amount + :by WHERE word = :word RETURNING amount;

-- name: isolation_level$
SELECT current_setting('transaction_isolation');
