-- name: latest_notes
-- The newest notes first.
-- @param max_rows int4 = 20 minimum=1 maximum=200 -- how many at most
SELECT id, written_at, text
  FROM notes
 ORDER BY id DESC
 LIMIT :max_rows;

-- name: add_note<!
-- Adds a note and returns it.
-- @param text text minLength=1 maxLength=2000
INSERT INTO notes (text)
VALUES (:text)
RETURNING id, written_at, text;

-- name: answering_server^
-- Which server answered, and whether it is a replica.
SELECT host(inet_server_addr()) AS address, pg_is_in_recovery() AS replica;
