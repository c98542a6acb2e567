#!/usr/bin/env bash
# enter.sh COMMAND...: runs it as the first process of a private machine, with mounts, processes, network, cgroups and
# host name of its own. All of it is gone when that process is. NODE is the folder of what it writes.
#
# Not a container of somebody's runtime: containerd and kubelet run in it, and nothing of theirs (mounts, rules of the
# firewall, interfaces, processes) must reach the machine that runs the tests.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
mkdir -p "$NODE/run"

# of runs that were killed
for stale in /sys/fs/cgroup/*/sekuire-e2e-*; do
  [ ! -d "$stale" ] || [ -d "/proc/${stale##*-}" ] || find "$stale" -depth -type d -exec rmdir {} + 2>/dev/null || true
done
for controller in /sys/fs/cgroup/*/; do
  controller=${controller%/}
  [ -w "$controller/cgroup.procs" ] || continue
  group=$controller/sekuire-e2e-$$
  mkdir -p "$group"
  if [ -e "$controller/cpuset.cpus" ]; then
    cat "$controller/cpuset.cpus" >"$group/cpuset.cpus"
    cat "$controller/cpuset.mems" >"$group/cpuset.mems"
  fi
  echo $$ >"$group/cgroup.procs"
done
exec unshare --mount --net --pid --ipc --uts --cgroup --fork --kill-child --propagation private "$here/inside.sh" "$@"
