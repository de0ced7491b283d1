"""What a container costs through an engine, with each runtime below it.

The engines run in the machine within the machine of tests/clients, whose cgroup counts the CPU time of
all that take part: clients, daemons, shims, runtimes and containers. This file is also the program
that runs in there, and prints its samples.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import engines
import measure
from measure import Refused, Samples

GROUP = "clients"
IMAGE = "localhost/bench:latest"
TRUE, SLEEP = ["/bin/true"], ["/bin/sleep", "100000"]
AT_ONCE = 5
YARD = Path("tests/clients")
# Without systemd and CAP_SYS_RESOURCE; no network is made, which is none of a runtime's business.
FILES = {
    "/etc/containers/containers.conf": """[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "carob"
[engine.runtimes]
carob = ["/usr/local/bin/carob"]
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
""",
    "/etc/containerd/config.toml": 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n',
    "/etc/docker/daemon.json": '{"bridge": "none", "iptables": false, "ip-forward": false}\n',
}
CLIENTS = ("podman", "ctr", "docker")


def measure_clients(bench) -> None:
    """Makes the yard, lets this file run in it, and takes its samples."""
    if bench.only and GROUP not in bench.only:
        return
    bench.results.machine |= engines.available()
    # Its /tmp, and what is bound over it, must not be on the bench's own tmpfs.
    yard = bench.dir / "yard"
    measure.remove_tree(yard)
    (yard / "tmp").mkdir(parents=True)
    cgroup = "carob-bench-clients"
    (yard / "cgroup").write_text(cgroup)
    for name, runtime in bench.runtimes.items():
        shutil.copy(runtime.path, yard / "tmp" / name)
    pack = ["tar", "-C", str(bench.rootfs), "-cf", str(yard / "tmp/rootfs.tar"), "."]
    engines.checked(pack)
    script = [str(YARD / "yard.sh"), str(yard), bench.runtimes["carob"].path]
    with open(yard / "log", "w") as log:
        keeper = subprocess.Popen(script, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        end = time.monotonic() + measure.TIMEOUT_S
        while not (yard / "ready").exists():
            if keeper.poll() is not None or time.monotonic() > end:
                raise Refused(f"{script[0]}: {(yard / 'log').read_text().strip()}")
            time.sleep(0.05)
        for client in CLIENTS:
            if bench.wants(f"{GROUP} {client}"):
                take(bench, yard, client)
    finally:
        end_yard(yard, keeper)
        engines.remove_cgroups(cgroup)
        measure.remove_tree(yard)


def end_yard(yard: Path, keeper: subprocess.Popen) -> None:
    """All processes go with process 1; unshare itself hears no SIGTERM."""
    try:
        os.kill(int((yard / "pid").read_text()), signal.SIGKILL)
    except (OSError, ValueError):
        keeper.kill()
    keeper.wait()


def take(bench, yard: Path, client: str) -> None:
    """The samples of one client."""
    order = {"runtimes": list(bench.runtimes), "seconds": bench.budget_s, "client": client}
    init = (yard / "pid").read_text().strip()
    spaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"]
    argv = ["nsenter", f"--target={init}", *spaces, "--", str((YARD / "enter.sh").resolve())]
    program = ["/usr/bin/python3", "-B", str(Path(__file__).resolve()), json.dumps(order)]
    done = subprocess.run([*argv, *program], capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(f"{client}: {done.stderr.strip()}")
    for row, values in json.loads(done.stdout.splitlines()[-1]).items():
        samples = {name: Samples(one["wall"], one["cpu"]) for name, one in values.items()}
        bench.results.times(f"{client} {row}", samples, GROUP)


class Client:
    """Commands of one engine; inside."""

    def __init__(self, name: str):
        self.name = name
        self.program = shutil.which(name) or name

    def daemon(self, runtimes: list[str]) -> None:
        """Starts it, with the image."""
        argv = {
            "podman": None,
            "ctr": ["containerd"],
            "docker": ["dockerd", *(f"--add-runtime=bench-{one}=/tmp/{one}" for one in runtimes)],
        }[self.name]
        if argv:
            with open(f"/tmp/{self.name}.log", "w") as log:
                subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            end = time.monotonic() + measure.TIMEOUT_S
            while subprocess.run([self.program, "version"], capture_output=True).returncode != 0:
                if time.monotonic() > end:
                    raise SystemExit(f"{argv[0]} does not start: {Path(log.name).read_text()[-500:]}")
                time.sleep(0.1)
        if self.name != "ctr":
            engines.checked([self.program, "import", "/tmp/rootfs.tar", IMAGE])
        if self.name == "podman":
            engines.checked([self.program, "save", "--quiet", "--output", "/tmp/image.tar", IMAGE])
        elif self.name == "ctr":
            engines.checked([self.program, "images", "import", "/tmp/image.tar"])

    def run(self, runtime: str, container: str, detached: bool, args: list[str]) -> list[str]:
        how = "--detach" if detached else "--rm"
        path = f"/tmp/{runtime}"
        words = {
            "podman": ["--runtime", path, "run", how, "--name", container, IMAGE],
            "ctr": ["run", how, "--runc-binary", path, IMAGE, container],
            "docker": [
                "run", how, "--network=none", f"--runtime=bench-{runtime}", "--name", container, IMAGE
            ],
        }[self.name]
        return [self.program, *words, *args]

    def exec(self, runtime: str, container: str) -> list[str]:
        words = {
            "podman": ["--runtime", f"/tmp/{runtime}", "exec", container],
            "ctr": ["task", "exec", "--exec-id", "bench", container],
            "docker": ["exec", container],
        }[self.name]
        return [self.program, *words, *TRUE]


def used_ms() -> float:
    """CPU time of the whole yard so far."""
    v1 = Path("/sys/fs/cgroup/cpuacct/cpuacct.usage")
    if v1.exists():
        return int(v1.read_text()) / 1e6
    words = Path("/sys/fs/cgroup/cpu.stat").read_text().split()
    return int(words[words.index("usage_usec") + 1]) / 1e3


def several(argv: list[str], into: Samples) -> None:
    """Daemons and shims go on for a moment when the client has ended."""
    before, one = used_ms(), Samples()
    for _ in range(AT_ONCE):
        measure.timed(argv, one)
    time.sleep(0.3)
    into.wall += one.wall
    into.cpu.append((used_ms() - before) / AT_ONCE)


def inside(order: dict) -> None:
    for path, text in FILES.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    # See scripts/bench: what crun does not want to see.
    controllers = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    if controllers.exists() and controllers.read_text():
        Path("/tmp/none").write_text("")
        subprocess.run(["mount", "--bind", "/tmp/none", str(controllers)], check=True)
    # dockerd does not start without one of this name.
    if not Path("/usr/local/bin/runc").exists():
        os.symlink("/tmp/runc", "/usr/local/bin/runc")
    client, names = Client(order["client"]), order["runtimes"]
    client.daemon(names)
    rows = {row: {name: Samples() for name in names} for row in ("run", "exec")}
    for name in names:
        measure.timed(client.run(name, f"up-{name}", True, SLEEP), Samples())
    end = time.monotonic() + order["seconds"]
    turn = 0
    while turn < 3 or time.monotonic() < end:
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            several(client.run(name, "once", False, TRUE), rows["run"][name])
            several(client.exec(name, f"up-{name}"), rows["exec"][name])
        turn += 1
    print(json.dumps({row: {n: vars(one) for n, one in all_.items()} for row, all_ in rows.items()}))


if __name__ == "__main__":
    inside(json.loads(sys.argv[1]))
