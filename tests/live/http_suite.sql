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

CREATE TABLE suite.entries (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    word   text NOT NULL CONSTRAINT word_is_good CHECK (word <> 'bad'),
    amount numeric,
    data   jsonb,
    parent bigint CONSTRAINT parent_is_there REFERENCES suite.entries DEFERRABLE INITIALLY DEFERRED
);
CREATE UNIQUE INDEX word_is_unique ON suite.entries (word) WHERE word LIKE 'unique%';
CREATE TABLE suite.ruled (word text);
CREATE RULE twice AS ON INSERT TO suite.ruled DO ALSO INSERT INTO suite.entries (word) VALUES (new.word || ' too');
CREATE FUNCTION suite.sneak(word text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO suite.entries (word) VALUES (word);
    RETURN word;
END $$;
CREATE PROCEDURE suite.enter(word text, INOUT id bigint) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO suite.entries (word) VALUES (word) RETURNING entries.id INTO id;
END $$;

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
GRANT SELECT, INSERT, UPDATE, DELETE ON suite.things, suite.owners, suite.entries, suite.ruled TO gateway;
GRANT USAGE ON SEQUENCE suite.numbers TO gateway;
