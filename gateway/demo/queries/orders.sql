-- Orders: reading, placing, changing, cancelling.

-- name: orders_of_customer(customer_id, max_rows)
-- The customer's orders, newest first.
-- @tool Orders of a customer
-- @timeout 2s
-- @param max_rows int4 = 50 minimum=1 maximum=500 -- how many rows at most
-- @role sales, support
SELECT id, placed_at, total
  FROM orders
 WHERE customer_id = :customer_id
 ORDER BY placed_at DESC
 LIMIT :max_rows;

-- name: orders_between(since, until, statuses)
-- Orders of a stretch of time, a page at a time, the oldest first unless another order is chosen.
-- @param since timestamptz
-- @param until timestamptz
-- @param statuses order_status[] = ["open", "paid", "shipped", "delivered"]
-- @sort oldest: placed_at | newest: placed_at DESC | largest: total DESC
-- @page key(placed_at, id) size=100 max=1000
SELECT id, customer_id, status, placed_at, shipped_on, total
  FROM orders
 WHERE placed_at >= :since
   AND placed_at < :until
   AND status = ANY (:statuses);

-- name: order_total(order_id)$
-- What an order comes to; null where there is none.
SELECT total
  FROM orders
 WHERE id = :order_id;

-- name: create_order(customer_id, note) :one
-- An empty order, to be filled with add_line.
-- @tool Begin an order
-- @outcome tracked
-- @param note text = null maxLength=500
INSERT INTO orders (customer_id, note)
VALUES (:customer_id, :note)
RETURNING id, customer_id, status, placed_at, total;

-- name: add_line(order_id, product_id, quantity) :one
-- Put a product into an open order: takes it from the stock, adds it to the total.
-- Null where there is no such product or open order; 422 when the stock does not suffice.
-- @tool Add a product to an order
-- @retry serialization
-- @batch on
-- @param order_id int4
-- @param product_id int4
-- @param quantity int4 = 1 minimum=1 maximum=100
WITH wanted AS (
    SELECT orders.id AS order_id, products.id AS product_id, products.price
      FROM orders, products
     WHERE orders.id = :order_id AND orders.status = 'open'
       AND products.id = :product_id
), taken AS (
    UPDATE products
       SET stock = stock - :quantity
      FROM wanted
     WHERE products.id = wanted.product_id
    RETURNING stock
), billed AS (
    UPDATE orders
       SET total = total + :quantity * wanted.price
      FROM wanted
     WHERE orders.id = wanted.order_id
    RETURNING total
)
INSERT INTO order_lines (order_id, product_id, quantity, price)
SELECT order_id, product_id, :quantity, price
  FROM wanted
RETURNING order_id, product_id, quantity, price,
          (SELECT total FROM billed) AS order_total, (SELECT stock FROM taken) AS left_in_stock;

-- name: mark_shipped(order_ids, shipped_on)!
-- Note that paid orders have left the house.
-- @param order_ids int4[]
-- @param shipped_on date
-- @batch off
UPDATE orders
   SET status = 'shipped', shipped_on = :shipped_on
 WHERE id = ANY (:order_ids) AND status = 'paid';

-- name: cancel_order(order_id) :one
-- Cancel an order that has not left yet; the procedure puts its goods back and says what to refund.
CALL cancel_order(:order_id, NULL, NULL);
