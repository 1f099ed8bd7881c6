#!/bin/bash
# Whether this node runs (deploy/compose.ha.yml). A node that has not run for two minutes is ended, so that it is started again: one that was
# cut off from the others pauses, and RabbitMQ 3.10 may hang when it goes on.
set -uo pipefail
since=/tmp/not-running
if rabbitmq-diagnostics -q check_running; then
  rm -f "$since"
  exit 0
fi
[[ -e $since ]] || touch "$since"
if (($(date +%s) - $(stat --format %Y "$since") >= 120)); then
  rm -f "$since"
  # Only the node's own user may end it here; nothing else runs as that user.
  setpriv --reuid=rabbitmq --clear-groups kill -KILL -1
fi
exit 1
