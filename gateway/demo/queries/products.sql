-- Products: what there is, what it costs, how many are left.

-- name: product(sku)^
-- One product by its article number; its size is a composite value, an object in JSON.
-- @cache 30s
-- @coalesce
SELECT id, sku, name, price, stock, tags, size, lead_time, on_sale, attributes
  FROM products
 WHERE sku = :sku;

-- name: products_tagged(tags, in_stock)
-- Products with all of these tags.
-- @tool Products by their tags
-- @param tags text[]
-- @param in_stock bool = true -- only what can be delivered
SELECT id, sku, name, tags, stock
  FROM products
 WHERE tags @> :tags
   AND (stock > 0 OR NOT :in_stock)
 ORDER BY id;

-- name: products_priced(price, not_above)
-- Products within a range of prices, as PostgreSQL writes ranges: [10,20) is 10.00 to 19.99.
-- @max_rows 400
-- @param price numrange = "[0,)"
-- @param not_above numeric = 1000 minimum=0 -- a limit on top
SELECT id, sku, name, price
  FROM products
 WHERE price <@ :price
   AND price <= :not_above
 ORDER BY price, id;

-- name: products_on_sale(during)
-- Products on sale at any time of this range.
-- @param during tstzrange
SELECT id, sku, name, on_sale
  FROM products
 WHERE on_sale && :during
 ORDER BY id;

-- name: products_within(lead_time) :many
-- Products that can be here in time: "3 days", "P3D".
-- @param lead_time interval = "2 days"
SELECT id, sku, name, lead_time
  FROM products
 WHERE lead_time <= :lead_time
 ORDER BY lead_time, id;

-- name: thumbnail(product_id) :one
-- The product's picture, its bytes as hexadecimal digits.
SELECT thumbnail
  FROM products
 WHERE id = :product_id;

-- name: set_product_details(product_id, thumbnail, attributes, size) :execrows
-- Replace picture, attributes and size; null takes one away.
-- @param thumbnail bytea = null
-- @param attributes json = {}
-- @param size dimensions = null
UPDATE products
   SET thumbnail = :thumbnail, attributes = :attributes, size = :size
 WHERE id = :product_id;

-- name: reserve_product_id$
-- The key of a product yet to be written: reads like a read, but moves a sequence.
-- @access write
SELECT nextval(pg_get_serial_sequence('products', 'id'));
