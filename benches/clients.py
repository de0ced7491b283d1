"""What a container costs through an engine, with each runtime below it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import engines
import measure
from measure import Refused, Samples

GROUP = "clients"
TRUE = "/bin/true"
SLEEP = ["/bin/sleep", "100000"]


class Ctr:
    """containerd's own command line."""

    name = "ctr"

    def __init__(self, bench, data: Path, state: Path):
        self.runtimes = bench.runtimes
        self.containerd = engines.Containerd(data, state)

    def start(self, archive: Path) -> None:
        self.containerd.start()
        self.containerd.load(archive)

    def run(self, runtime: str, name: str, detached: bool, args: list[str]) -> list[str]:
        how = "--detach" if detached else "--rm"
        root = self.containerd.state / runtime
        return self.containerd.ctr(
            "run", how, "--runc-binary", self.runtimes[runtime].path, "--runc-root", str(root),
            engines.IMAGE, name, *args,
        )

    def exec(self, name: str) -> list[str]:
        return self.containerd.ctr("task", "exec", "--exec-id", "bench", name, TRUE)

    def remove(self, name: str) -> None:
        for argv in (("task", "rm", "--force", name), ("containers", "rm", name)):
            subprocess.run(self.containerd.ctr(*argv), capture_output=True, timeout=measure.TIMEOUT_S)

    def clear(self) -> None:
        self.containerd.clear()


class Podman:
    """Podman, whose containers have conmon above them."""

    name = "podman"

    def __init__(self, bench, data: Path, state: Path):
        unused = data / "no-manifest"
        self.of = {
            name: engines.Podman(name, runtime.path, data, state, unused)
            for name, runtime in bench.runtimes.items()
        }
        self.any = next(iter(self.of.values()))
        self.rootfs = bench.rootfs

    def start(self, archive: Path) -> None:
        self.any.load(self.rootfs)
        self.any.save(archive)

    def run(self, runtime: str, name: str, detached: bool, args: list[str]) -> list[str]:
        how = "--detach" if detached else "--rm"
        return [
            *self.of[runtime].command, "run", how, "--network", "none", "--name", name,
            engines.IMAGE, *args,
        ]

    def exec(self, name: str) -> list[str]:
        return [*self.any.command, "exec", name, TRUE]

    def remove(self, name: str) -> None:
        argv = [*self.any.command, "rm", "--force", "--time", "0", name]
        subprocess.run(argv, capture_output=True, timeout=measure.TIMEOUT_S)

    def clear(self) -> None:
        self.any.clear()


class Docker:
    """dockerd without a network of its own."""

    name = "docker"

    def __init__(self, bench, data: Path, state: Path):
        self.data, self.state = data, state
        self.command = ["/usr/bin/docker", "--host", f"unix://{state}/sock"]
        self.runtimes = bench.runtimes
        self.daemon: subprocess.Popen | None = None

    def start(self, archive: Path) -> None:
        for directory in (self.data, self.state):
            directory.mkdir(parents=True, exist_ok=True)
        runtimes = [
            # runc is there by itself, and its name is taken.
            f"--add-runtime=bench-{name}={runtime.path}" for name, runtime in self.runtimes.items()
        ]
        with open(self.data / "log", "w") as log:
            self.daemon = subprocess.Popen(
                [
                    "/usr/sbin/dockerd", "--data-root", str(self.data / "root"), "--exec-root",
                    str(self.state / "exec"), "--pidfile", str(self.state / "pid"), "--host",
                    f"unix://{self.state}/sock", "--bridge=none", "--iptables=false",
                    "--ip-forward=false", *runtimes,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        end = time.monotonic() + 60
        while subprocess.run([*self.command, "version"], capture_output=True).returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > end:
                raise Refused(f"dockerd does not start; see {self.data / 'log'}")
            time.sleep(0.2)
        engines.checked([*self.command, "load", "--quiet", "--input", str(archive)])

    def run(self, runtime: str, name: str, detached: bool, args: list[str]) -> list[str]:
        how = "--detach" if detached else "--rm"
        return [
            *self.command, "run", how, "--runtime", f"bench-{runtime}", "--network", "none",
            "--name", name, engines.IMAGE, *args,
        ]

    def exec(self, name: str) -> list[str]:
        return [*self.command, "exec", name, TRUE]

    def remove(self, name: str) -> None:
        argv = [*self.command, "rm", "--force", name]
        subprocess.run(argv, capture_output=True, timeout=measure.TIMEOUT_S)

    def clear(self) -> None:
        if self.daemon is None:
            return
        if self.daemon.poll() is None:
            self.daemon.terminate()
            self.daemon.wait(timeout=measure.TIMEOUT_S)
        subprocess.run(["umount", "-q", "-R", str(self.data / "root")], capture_output=True)
        measure.remove_tree(self.data)
        engines.remove_cgroups("docker")


def measure_clients(bench) -> None:
    """`run` and `exec` of /bin/true through each engine, with every runtime in turn."""
    if bench.only and GROUP not in bench.only:
        return
    bench.results.machine |= engines.available()
    # Podman takes no runroot of more than 50 characters.
    data, state = bench.dir / "clients", bench.dir / "state"
    archive = bench.dir / "clients-image.tar"
    clients = [one(bench, data / one.name, state / one.name) for one in (Podman, Ctr, Docker)]
    try:
        for client in clients:
            client.start(archive)
            if bench.wants(f"clients {client.name}"):
                one_client(bench, client)
    finally:
        for client in clients:
            client.clear()
        measure.remove_tree(data)
        archive.unlink(missing_ok=True)


def one_client(bench, client) -> None:
    names = list(bench.runtimes)
    runs, execs = ({name: Samples() for name in names} for _ in range(2))
    try:
        for name in names:
            measure.timed(client.run(name, f"up-{name}", True, SLEEP), Samples())
        end = time.monotonic() + bench.budget_s
        for turn in range(10 if bench.quick else 60):
            if turn >= 3 and time.monotonic() > end:
                break
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                measure.timed(client.run(name, "once", False, [TRUE]), runs[name])
                measure.timed(client.exec(f"up-{name}"), execs[name])
    finally:
        for name in names:
            client.remove(f"up-{name}")
    for row, samples in (("run", runs), ("exec", execs)):
        for one in samples.values():
            one.cpu = []  # most of it is the daemons'
        bench.results.times(f"{client.name} {row}", samples, GROUP)
