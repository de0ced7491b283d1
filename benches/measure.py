"""Runs runtimes and takes times. Timing of whole commands is left to hyperfine."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT_S = 60
LEAST_ROUNDS = 2


class Refused(Exception):
    """A runtime failed, or did less than the others: there is nothing to compare."""


@dataclass
class Runtime:
    """A runtime with its own state root."""

    name: str
    path: str
    root: Path
    ids: set[str] = field(default_factory=set)

    def argv(self, *args: str) -> list[str]:
        return [self.path, "--root", str(self.root), *args]

    def call(self, *args: str, check: bool = True, **kwargs) -> subprocess.CompletedProcess:
        done = subprocess.run(
            self.argv(*args), capture_output=True, text=True, timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL, **kwargs,
        )
        if check and done.returncode != 0:
            raise Refused(f"{self.name} {' '.join(args)}: exit {done.returncode}: {done.stderr.strip()}")
        return done

    def detached(self, *args: str) -> None:
        """A verb that leaves a container behind, which must not hold a pipe of ours."""
        with open(self.root.parent / f"{self.name}.log", "w+") as log:
            done = subprocess.run(
                self.argv(*args), stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=TIMEOUT_S
            )
            if done.returncode != 0:
                log.seek(0)
                raise Refused(f"{self.name} {args[0]}: exit {done.returncode}: {log.read().strip()}")

    def pid(self, container: str) -> int:
        return json.loads(self.call("state", container).stdout)["pid"]

    def version(self) -> str:
        done = subprocess.run([self.path, "--version"], capture_output=True, text=True)
        return (done.stdout.splitlines() or ["unknown"])[0]

    def clear(self) -> None:
        """Removes every container that is still there."""
        if not self.root.is_dir():
            return
        for entry in sorted(self.root.iterdir()):
            if entry.is_dir() and not entry.name.startswith((".", "cache:")):
                self.call("delete", "--force", entry.name, check=False)


@dataclass
class Samples:
    """Milliseconds of each run, and of CPU time."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def hyperfine(command: list[str], runs: int, prepare: str | None, scratch: Path) -> Samples:
    """One round of one command."""
    export = scratch / "hyperfine.json"
    argv = ["hyperfine", "-N", "--style", "none", "--runs", str(runs), "--export-json", str(export)]
    argv += ["--warmup", "0" if prepare else "1"]
    if prepare:
        argv += ["--prepare", prepare]
    quoted = " ".join(_quote(word) for word in command)
    done = subprocess.run([*argv, quoted], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Refused(f"{quoted}: {done.stderr.strip() or done.stdout.strip()}")
    result = json.loads(export.read_text())["results"][0]
    return Samples(
        [1000 * second for second in result["times"]],
        [1000 * (result["user"] + result["system"])],
    )


def _quote(word: str) -> str:
    return word if re.fullmatch(r"[\w./:=+@,-]+", word) else "'" + word.replace("'", r"'\''") + "'"


def rounds(
    commands: dict[str, list[str]],
    count: int,
    runs: dict[str, int],
    scratch: Path,
    budget_s: float,
    failed: list[str],
    prepare: dict[str, str] | None = None,
    after_failure=None,
) -> dict[str, Samples]:
    """Rounds in rotation, so that a noisy minute of the machine hits everybody; fewer of them
    where the machine is too slow or too busy for the budget."""
    samples = {name: Samples() for name in commands}
    names = list(commands)
    end = time.monotonic() + budget_s
    for turn in range(count):
        if turn >= LEAST_ROUNDS and time.monotonic() > end:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            before = (prepare or {}).get(name)
            try:
                one = hyperfine(commands[name], runs[name], before, scratch)
            except Refused as refused:
                # Once may be bad luck, and is in the report; twice is a reason to stop.
                failed.append(str(refused))
                if after_failure:
                    after_failure(name)
                one = hyperfine(commands[name], runs[name], before, scratch)
            samples[name].wall += one.wall
            samples[name].cpu += one.cpu
    return samples


def timed(argv: list[str], into: Samples) -> None:
    """Runs a verb that hyperfine cannot repeat, and takes its time from spawn to exit."""
    null = os.open("/dev/null", os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1)]
    start = time.perf_counter_ns()
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    into.wall.append((time.perf_counter_ns() - start) / 1e6)
    into.cpu.append(1000 * (usage.ru_utime + usage.ru_stime))
    os.close(null)
    if os.waitstatus_to_exitcode(status) != 0:
        raise Refused(f"{' '.join(argv)}: exit {os.waitstatus_to_exitcode(status)}")


VERBS = ["create", "start", "state", "kill", "delete"]


def verbs(runtime: Runtime, bundle: Path, container: str, into: dict[str, Samples]) -> None:
    """One life of a container, verb by verb."""
    argv = {
        "create": runtime.argv("create", "--bundle", str(bundle), container),
        "start": runtime.argv("start", container),
        "state": runtime.argv("state", container),
        "kill": runtime.argv("kill", container, "KILL"),
        "delete": runtime.argv("delete", container),
    }
    timed(argv["create"], into["create"])
    init = os.pidfd_open(runtime.pid(container))
    timed(argv["start"], into["start"])
    timed(argv["state"], into["state"])
    timed(argv["kill"], into["kill"])
    wait_for_exit(init)
    timed(argv["delete"], into["delete"])


def wait_for_exit(pidfd: int) -> None:
    """Waits until a process has gone, and closes its descriptor."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    gone = poll.poll(1000 * TIMEOUT_S)
    os.close(pidfd)
    if not gone:
        raise Refused(f"a killed container is still there after {TIMEOUT_S} s")


def system_calls(command: list[str], scratch: Path) -> int:
    """System calls of a command and all its children, the smallest of three counts."""
    counts = []
    for _ in range(3):
        out = scratch / "strace"
        argv = ["strace", "-f", "-c", "-o", str(out), *command]
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise Refused(f"{' '.join(argv)}: {done.stderr.strip()}")
        total = [line.split() for line in out.read_text().splitlines() if line.endswith(" total")]
        # % time, seconds, usecs/call, calls, errors (left out when there are none), "total"
        counts.append(int(total[0][3]))
    return min(counts)


def peak_rss(floor: str, command: list[str]) -> int:
    """Peak RSS of the largest process of a command, KiB; the smallest of five."""
    found = []
    for _ in range(5):
        done = subprocess.run(
            [floor, "rss", *command], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            raise Refused(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
        found.append(int(done.stdout.split()[-1]))
    return min(found)


def smallest_limit(runtime: Runtime, write_bundle, attempts: int) -> int:
    """The smallest memory limit, KiB, under which `/bin/true` runs every time."""

    def runs(pages: int) -> bool:
        bundle = write_bundle(pages * 4096)
        for attempt in range(attempts):
            container = f"limit-{attempt}"
            try:
                done = runtime.call("run", "--bundle", str(bundle), container, check=False)
            except subprocess.TimeoutExpired:
                done = None
            if done is None or done.returncode != 0:
                runtime.call("delete", "--force", container, check=False)
                return False
        return True

    high = 16
    while not runs(high):
        high *= 2
        if high > 1 << 16:
            raise Refused(f"{runtime.name}: /bin/true does not run under {high * 4} KiB")
    low = high // 2 if high > 16 else 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if runs(middle) else (middle, high)
    return high * 4


def parallel(runtime: Runtime, bundles: list[Path], runs: int) -> float:
    """Containers per second of one loop for each bundle, all at the same time."""
    script = 'i=0; while [ $i -lt "$1" ]; do "$2" --root "$3" run --bundle "$4" "$5" || exit 1; i=$((i+1)); done'
    start = time.perf_counter()
    loops = [
        subprocess.Popen(
            ["/bin/sh", "-c", script, "loop", str(runs), runtime.path, str(runtime.root), str(bundle),
             f"loop-{index}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for index, bundle in enumerate(bundles)
    ]
    errors = [loop.communicate()[1] for loop in loops]
    elapsed = time.perf_counter() - start
    if any(loop.returncode for loop in loops):
        raise Refused(f"{runtime.name} run in {len(bundles)} loops: {''.join(errors).strip()}")
    return len(bundles) * runs / elapsed


def many(runtime: Runtime, bundle_of, total: int, edge: int) -> dict[str, float]:
    """`total` containers alive: start rates of the first and last `edge`, `list`, `delete -f`."""
    started: list[subprocess.Popen] = []

    def start(index: int) -> list[str]:
        return runtime.argv("run", "--detach", "--bundle", str(bundle_of(index)), f"many-{index}")

    def rate(indices: range) -> float:
        samples = Samples()
        for index in indices:
            timed(start(index), samples)
        return 1000 * len(samples.wall) / sum(samples.wall)

    def in_background(commands: list[list[str]]) -> None:
        for command in commands:
            null = subprocess.DEVNULL
            started.append(subprocess.Popen(command, stdin=null, stdout=null, stderr=null))
            if len(started) >= 4:
                finish(started.pop(0))
        while started:
            finish(started.pop(0))

    def finish(one: subprocess.Popen) -> None:
        if one.wait() != 0:
            raise Refused(f"{' '.join(one.args)}: exit {one.returncode}")

    for index in range(total):
        bundle_of(index)
    first = rate(range(edge))
    in_background([start(index) for index in range(edge, total - edge)])
    last = rate(range(total - edge, total))
    listed = Samples()
    for _ in range(5):
        timed(runtime.argv("list"), listed)
    shown = runtime.call("list", "-q").stdout.split()
    if len([name for name in shown if name.startswith("many-")]) != total:
        raise Refused(f"{runtime.name} list shows {len(shown)} of {total} containers")
    deleted = Samples()
    for index in range(min(edge, 50)):
        timed(runtime.argv("delete", "--force", f"many-{index}"), deleted)
    in_background([
        runtime.argv("delete", "--force", f"many-{index}") for index in range(min(edge, 50), total)
    ])
    return {
        "first": first, "last": last, "list": sorted(listed.wall)[2],
        "delete": sorted(deleted.wall)[len(deleted.wall) // 2],
    }


def output(command: list[str]) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Refused(f"{command[0]}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def stop_on_signals() -> None:
    """SIGTERM unwinds as Ctrl-C does, through the clean-up."""

    def stop(number, _frame):
        raise KeyboardInterrupt(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, stop)
