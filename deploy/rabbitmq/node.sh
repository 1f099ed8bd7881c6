#!/bin/bash
# Starts one of several nodes (deploy/compose.ha.yml). They know each other by the secret that they share.
set -euo pipefail
install -o rabbitmq -m 400 /secrets/cookie /var/lib/rabbitmq/.erlang.cookie
exec docker-entrypoint.sh "${@:-rabbitmq-server}"
