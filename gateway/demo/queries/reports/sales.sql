-- Reports: the folder's name comes before the query's, as in reports.daily_totals.

-- name: daily_totals(since, until)
-- Orders and turnover of each day, the last one included.
-- @tool Turnover of each day
-- @group read
-- @timeout 10s
-- @cache 1m
-- @coalesce
-- @max_rows 400
-- @param since date = "2025-06-01"
-- @param until date = "2025-06-07"
SELECT placed_at::date AS day, count(*) AS orders, sum(total) AS turnover
  FROM orders
 WHERE placed_at >= :since
   AND placed_at < :until + 1
   AND status <> 'cancelled'
 GROUP BY day
 ORDER BY day;

-- name: best_customers(country, max_rows)
-- Who bought most.
-- @group read
-- @timeout 10s
-- @param country text = null pattern="^[A-Z]{2}$" -- null: everywhere
-- @param max_rows int4 = 10 minimum=1 maximum=100
SELECT c.id, c.name, c.country, sum(o.total) AS turnover
  FROM customers AS c
  JOIN orders AS o ON o.customer_id = c.id AND o.status <> 'cancelled'
 WHERE :country IS NULL OR c.country = :country
 GROUP BY c.id
 ORDER BY turnover DESC, c.id
 LIMIT :max_rows;

-- name: turnover(since)$
-- The whole turnover since a day.
-- @deprecated use reports.daily_totals
-- @param since date = "2025-01-01"
SELECT sum(total)
  FROM orders
 WHERE placed_at >= :since;
