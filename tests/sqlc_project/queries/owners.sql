/* name: GetOwner :one */
SELECT * FROM owner WHERE id = $1;

/* name: FindOwner :one */
SELECT * FROM owner WHERE email = @email;

/* name: OwnersWithBoats :many */
SELECT sqlc.embed(owner), sqlc.embed(boat)
FROM owner JOIN boat ON boat.owner_id = owner.id
WHERE owner.name = $1 AND boat.sold IS NOT DISTINCT FROM $2;

/* name: BoatsOfEmail :many */
SELECT b.id FROM boat b WHERE b.owner_id IN (SELECT o.id FROM owner o WHERE o.email = $1) LIMIT $2;

/* name: CreateOwner :one */
INSERT INTO owner (name, email, settings) VALUES ($1, sqlc.narg(email), $2) RETURNING id;

/* name: CopyOwner :exec */
INSERT INTO owner (name, email) SELECT name, $1 FROM owner WHERE owner.id = $2;

/* name: SetSettings :exec */
UPDATE owner SET settings = $2 WHERE id = $1;
