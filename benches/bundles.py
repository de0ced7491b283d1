"""Bundles of the benchmark, and what a container made from them must look like from inside."""

from __future__ import annotations

import copy
import json
import os
import platform
import subprocess
from pathlib import Path

PROFILE = Path("/usr/share/containers/seccomp.json")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
TRUE = ["/bin/true"]
SLEEP = ["/bin/sleep", "100000"]

# What some runtimes add unasked: the device rule is that of /dev/net/tun.
UNASKED = {"device.core", "device.console", "allowed.c 10:200 rwm"}
# Prints "key=value" lines; equal lines mean equal work.
FACTS = r"""
echo "hostname=$(hostname)"
echo "pid=$$"
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\t' | sed 's/:/=/'
echo "nofile=$(ulimit -Sn) $(ulimit -Hn)"
echo "oom_score_adj=$(cat /proc/self/oom_score_adj)"
echo "loopback=$(cat /sys/class/net/lo/flags)"
for n in pid net ipc uts mnt; do echo "namespace.$n=$(readlink /proc/self/ns/$n)"; done
for f in $(ls /dev); do echo "device.$f=$(stat -c '%F %t:%T %a' /dev/$f)"; done
while IFS=: read -r n c p; do echo "cgroup.${c:-unified}=$p"; done < /proc/self/cgroup
while read -r a b c root point options rest; do
  echo "mount.$point=$options"
done < /proc/self/mountinfo
for f in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes \
  memory/memory.soft_limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us \
  cpuset/cpuset.cpus cpuset/cpuset.mems pids/pids.max blkio/blkio.throttle.read_bps_device \
  hugetlb/hugetlb.2MB.limit_in_bytes memory.max memory.low memory.swap.max cpu.weight cpu.max \
  cpuset.cpus pids.max; do
  [ -e /sys/fs/cgroup/$f ] && echo "limit.$f=$(cat /sys/fs/cgroup/$f)"
done
[ -e /sys/fs/cgroup/devices ] && while read -r rule; do
  echo "allowed.$rule=yes"
done < /sys/fs/cgroup/devices/devices.list
exit 0
"""


def make_rootfs(path: Path) -> None:
    """A root file system of busybox, with the mount points that the configurations need."""
    for name in ["bin", "proc", "sys", "dev", "etc", *(f"mnt/{i}" for i in range(18))]:
        (path / name).mkdir(parents=True, exist_ok=True)
    busybox = path / "bin/busybox"
    if not busybox.exists():
        busybox.write_bytes(Path("/bin/busybox").read_bytes())
        busybox.chmod(0o755)
    listed = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    for applet in listed.stdout.split():
        link = path / "bin" / applet
        if applet != "busybox" and not link.is_symlink():
            link.symlink_to("busybox")


def base_config(rootfs: Path, directory: Path) -> dict:
    """The configuration of `runc spec`, without a terminal."""
    (directory / "config.json").unlink(missing_ok=True)
    subprocess.run(["runc", "spec", "--bundle", str(directory)], check=True)
    config = json.loads((directory / "config.json").read_text())
    config["process"]["terminal"] = False
    config["root"]["path"] = str(rootfs)
    return config


def with_args(config: dict, args: list[str], cgroup: str) -> dict:
    new = copy.deepcopy(config)
    new["process"]["args"] = args
    new["linux"]["cgroupsPath"] = "/" + cgroup
    return new


def write(directory: Path, config: dict) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=1))
    return directory


def resolved_profile(capabilities: list[str]) -> dict:
    """The default profile of containers-common for this machine and these capabilities."""
    profile = json.loads(PROFILE.read_text())
    arch = ARCHITECTURES[platform.machine()]
    kernel = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])

    def applies(rule: dict) -> bool:
        wanted, unwanted = rule.get("includes") or {}, rule.get("excludes") or {}
        minimum = wanted.get("minKernel")
        return not (
            any(cap not in capabilities for cap in wanted.get("caps") or [])
            or any(cap in capabilities for cap in unwanted.get("caps") or [])
            or (wanted.get("arches") and arch not in wanted["arches"])
            or arch in (unwanted.get("arches") or [])
            or (minimum and kernel < tuple(int(part) for part in minimum.split(".")))
        )

    rules = []
    for rule in filter(applies, profile["syscalls"]):
        new = {"names": rule["names"], "action": rule["action"]}
        if rule.get("args"):
            new["args"] = rule["args"]
        if rule.get("errnoRet") is not None:
            new["errnoRet"] = rule["errnoRet"]
        rules.append(new)
    native = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}[arch]
    subs = [m["subArchitectures"] for m in profile["archMap"] if m["architecture"] == native]
    result = {
        "defaultAction": profile["defaultAction"],
        "architectures": [native, *(subs[0] if subs else [])],
        "syscalls": rules,
    }
    if profile.get("defaultErrnoRet") is not None:
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    return result


def add_seccomp(config: dict) -> None:
    config["linux"]["seccomp"] = resolved_profile(config["process"]["capabilities"]["bounding"])


def add_mounts(config: dict, volumes: Path) -> None:
    """18 more: with those of `runc spec` there are 25."""
    for index in range(13):
        source = volumes / str(index)
        source.mkdir(parents=True, exist_ok=True)
        mode = "ro" if index % 2 else "rw"
        options = ["rbind", mode, "nosuid", "nodev", "rprivate"]
        config["mounts"].append(
            {"destination": f"/mnt/{index}", "type": "bind", "source": str(source), "options": options}
        )
    for index in range(13, 18):
        options = ["nosuid", "nodev", "mode=700", "size=64k"]
        config["mounts"].append(
            {"destination": f"/mnt/{index}", "type": "tmpfs", "source": "tmpfs", "options": options}
        )


def add_limits(config: dict) -> None:
    """Every limit that this host has. None of them holds `/bin/true` back."""
    mib = 1 << 20
    v1 = Path("/sys/fs/cgroup/memory")
    memory = {"limit": 64 * mib, "reservation": 32 * mib}
    if not v1.exists() or (v1 / "memory.memsw.limit_in_bytes").exists():
        memory["swap"] = 64 * mib
    cpus = f"0-{os.cpu_count() - 1}" if os.cpu_count() > 1 else "0"
    resources = config["linux"]["resources"]
    resources["memory"] = memory
    resources["cpu"] = {
        "shares": 512, "quota": 400000, "period": 200000, "cpus": cpus, "mems": "0",
    }
    resources["pids"] = {"limit": 100}
    device = os.stat("/").st_dev
    number = {"major": os.major(device), "minor": os.minor(device)}
    if Path(f"/sys/block/{_disk(number)}").exists():
        resources["blockIO"] = {"throttleReadBpsDevice": [{**number, "rate": 1 << 30}]}
    if Path("/sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes").exists():
        resources["hugepageLimits"] = [{"pageSize": "2MB", "limit": 0}]
    config["process"]["oomScoreAdj"] = 100


def _disk(number: dict) -> str:
    path = Path(f"/sys/dev/block/{number['major']}:{number['minor']}")
    return path.resolve().name if path.exists() else "none"


def variants(base: dict, volumes: Path) -> dict[str, dict]:
    """The configurations that `run` is measured with."""
    names = ["run", "run+seccomp", "run+mounts", "run+limits", "run+all"]
    made = {name: copy.deepcopy(base) for name in names}
    for name in ("run+seccomp", "run+all"):
        add_seccomp(made[name])
    for name in ("run+mounts", "run+all"):
        add_mounts(made[name], volumes)
    for name in ("run+limits", "run+all"):
        add_limits(made[name])
    return made


def facts(output: str, config: dict, cgroup: str) -> dict[str, str]:
    """What a container said about itself, without what may differ among equals."""
    masked = set(config["linux"]["maskedPaths"])
    own = ("ro", "nosuid", "nodev", "noexec")
    found: dict[str, str] = {}
    for line in output.splitlines():
        key, _, value = line.partition("=")
        if key.startswith("namespace."):
            host = os.readlink(f"/proc/self/ns/{key.removeprefix('namespace.')}")
            value = "own" if value != host else "the host's"
        elif key.startswith("cgroup."):
            value = "own" if cgroup in value else value
        elif key.startswith("mount."):
            point = key.removeprefix("mount.")
            # A mask may be writable where nothing can be written to; so may the tmpfs that
            # holds the cgroup mounts.
            if point in masked:
                value = "masked"
            elif point == "/sys/fs/cgroup":
                value = "mounted"
            else:
                value = ",".join(word for word in own if word in value.split(","))
        elif key in UNASKED:
            continue
        found[key] = value
    return found


def missing(reference: dict[str, str], other: dict[str, str]) -> list[str]:
    """What `other` lacks or does differently."""
    return [
        f"{key}: {other.get(key, 'missing')} instead of {value}"
        for key, value in sorted(reference.items())
        if other.get(key) != value
    ]
