#!/usr/bin/env bash
# Makes a machine within the machine and stays as its process 1, until it is killed:
#
#   yard.sh DIR RUNTIME
#
# Its own processes, mounts, network, host name and cgroups; /etc, /run, /tmp and where engines keep
# their data are its own, too, and RUNTIME is its /usr/local/bin/carob. So engines run in it with
# the paths and the configuration of a real machine, and all that they leave goes with process 1.
# DIR/tmp is its /tmp; DIR/cgroup names its cgroup; DIR/ready appears when it is ready.
set -euo pipefail

dir=$1
runtime=$2
name=$(<"$dir/cgroup")

# The hierarchies of this machine: mount point, type and options of each.
hierarchies() {
  awk '{ for (i = 7; $i != "-"; i++); print $5, $(i + 1), $(i + 3) }' /proc/self/mountinfo |
    awk '$2 == "cgroup" || $2 == "cgroup2" { sub(/^r[wo],?/, "", $3); print }'
}

if [[ ${3-} != inside ]]; then
  while read -r point type options; do
    own=$point/$name
    mkdir -p "$own"
    if [[ -e $own/cpuset.cpus && $type == cgroup ]]; then
      # A new cpuset on v1 has none, and takes no process.
      cat "$point/cpuset.cpus" >"$own/cpuset.cpus"
      cat "$point/cpuset.mems" >"$own/cpuset.mems"
    fi
    echo 0 >"$own/cgroup.procs"
  done < <(hierarchies)
  exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child=KILL \
    "$0" "$dir" "$runtime" inside
fi

hostname yard
ip link set lo up
found=$(hierarchies)
mkdir -p "$dir"/{tmp,etc,work,bin}
: >"$dir/bin/carob"
mount --bind "$runtime" "$dir/bin/carob"
mount -t overlay -o "lowerdir=/etc,upperdir=$dir/etc,workdir=$dir/work" etc /etc
mount --rbind "$dir/bin" /usr/local/bin
# Whoever falls back to another runtime must be noticed.
for other in /usr/sbin/runc /usr/bin/crun; do
  [[ ! -e $other ]] || mount --bind /dev/null "$other"
done
# Still the number that others see.
read -r pid _ </proc/self/stat
echo "$pid" >"$dir/pid"
mount -t proc proc /proc
mount -t sysfs sys /sys
if [[ $found == *' cgroup '* ]]; then
  mount -t tmpfs cgroup /sys/fs/cgroup
  while read -r point type options; do
    mkdir "$point"
    mount -t "$type" ${options:+-o "$options"} cgroup "$point"
  done < <(grep -v '^/sys/fs/cgroup ' <<<"$found")
else
  mount -t cgroup2 cgroup /sys/fs/cgroup
  # A cgroup with processes gives no controllers to those below it.
  mkdir /sys/fs/cgroup/init
  echo 1 >/sys/fs/cgroup/init/cgroup.procs
  sed 's/^\| / +/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
fi
for own in /run /dev/shm /var/lib/containerd /var/lib/containers /var/lib/docker /var/lib/cni \
  /var/lib/kubelet /var/log /var/tmp; do
  mkdir -p "$own"
  mount -t tmpfs own "$own"
done
mkdir -p /run/lock
# DIR itself may be below what is covered now.
cd "$dir"
mkfifo forever
mount --bind tmp /tmp
: >ready
# bash reaps whoever is left without a parent while it reads; nobody writes.
read -r _ <>forever
