#!/bin/bash
# Whether this node runs (deploy/compose.ha.yml). A node that has not run for two minutes is ended, so that it is started again: one that was
# cut off from the others pauses, and RabbitMQ 3.10 may hang when it goes on.
set -uo pipefail
since=/tmp/not-running
# Only the node's own user may end what runs as that user. Of a node that hangs, the question gets no answer, and docker would end this check
# before it counts.
as_rabbitmq() { HOME=/var/lib/rabbitmq setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups "$@"; }
if as_rabbitmq timeout --kill-after=2 20 rabbitmq-diagnostics -q check_running; then
  rm -f "$since"
  exit 0
fi
[[ -e $since ]] || touch "$since"
if (($(date +%s) - $(stat --format %Y "$since") >= 120)); then
  rm -f "$since"
  # Nothing else runs as that user. What waits for the node may have been stopped with it.
  as_rabbitmq kill -KILL -1
  kill -CONT -1
fi
exit 1
