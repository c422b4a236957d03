-- The roles of replication and of the gateway. Run once by the image's psql, when the primary's volume is empty.
-- The passwords are read here, from the secrets' files, so that they stand in no process list and no environment.

\set ON_ERROR_STOP on
\set replication_password `cat /run/secrets/replication_password`
\set gateway_password `cat /run/secrets/gateway_password`

CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replication_password';

-- pg_monitor lets the gateway see a replica's receiver, and so its timeline.
CREATE ROLE gateway LOGIN PASSWORD :'gateway_password' IN ROLE pg_monitor;
