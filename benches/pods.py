"""Pods: their start, their memory, what probes cost, and what an idle pod does."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import bundles
import engines
import measure
from measure import Refused, Runtime, Samples

CAROB, FLOOR = "carob", "floor"
GROUP = "pods"
PARENT = "carob-bench-pods"
PROBED = 10
TICKS = os.sysconf("SC_CLK_TCK")
MANIFEST = """apiVersion: v1
kind: Pod
metadata:
  name: {name}
  annotations: {{{annotations}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: "{image}"
    imagePullPolicy: Never
    command: {command}
{more}"""
SLEEP = '["/bin/sleep", "100000"]'
HTTPD = '["/bin/httpd", "-f", "-p", "8080", "-h", "/etc"]'
PROBES = {
    "exec": (SLEEP, 'exec: {command: ["/bin/true"]}'),
    "HTTP": (HTTPD, "httpGet: {port: 8080, path: /hostname}"),
}


class Pods:
    """carob's pods of the benchmark."""

    def __init__(self, bench):
        state, data = bench.dir / "state" / "pods", bench.dir / "pods"
        self.dir = data
        self.image = f"rootfs:{bench.rootfs}"
        self.carob = Runtime("carob", bench.runtimes[CAROB].path, state)
        self.hierarchy = Path("/sys/fs/cgroup") / bench.hierarchies[0]
        data.mkdir(exist_ok=True)

    def call(self, *args: str, **kwargs) -> str:
        return self.carob.call("pod", *args, **kwargs).stdout

    def manifest(self, name: str, image: str, command: str = SLEEP, probe: str = "",
                 period_ms: int = 0) -> Path:
        more = f"    livenessProbe: {{periodSeconds: 1, {probe}}}\n" if probe else ""
        notes = f'carob/probe-periods: "main/liveness={period_ms}ms"' if probe else ""
        path = self.dir / f"{name}-{image.partition(':')[0].replace('/', '-')}.yaml"
        path.write_text(MANIFEST.format(
            name=name, image=image, annotations=notes, command=command, more=more
        ))
        return path

    def run_argv(self, manifest: Path) -> list[str]:
        return self.carob.argv(
            "pod", "run", "--detach", "--data-root", str(self.dir / "data"),
            "--log-root", str(self.dir / "logs"), "--cgroup-parent", f"/{PARENT}", "--network", "none",
            str(manifest),
        )

    def must_run(self, name: str) -> None:
        self.call("wait", name, "--for", "running", "--timeout", "0")

    def names(self) -> list[str]:
        shown = self.call("ps", "-A", "--format", "name").split()
        return [name.removeprefix("pod/") for name in shown]

    def remove(self, names: list[str]) -> None:
        """Removes pods, a few at a time."""
        waiting: list[subprocess.Popen] = []

        def finish(one: subprocess.Popen) -> None:
            if one.wait() != 0:
                raise Refused(f"{' '.join(one.args)}: exit {one.returncode}")

        for name in names:
            # /bin/sleep as process 1 does not hear SIGTERM: that would cost its grace.
            self.call("kill", "--signal", "KILL", name, check=False)
        for name in names:
            self.call("wait", name, "--for", "stopped", "--timeout", "20s", check=False)
            null = subprocess.DEVNULL
            argv = self.carob.argv("pod", "rm", "--force", name)
            waiting.append(subprocess.Popen(argv, stdin=null, stdout=null))
            if len(waiting) >= 4:
                finish(waiting.pop(0))
        for one in waiting:
            finish(one)

    def supervisors(self) -> list[int]:
        root = f"\0{self.carob.root}\0"
        found = engines.pids_of(lambda line: "\0supervise\0" in line and root in line)
        # A probe that has not yet become its program looks like the supervisor it comes from.
        return [pid for pid in found if parent(pid) not in (*found, None)]

    def pauses(self) -> list[int]:
        found = []
        for procs in (self.hierarchy / PARENT).glob("pod*/POD/cgroup.procs"):
            found += [int(pid) for pid in procs.read_text().split()]
        return found

    def clear(self) -> None:
        """Removes all that is there, whatever has happened."""
        if self.carob.root.is_dir():
            self.remove(self.names())
        engines.remove_cgroups(PARENT)
        measure.remove_tree(self.dir)


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def pss_kib(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def wake_ups(pids: list[int]) -> int:
    """How often the threads of processes have given up the processor to wait."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            lines = status.read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_"))
    return total


def cpu_ms(pids: list[int], children_only: bool = False) -> float:
    """CPU time of processes and of the children they have reaped."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # cutime and cstime, in ticks.
        total += 1000 * (int(fields[13]) + int(fields[14])) / TICKS
        if not children_only:
            # What utime and stime are made from, but in nanoseconds.
            for own in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                total += int(own.read_text().split()[0]) / 1e6
    return total


def measure_pods(bench) -> None:
    """All of it, and nothing of it stays."""
    wanted = ["pods", "pods memory", "pods probes"]
    if bench.only and GROUP not in bench.only:
        return
    pods = Pods(bench)
    bench.results.machine |= engines.available()
    try:
        for name, one in zip(wanted, (start_and_exec, memory, probes)):
            if bench.wants(name):
                one(bench, pods)
                pods.remove(pods.names())
    finally:
        pods.clear()


def start_and_exec(bench, pods: Pods) -> None:
    """`pod run -d` beside `podman kube play`, and exec beside what other engines offer."""
    manifest = pods.manifest("one", engines.IMAGE)
    data, state = bench.dir / "engines", bench.dir / "state" / "engines"
    peers = [name for name in ("runc", "crun") if name in bench.runtimes]
    podmans = [
        engines.Podman(name, bench.runtimes[name].path, data / "podman", state / "podman", manifest)
        for name in peers
    ]
    containerd = engines.Containerd(data / "containerd", state / "containerd")
    tasks = [engines.CtrTask(containerd, name, bench.runtimes[name].path) for name in peers]
    try:
        archive = pods.dir / "image.tar"
        podmans[0].load(bench.rootfs)
        podmans[0].save(archive)
        containerd.start()
        containerd.load(archive)
        starts(bench, pods, podmans)
        execs(bench, pods, podmans, tasks)
    finally:
        for one in (*podmans, *tasks):
            one.stop()
        containerd.clear()
        podmans[0].clear()
        measure.remove_tree(data)


def starts(bench, pods: Pods, podmans: list) -> None:
    """Until the container runs; all in turn."""
    floor = bench.floor_argv("run", str(bench.rootfs), "carob-bench-floor", bundles.TRUE)
    argv = pods.run_argv(pods.manifest("one", pods.image))
    samples = {name: Samples() for name in (CAROB, FLOOR, *(one.name for one in podmans))}
    end = time.monotonic() + bench.budget_s
    for turn in range(10 if bench.quick else 60):
        if turn >= 3 and time.monotonic() > end:
            break
        for _ in range(4):
            measure.timed(argv, samples[CAROB])
            pods.must_run("one")
            pods.remove(["one"])
            measure.timed(floor, samples[FLOOR])
        for podman in podmans:
            podman.start(samples[podman.name])
            podman.stop()
    for one in samples.values():
        one.cpu = []  # most of it is not the caller's
    bench.results.times("pod run -d", samples, GROUP)


def execs(bench, pods: Pods, podmans: list, tasks: list) -> None:
    """`/bin/true` executed in a running container, with the CPU time of all that take part."""
    measure.timed(pods.run_argv(pods.manifest("one", pods.image)), Samples())
    ours = pods.carob.argv("pod", "exec", "one", "--", "/bin/true")
    commands = {CAROB: (ours, pods.supervisors())}
    for task in tasks:
        task.start(Samples())
        commands[task.name] = (task.exec, task.others())
    samples = {name: Samples() for name in (CAROB, *(one.name for one in (*podmans, *tasks)))}
    turns, each = (2, 5) if bench.quick else (8, 10)
    for _ in range(turns):
        for name, (argv, others) in commands.items():
            exec_round(argv, others, each, samples[name])
        for podman in podmans:
            # One pod of this name at a time, as they share their storage.
            podman.start(Samples())
            exec_round(podman.exec, podman.others(), each, samples[podman.name])
            podman.stop()
    bench.results.times("exec in a pod", samples, GROUP)


def exec_round(argv: list[str], others: list[int], count: int, into: Samples) -> None:
    """The CPU time of daemons and of what the callers leave behind is shared out evenly."""
    reaper = [os.getppid()]
    before = cpu_ms(others) + cpu_ms(reaper, children_only=True)
    one = Samples()
    for _ in range(count):
        measure.timed(argv, one)
    time.sleep(0.3)
    after = cpu_ms(others) + cpu_ms(reaper, children_only=True)
    into.wall += one.wall
    into.cpu.append(sum(one.cpu) / count + (after - before) / count)


def memory(bench, pods: Pods) -> None:
    """Memory of supervisor and pause as pods become more, and whether starting them slows down."""
    counts, edge = ([1, 50], 10) if bench.quick else ([1, 100, 500], 50)
    total = counts[-1]
    manifests = [pods.manifest(f"many-{index}", pods.image) for index in range(total)]
    samples = Samples()
    for index, manifest in enumerate(manifests):
        measure.timed(pods.run_argv(manifest), samples)
        if index + 1 in counts:
            record_memory(bench, pods, index + 1)
    rate = lambda wall: 1000 * len(wall) / sum(wall)  # noqa: E731
    first, last = rate(samples.wall[:edge]), rate(samples.wall[-edge:])
    results = bench.results
    results.numbers(f"first {edge} of {total} pods", "pods/s", {CAROB: first}, GROUP)
    results.numbers(f"last {edge} of {total} pods", "pods/s", {CAROB: last}, GROUP)
    results.numbers("last pods against first", "ratio", {CAROB: last / first}, GROUP)
    idle(bench, pods, total)


def record_memory(bench, pods: Pods, count: int) -> None:
    time.sleep(0.5)
    supervisors, pauses = pods.supervisors(), pods.pauses()
    if len(supervisors) != count or len(pauses) != count:
        found = f"{len(supervisors)} supervisors and {len(pauses)} pauses"
        raise Refused(f"{found} of {count} pods")
    # The pages of the program are shared with whatever else runs it, as on any machine.
    kib = pss_kib(supervisors + pauses) / count
    bench.results.numbers(f"PSS per pod, {count} pod{'s' * (count > 1)}", "KiB", {CAROB: kib}, GROUP)


def idle(bench, pods: Pods, total: int) -> None:
    window = 6 if bench.quick else 60
    time.sleep(1)
    pids = pods.supervisors() + pods.pauses()
    before, since = wake_ups(pids), time.monotonic()
    time.sleep(window)
    minutes = (time.monotonic() - since) / 60
    value = (wake_ups(pids) - before) / minutes / total
    bench.results.numbers("wake-ups of an idle pod", "per minute", {CAROB: value}, GROUP)


def probes(bench, pods: Pods) -> None:
    """CPU time of a supervisor, with the children it reaps, for each probe of its pod."""
    period_ms, window = (100, 6) if bench.quick else (200, 60)
    for kind, (command, probe) in PROBES.items():
        names = [f"probed-{index}" for index in range(PROBED)]
        for name in names:
            manifest = pods.manifest(name, pods.image, command, probe, period_ms)
            measure.timed(pods.run_argv(manifest), Samples())
        time.sleep(1.5)
        supervisors = pods.supervisors()
        first = [last_pid(pods, name) for name in names]
        before, since = cpu_ms(supervisors), time.monotonic()
        time.sleep(window)
        used, seconds = cpu_ms(supervisors) - before, time.monotonic() - since
        # One process of each probe takes a pid in the container: that of an exec probe, or the
        # one that the server forks. The last is the one that looks.
        made = sum(last_pid(pods, name) for name in names) - sum(first) - PROBED
        due = PROBED * seconds * 1000 / period_ms
        if not 0.8 * due < made < 1.3 * due:
            raise Refused(f"{made} {kind} probes instead of {due:.0f}")
        found = {CAROB: used / made}
        if kind == "exec":
            found[FLOOR] = floor_probe(bench, pods, names[0])
        bench.results.numbers(f"CPU time of an {kind} probe", "ms", found, GROUP)
        pods.remove(names)


def last_pid(pods: Pods, name: str) -> int:
    return int(pods.call("exec", name, "--", "/bin/sh", "-c", "echo $$"))


def floor_probe(bench, pods: Pods, name: str) -> float:
    count = 200
    pid = str(pods.carob.pid(f"default_{name}_main_0"))
    samples = Samples()
    for _ in range(3):
        measure.timed([bench.floor, "probes", str(count), pid, "--", *bundles.TRUE], samples)
    return sorted(samples.cpu)[1] / count
