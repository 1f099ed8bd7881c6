#!/bin/bash
# The role with which standbys copy and follow the primary (deploy/compose.ha.yml). Run once, on an empty data folder.
set -euo pipefail
psql -v ON_ERROR_STOP=1 -v password="$(cat /secrets/replicator.password)" -U "${POSTGRES_USER:-postgres}" -d postgres <<'SQL'
CREATE ROLE replicator LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 8 PASSWORD :'password';
SQL
echo 'host replication replicator all scram-sha-256' >>"$PGDATA/pg_hba.conf"
