-- Customers: how to find, add and change them.

-- name: customer(id)^
-- One customer; null where there is none.
SELECT id, external_id, name, email, country, phone, status, newsletter, preferences, created_at
  FROM customers
 WHERE id = :id;

-- name: customer_by_external_id(external_id)^
-- One customer by the id another system knows them by.
SELECT id, external_id, name, email
  FROM customers
 WHERE external_id = :external_id;

-- name: customers_by_external_id(external_ids)
-- The same for many at once.
-- @param external_ids uuid[] -- unknown ones are left out
SELECT id, external_id, name, email
  FROM customers
 WHERE external_id = ANY (:external_ids)
 ORDER BY id;

-- name: find_customers(name, country, newsletter, max_rows)
-- Search by any mix of these; what is null does not matter.
-- @tool Find customers
-- @param name text = null -- a part of the name
-- @param country text = null pattern="^[A-Z]{2}$" -- ISO 3166 code
-- @param newsletter bool = null -- whether they want the newsletter
-- @param max_rows int4 = 20 minimum=1 maximum=500
SELECT id, name, country, newsletter
  FROM customers
 WHERE (:name IS NULL OR name ILIKE '%' || :name || '%')
   AND (:country IS NULL OR country = :country)
   AND (:newsletter IS NULL OR newsletter = :newsletter)
 ORDER BY id
 LIMIT :max_rows;

-- name: customers_preferring(wanted, max_rows)
-- Customers whose preferences contain this object: {"language": "fr", "topics": ["tools"]}.
-- @param wanted jsonb
-- @param max_rows int4 = 20 minimum=1 maximum=500
SELECT id, name, preferences
  FROM customers
 WHERE preferences @> :wanted
 ORDER BY id
 LIMIT :max_rows;

-- name: register_customer(name, email, country, phone, preferences)<!
-- A new customer. An address that is taken is a conflict (409).
-- @param name text minLength=1 maxLength=200
-- @param email text maxLength=254 pattern="^[^@\\s]+@[^@\\s]+$"
-- @param country text = "DE" pattern="^[A-Z]{2}$"
-- @param phone text = null
-- @param preferences jsonb = {"language": "de"}
INSERT INTO customers (name, email, country, phone, preferences)
VALUES (:name, :email, :country, :phone, :preferences)
RETURNING id, external_id, name, status, created_at;

-- name: set_customer_status(id, status)!
-- Change what a customer may do.
UPDATE customers
   SET status = :status
 WHERE id = :id;
