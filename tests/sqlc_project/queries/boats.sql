-- A table of the test data, which belongs to no query.
CREATE TEMPORARY TABLE scratch (id bigint);

-- name: GetBoat :one
SELECT * FROM boat WHERE id = $1;

-- name: ListBoats :many
-- The boats of at least this length.
-- @length in metres
SELECT id, name FROM boat WHERE length > $1 ORDER BY id LIMIT $2 OFFSET $3;

-- name: BoatsBetween :many
SELECT id FROM boat WHERE length > $1 AND length < $2 ORDER BY length;

-- name: BoatsBuilt :many
SELECT id FROM boat WHERE built_at BETWEEN $1 AND $2;

-- name: CreateBoat :one
INSERT INTO boat (id, name, length) VALUES ($1, $2, $3) RETURNING *;

-- name: RenameBoat :exec
UPDATE boat SET name = coalesce(sqlc.narg('new_name'), name) WHERE id = $1;

-- name: UpdateBoat :execrows
UPDATE boat SET name = $2, length = $3, sold = coalesce($4, sold) WHERE id = $1;

-- name: PlaceBoat :execresult
UPDATE boat SET (name, note) = ($1, $2) WHERE id = $3;

-- name: DeleteBoat :exec
DELETE FROM boat WHERE id = $1 AND owner_id = $2;

-- name: UpsertBoat :one
INSERT INTO boat (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = $3 RETURNING id;

-- name: BoatsByIds :many
SELECT id, name FROM boat WHERE id IN (sqlc.slice('ids')) ORDER BY id;

-- name: BoatsByTags :many
SELECT id FROM boat WHERE tags && $1;

-- name: BoatsTagged :many
SELECT id FROM boat WHERE $1 = ANY(tags);

-- name: BoatsAny :many
SELECT id FROM boat WHERE id = ANY($1::bigint[]);

-- name: BoatsLike :many
SELECT id FROM boat WHERE name ILIKE $1 OR note LIKE $2;

-- name: BoatsCalled :many
SELECT id FROM boat WHERE lower(name) = $1;

-- name: BoatsOn :many
SELECT id FROM boat WHERE built_at::date = $1;

-- name: BoatsIn :many
SELECT id FROM boat WHERE id IN ($1, $2);

-- name: BoatsFound :many
SELECT id FROM boat WHERE to_tsvector('simple', name) @@ to_tsquery('simple', sqlc.arg(q)::text);

-- name: BoatsMaybeSold :many
SELECT id FROM boat WHERE (name = $1 OR $1 IS NULL) AND sold = $2;

-- name: MoorBoat :one
-- @access write
SELECT moor(boat_id => $1, pier => $2) AS boat_id;

-- name: AddBoats :copyfrom
INSERT INTO boat (id, name) VALUES ($1, $2);

-- name: DeleteBoats :batchexec
DELETE FROM boat WHERE id = $1;

-- name: EmptyVisits :exec
TRUNCATE visit;

-- name: RefreshBoatsOfOwner :exec
REFRESH MATERIALIZED VIEW CONCURRENTLY boats_of_owner;
