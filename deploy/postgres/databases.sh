#!/bin/bash
# A database and a role for each service; no role can do anything in another's database. Run once, on an empty data folder.
set -euo pipefail
for service in calllog custody consular; do
  psql -v ON_ERROR_STOP=1 -v service="$service" -v password="$(cat "/secrets/$service.password")" \
    -U "${POSTGRES_USER:-postgres}" -d postgres <<'SQL'
CREATE ROLE :"service" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 20 PASSWORD :'password';
CREATE DATABASE :"service" OWNER :"service" ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
SQL
done
psql -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d postgres -c 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC'
