#!/usr/bin/env bash
# create + start + delete with the systemd driver, in a machine that systemd has booted:
#
#   systemd.sh ROUNDS CAROB
#
# Runtimes in turn, so that what slows the machine slows all; prints medians and their ratios. Called by
# `scripts/bench --systemd` in an emulated machine, where times of their own mean nothing.
set -euo pipefail

rounds=$1
declare -A runtime=([carob]=$2 [crun]=/usr/bin/crun [runc]=/usr/sbin/runc)
names=(carob crun runc)
work=$(mktemp -d)
mkdir "$work/bundle"
jq --arg rootfs "$PWD/bundles/busybox/rootfs" '.root.path = $rootfs | .process.args = ["/bin/true"]
  | .process.terminal = false' bundles/busybox/config.json >"$work/config.json"

# One container's life; what it took in microseconds goes to the file of the runtime.
life() {
  local name=$1 id=bench-$1-$2 root=$work/state-$1 start end
  local call=("${runtime[$name]}" --root "$root" --systemd-cgroup)
  jq --arg path "system.slice:bench:$id" '.linux.cgroupsPath = $path' "$work/config.json" >"$work/bundle/config.json"
  start=${EPOCHREALTIME/./}
  "${call[@]}" create --bundle "$work/bundle" "$id" >/dev/null </dev/null
  "${call[@]}" start "$id"
  until [[ $("${call[@]}" state "$id" | jq -r .status) == stopped ]]; do :; done
  "${call[@]}" delete "$id"
  end=${EPOCHREALTIME/./}
  echo $((end - start)) >>"$work/$name"
}

for ((round = -2; round < rounds; round++)); do
  for name in "${names[@]}"; do
    life "$name" "$round"
  done
  # The first rounds fill caches.
  ((round >= 0)) || rm -f "$work"/{carob,crun,runc}
done

median() {
  sort -n "$work/$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}
reference=$(median carob)
echo "create + start + state + delete with --systemd-cgroup, $rounds rounds in turn, $(uname -r), systemd" \
  "$(systemctl --version | awk 'NR == 1 { print $2 }')"
for name in "${names[@]}"; do
  value=$(median "$name")
  printf '%-6s median %6d ms, %.2f of carob\n' "$name" $((value / 1000)) "$(jq -n "$value / $reference")"
done
rm -rf "$work"
