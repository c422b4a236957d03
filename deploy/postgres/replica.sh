#!/bin/bash
# Runs a streaming replica: copies the primary when there is no data yet, then becomes the server.
# Arguments are the server's. Started again by compose until the primary answers.
set -euo pipefail

: "${PGDATA:?}" "${PRIMARY_HOST:?}" "${REPLICA_NAME:?}"
socket_directory=${SOCKET_DIRECTORY:-/var/run/postgresql}
password_file=${REPLICATION_PASSWORD_FILE:-/run/secrets/replication_password}

# libpq takes no password file that others may read, and a secret has the mode it has on the host. Written at every
# start, so that a new password needs a restart only. A colon and a backslash are escaped as the format asks.
umask 077
passfile=$socket_directory/replication.pgpass
printf '*:*:*:replicator:%s\n' "$(sed 's/[\\:]/\\&/g' "$password_file")" >"$passfile"

if [[ ! -s $PGDATA/PG_VERSION ]]; then
    primary="host=$PRIMARY_HOST port=${PRIMARY_PORT:-5432} user=replicator passfile=$passfile"
    primary+=" application_name=$REPLICA_NAME"
    # Copied beside and renamed: a copy that broke off is never taken for a server's data.
    copy=$PGDATA.copy
    rm -rf -- "$copy"
    mkdir -p -- "$(dirname -- "$PGDATA")"
    # The slot of an earlier copy may have lost its WAL, and could not be streamed from. Mostly there is none to drop.
    pg_receivewal --dbname="$primary" --slot="$REPLICA_NAME" --drop-slot 2>/dev/null || true
    pg_receivewal --dbname="$primary" --slot="$REPLICA_NAME" --create-slot --if-not-exists
    pg_basebackup --dbname="$primary" --pgdata="$copy" --slot="$REPLICA_NAME" --wal-method=stream --checkpoint=fast \
        --write-recovery-conf
    mv -T -- "$copy" "$PGDATA"
fi

exec postgres "$@"
