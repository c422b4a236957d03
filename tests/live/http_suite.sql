-- What the queries in http_queries/ work on; loaded into the shop's database by a superuser.

SET client_min_messages = warning;
DROP SCHEMA IF EXISTS suite CASCADE;
CREATE SCHEMA suite;
CREATE TYPE suite.mood AS ENUM ('sad', 'ok', 'happy');
CREATE SEQUENCE suite.numbers;
CREATE TABLE suite.owners (id int PRIMARY KEY);
CREATE TABLE suite.things (
    name  text NOT NULL PRIMARY KEY,
    size  int NOT NULL DEFAULT 1 CONSTRAINT size_is_positive CHECK (size > 0),
    owner int REFERENCES suite.owners
);
CREATE TABLE suite.locked (name text);

CREATE FUNCTION suite.refuse(message text, state text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', message USING ERRCODE = state, DETAIL = 'canary-detail', HINT = 'canary-hint';
END $$;

CREATE FUNCTION suite.broken() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT canary_column FROM suite.gone_since);
END $$;

CREATE PROCEDURE suite.double(x int, INOUT doubled int) LANGUAGE plpgsql AS $$
BEGIN
    doubled := 2 * x;
END $$;

GRANT USAGE ON SCHEMA suite TO gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON suite.things, suite.owners TO gateway;
GRANT USAGE ON SEQUENCE suite.numbers TO gateway;
