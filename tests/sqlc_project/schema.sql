CREATE TABLE owner (
    id bigserial PRIMARY KEY,
    name text NOT NULL,
    email text UNIQUE,
    settings jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE boat (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    length numeric,
    sold bool,
    tags text[] NOT NULL DEFAULT '{}',
    built_at timestamptz NOT NULL DEFAULT now(),
    owner_id bigint REFERENCES owner,
    note text
);

CREATE TABLE visit (
    boat_id bigint NOT NULL REFERENCES boat,
    pier int NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);

CREATE MATERIALIZED VIEW boats_of_owner AS SELECT owner_id, count(*) AS boats FROM boat GROUP BY owner_id;
CREATE UNIQUE INDEX boats_of_owner_key ON boats_of_owner (owner_id);

CREATE FUNCTION moor(boat_id bigint, pier int) RETURNS bigint LANGUAGE sql AS
    'INSERT INTO visit (boat_id, pier) VALUES ($1, $2) RETURNING boat_id';
