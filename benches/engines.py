"""Podman and containerd, each with a state of its own, to compare pods and probes with."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import measure
from measure import Refused

PARENT = "libpod_parent"
IMAGE = "localhost/carob-bench:latest"
# Limits that a root without CAP_SYS_RESOURCE can set; no systemd is needed.
CONTAINERS_CONF = f"""[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
infra_image = "{IMAGE}"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""
CONTAINERD_CONF = """version = 2
root = "{data}"
state = "{state}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{socket}"
"""


def checked(argv: list[str], env: dict | None = None, **kwargs) -> str:
    """Runs a command that leaves nothing behind that could hold its output."""
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=measure.TIMEOUT_S, env=env, **kwargs
    )
    if done.returncode != 0:
        raise Refused(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class Podman:
    """`podman kube play` over one runtime."""

    def __init__(self, runtime: str, path: str, data: Path, state: Path, manifest: Path):
        self.name = f"podman, {runtime}"
        self.manifest = manifest
        self.conf = data / "containers.conf"
        self.conf.parent.mkdir(parents=True, exist_ok=True)
        self.conf.write_text(CONTAINERS_CONF)
        self.data = data
        self.command = [
            "/usr/bin/podman", "--root", str(data / "root"), "--runroot", str(state),
            "--tmpdir", str(state / "tmp"), "--runtime", path,
        ]
        os.environ["CONTAINERS_CONF"] = str(self.conf)
        # Pods are made with no network but their own loopback, as carob's are here.
        self.play = [*self.command, "kube", "play", "--network", "none", str(manifest)]
        self.exec = [*self.command, "exec", "one-main", "/bin/true"]

    def load(self, rootfs: Path) -> None:
        """Makes the image. It has a command because it also serves as the infra image."""
        with subprocess.Popen(["tar", "-C", str(rootfs), "-c", "."], stdout=subprocess.PIPE) as tar:
            change = 'CMD ["/bin/sleep","100000"]'
            checked([*self.command, "import", "-q", "--change", change, "-", IMAGE], stdin=tar.stdout)

    def save(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        checked([*self.command, "save", "-q", "-o", str(path), IMAGE])

    def start(self, into: measure.Samples) -> None:
        """The pod; podman says that it runs, or the time is not worth anything."""
        measure.timed(self.play, into)
        shown = checked([*self.command, "ps", "--format", "{{.State}}", "--filter", "name=one-main"])
        if not shown.startswith("Up"):
            raise Refused(f"{self.name}: the container is {shown.strip() or 'not there'}")

    def stop(self) -> None:
        remove_no_cgroups(PARENT)
        # A conmon that has not quite ended keeps podman 4.3 from removing the pod's cgroup.
        for _ in range(20):
            argv = [*self.command, "pod", "rm", "--all", "--force", "--time", "0"]
            if subprocess.run(argv, capture_output=True, timeout=measure.TIMEOUT_S).returncode == 0:
                return
            time.sleep(0.1)

    def others(self) -> list[int]:
        """Processes that work for `exec` and stay: none; what it leaves our reaper waits for."""
        return []

    def clear(self) -> None:
        self.stop()
        # Podman's own containers and storage mounts are in this namespace; the directory is ours.
        subprocess.run(["umount", "-q", "-R", str(self.data / "root/overlay")], capture_output=True)
        measure.remove_tree(self.data)
        # It was there; podman refuses to do anything without it.
        os.environ.pop("CONTAINERS_CONF", None)
        remove_no_cgroups(PARENT)
        remove_cgroups(PARENT)


class Containerd:
    """A daemon for `ctr task exec`."""

    def __init__(self, data: Path, state: Path):
        self.data, self.state = data, state
        self.socket = state / "sock"
        self.daemon: subprocess.Popen | None = None

    def start(self) -> None:
        for directory in (self.data, self.state):
            directory.mkdir(parents=True, exist_ok=True)
        conf = self.data / "config.toml"
        conf.write_text(CONTAINERD_CONF.format(
            data=self.data / "root", state=self.state / "state", socket=self.socket
        ))
        with open(self.data / "log", "w") as log:
            self.daemon = subprocess.Popen(
                ["/usr/bin/containerd", "--config", str(conf)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        end = time.monotonic() + 20
        while subprocess.run(self.ctr("version"), capture_output=True).returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > end:
                raise Refused(f"containerd does not start; see {self.data / 'log'}")
            time.sleep(0.1)

    def ctr(self, *args: str) -> list[str]:
        return ["/usr/bin/ctr", "--address", str(self.socket), *args]

    def load(self, archive: Path) -> None:
        checked(self.ctr("images", "import", str(archive)))

    def clear(self) -> None:
        if self.daemon is None:
            return
        if self.daemon.poll() is None:
            self.daemon.terminate()
            self.daemon.wait(timeout=measure.TIMEOUT_S)
        measure.remove_tree(self.data)
        remove_cgroups("default")


class CtrTask:
    """A container of containerd over one runtime."""

    def __init__(self, containerd: Containerd, runtime: str, path: str):
        self.name = f"ctr, {runtime}"
        self.containerd = containerd
        self.task = f"task-{runtime}"
        root = containerd.state / runtime
        self.run = containerd.ctr(
            "run", "--detach", "--runc-binary", path, "--runc-root", str(root), IMAGE, self.task,
            "/bin/sleep", "100000",
        )
        self.exec = containerd.ctr("task", "exec", "--exec-id", "probe", self.task, "/bin/true")

    def start(self, into: measure.Samples) -> None:
        measure.timed(self.run, into)

    def others(self) -> list[int]:
        """The daemon and the container's shim, which call the runtime."""
        shims = pids_of(lambda line: "-shim-" in line and f"\0{self.task}\0" in line)
        return [self.containerd.daemon.pid, *shims]

    def stop(self) -> None:
        for argv in (
            self.containerd.ctr("task", "rm", "--force", self.task),
            self.containerd.ctr("containers", "rm", self.task),
        ):
            subprocess.run(argv, capture_output=True, timeout=measure.TIMEOUT_S)


def pids_of(wanted) -> list[int]:
    """Processes by their command line, whose arguments are separated by NUL."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if wanted(line):
            found.append(int(entry.name))
    return found


def remove_cgroups(name: str) -> None:
    """Removes an empty cgroup with all below it; one that others use stays."""
    for hierarchy in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]:
        if not (hierarchy / name).is_dir():
            continue
        for directory, _, _ in os.walk(hierarchy / name, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                pass


def remove_no_cgroups(name: str) -> None:
    """Where a v1 hierarchy is not mounted, podman 4.3 makes plain directories, and then fails to
    remove them."""
    root = Path("/sys/fs/cgroup")
    for hierarchy in root.iterdir():
        plain = hierarchy / name
        if plain.is_dir() and plain.stat().st_dev == root.stat().st_dev:
            measure.remove_tree(plain)
            try:
                hierarchy.rmdir()
            except OSError:
                pass  # others have made the same there


def available() -> dict[str, str]:
    """Versions of the engines that are there."""
    found = {}
    for name, argv in (
        ("podman", ["podman", "--version"]), ("containerd", ["containerd", "--version"]),
        ("docker", ["docker", "--version"]),
    ):
        if shutil.which(name):
            found[name] = checked(argv).split("\n")[0]
    return found
