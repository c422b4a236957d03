-- name: LongestBoats :many
WITH long AS (SELECT id, length, sold FROM boat WHERE length > $1)
SELECT id, length FROM long WHERE sold = $2 ORDER BY length DESC LIMIT $3;

-- name: AverageLength :one
SELECT avg(length)::numeric AS length FROM boat WHERE coalesce(length, 0) > $1;
