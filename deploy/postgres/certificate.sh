#!/bin/bash
# Takes the server's certificate from the container's secrets, because PostgreSQL reads a key only from a file of its own account.
# Run at each start, and after the certificate was renewed: docker compose exec postgres bash /certificate.sh reload
set -euo pipefail
install -o postgres -m 600 /secrets/server.key /certificate/server.key.next
install -m 644 /secrets/server.pem /certificate/server.pem.next
mv /certificate/server.key.next /certificate/server.key
mv /certificate/server.pem.next /certificate/server.pem
if [[ ${1:-} == reload ]]; then
  setpriv --reuid=postgres --regid=postgres --init-groups psql -q -U postgres -d postgres -c 'select pg_reload_conf()'
fi
