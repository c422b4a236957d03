-- Reviews: what customers think of products.

-- name: reviews_of_product(product_id, since, max_rows)
-- Reviews of a product, newest first.
-- @param since timestamptz = "2025-01-01T00:00:00Z"
-- @param max_rows int4 = 20 minimum=1 maximum=200
SELECT r.id, c.name AS customer, r.stars, r.body, r.written_at
  FROM reviews AS r
  JOIN customers AS c ON c.id = r.customer_id
 WHERE r.product_id = :product_id
   AND r.written_at >= :since
 ORDER BY r.written_at DESC, r.id
 LIMIT :max_rows;

-- name: write_review(product_id, customer_id, stars, body) :one
-- One review a customer and product; a second one is a conflict (409).
-- @param stars int2 enum=[1, 2, 3, 4, 5]
-- @param body text = null maxLength=2000
INSERT INTO reviews (product_id, customer_id, stars, body)
VALUES (:product_id, :customer_id, :stars, :body)
RETURNING id, stars, written_at;

-- name: remove_review(id)!
-- Take a review away.
DELETE FROM reviews
 WHERE id = :id;
