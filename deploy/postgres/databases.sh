#!/bin/bash
# For each service a database, a role that owns its tables and makes them, and a role that serves from them; no role can do anything in
# another's database. Run once, on an empty data folder.
set -euo pipefail
for service in calllog custody consular; do
  psql -v ON_ERROR_STOP=1 -v connections="${CONNECTIONS_OF_A_SERVICE:-20}" -v service="$service" -v password="$(cat "/secrets/$service.password")" \
    -v owner="${service}_owner" -v owner_password="$(cat "/secrets/${service}_owner.password")" \
    -U "${POSTGRES_USER:-postgres}" -d postgres <<'SQL'
CREATE ROLE :"service" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT :connections PASSWORD :'password';
CREATE ROLE :"owner" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 3 PASSWORD :'owner_password';
CREATE DATABASE :"service" OWNER :"owner" ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"service" TO :"service";
SQL
done
psql -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d postgres -c 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC'
