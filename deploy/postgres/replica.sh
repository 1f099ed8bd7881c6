#!/bin/bash
# Starts one of several servers (deploy/compose.ha.yml). One whose folder is empty copies the primary, whichever that is. Only the server named
# postgres makes a new database, and only if no other one answers.
set -euo pipefail
all=postgres,postgres-2,postgres-3
bin=$(dirname "$(command -v pg_basebackup || ls /usr/lib/postgresql/*/bin/pg_basebackup)")
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
PGPASSWORD=$(cat /secrets/replicator.password)
export PGPASSWORD

# A standby follows whichever server is the primary, now and later.
copy() {
  as_postgres "$bin/pg_basebackup" --pgdata="$PGDATA" --write-recovery-conf --checkpoint=fast \
    --dbname="host=$all user=replicator application_name=$HOSTNAME target_session_attrs=primary connect_timeout=5"
}

if [[ ! -s $PGDATA/PG_VERSION ]]; then
  mkdir -p "$PGDATA"
  chown postgres "$PGDATA"
  chmod 700 "$PGDATA"
  until copy; do
    if [[ $HOSTNAME == postgres ]] && ! "$bin/pg_isready" --quiet --host=postgres-2,postgres-3; then break; fi
    sleep 2
  done
fi
unset PGPASSWORD
POSTGRES_PASSWORD=$(cat /secrets/password)
export POSTGRES_PASSWORD
exec docker-entrypoint.sh "$@" -c synchronous_commit=on -c max_connections=200 -c password_encryption=scram-sha-256 \
  -c wal_keep_size=256MB -c wal_sender_timeout=5s -c wal_receiver_timeout=5s -c wal_retrieve_retry_interval=200ms
