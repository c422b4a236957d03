-- What is asked for: small rows by key, mixed rows in ranges, a table to write to. Run by psql before everything.
-- Times have whole milliseconds, amounts two places: every contender can say them exactly.

CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL, price numeric(10,2) NOT NULL, added timestamptz NOT NULL);

INSERT INTO products
SELECT n, 'product ' || n, n * 0.37, timestamptz '2026-01-01 00:00:00Z' + n * interval '1 minute'
  FROM generate_series(1, 10000) n;

CREATE TABLE articles (
    id int8 PRIMARY KEY, code uuid NOT NULL, name text NOT NULL, price numeric(12,2) NOT NULL,
    added timestamptz NOT NULL, changed timestamptz, attributes jsonb NOT NULL, sizes int4[] NOT NULL,
    tags text[] NOT NULL, active bool NOT NULL, released date NOT NULL, warranty interval NOT NULL);

INSERT INTO articles
SELECT n, md5(n::text)::uuid, 'article "' || n || '" of the ' || repeat('long ', n % 5) || 'list', n * 1.37,
       timestamptz '2026-01-01 00:00:00Z' + n * interval '61.007 seconds',
       CASE WHEN n % 7 > 0 THEN timestamptz '2026-06-01 00:00:00Z' + n * interval '0.257 seconds' END,
       jsonb_build_object('colour', 'blue', 'weight', n % 100, 'parts', jsonb_build_array(n, n + 1, 'x')),
       ARRAY[n % 40, n % 41, n % 42], ARRAY['new', 'tag ' || n % 9], n % 3 > 0, date '2026-01-01' + n % 365,
       n % 30 * interval '1 day 01:02:03'
  FROM generate_series(1, 20000) n;

CREATE TABLE orders (
    id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, product int NOT NULL, quantity int NOT NULL, note text NOT NULL,
    placed timestamptz NOT NULL DEFAULT now());

VACUUM ANALYZE products, articles, orders;
