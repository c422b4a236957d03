-- name: product^
SELECT id, name, price, added FROM products WHERE id = :id;

-- name: articles
SELECT id, code, name, price, added, changed, attributes, sizes, tags, active, released, warranty
  FROM articles
 WHERE id > :after
 ORDER BY id
 LIMIT :count;

-- name: order<!
INSERT INTO orders (product, quantity, note) VALUES (:product, :quantity, :note)
RETURNING id, product, quantity;

-- name: slow^
-- Takes a connection for five milliseconds, but next to no processor: what overload is tried with.
SELECT 1 AS answer, pg_sleep(0.005)::text AS slept;
