#!/bin/sh
# Runs a command as a process of the yard: enter.sh COMMAND..., called by nsenter in its namespaces.
for tasks in /sys/fs/cgroup/*/tasks /sys/fs/cgroup/unified/cgroup.procs /sys/fs/cgroup/init/cgroup.procs; do
  [ ! -e "$tasks" ] || echo 0 >"$tasks"
done
exec "$@"
