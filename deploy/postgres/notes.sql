-- A table for the sample queries in deploy/queries.

\set ON_ERROR_STOP on

CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    written_at timestamptz NOT NULL DEFAULT now(),
    text text NOT NULL CHECK (text <> '')
);

GRANT SELECT, INSERT ON notes TO gateway;
