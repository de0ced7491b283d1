"""The benchmark: carob beside other runtimes and the floor. Started by scripts/bench."""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import sys
import time
from pathlib import Path

import bundles
import clients
import images
import measure
import pods
import report
from measure import Refused, Runtime, Samples

CAROB, FLOOR = "carob", "floor"


class Bench:
    """What all measurements share."""

    def __init__(self, options: argparse.Namespace):
        self.dir = Path(os.environ["CAROB_BENCH_DIR"])
        self.floor = str(self.dir / "floor")
        self.quick = options.quick
        self.only = options.only
        # For each table row; it holds the whole to 2 and to 15 minutes on a busy machine.
        self.budget_s = 6 if options.quick else 40
        state = self.dir / "state"
        paths = {CAROB: os.environ["CAROB_BENCH_CAROB"]}
        paths |= {name: shutil.which(name) or name for name in ("crun", "runc")}
        for peer in options.peer:
            name, _, path = peer.partition("=")
            if not path or name in (*paths, FLOOR):
                raise SystemExit(f"--peer {peer}: give NAME=PATH with a name of its own")
            paths[name] = path
        self.runtimes = {name: Runtime(name, path, state / name) for name, path in paths.items()}
        for runtime in self.runtimes.values():
            runtime.root.mkdir()
        self.rootfs = self.dir / "rootfs"
        bundles.make_rootfs(self.rootfs)
        (self.dir / "bundles").mkdir(exist_ok=True)
        base = bundles.base_config(self.rootfs, self.dir)
        self.variants = bundles.variants(base, self.dir / "volumes")
        self.results = report.Results(self.quick)
        self.hierarchies = hierarchies()

    def wants(self, name: str) -> bool:
        chosen = not self.only or any(word in name.split() for word in self.only)
        if chosen:
            print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        return chosen

    def forget_run(self, name: str) -> None:
        """Removes what a failed `run` has left."""
        if name in self.runtimes:
            self.runtimes[name].call("delete", "--force", "run", check=False)

    def bundle(self, runtime: str, name: str, config: dict, args: list[str]) -> Path:
        """Writes a bundle; the cgroup has the runtime's name and the bundle's."""
        cgroup = f"carob-bench-{runtime}-{name}"
        path = self.dir / "bundles" / f"{runtime}-{name}"
        return bundles.write(path, bundles.with_args(config, args, cgroup))

    def floor_argv(self, verb: str, what: str, cgroup: str, args: list[str]) -> list[str]:
        cpus = "0" if os.cpu_count() == 1 else f"0-{os.cpu_count() - 1}"
        return [self.floor, verb, what, cgroup, cpus, "0", *self.hierarchies, "--", *args]


def hierarchies() -> list[str]:
    """Cgroup hierarchies as directories of /sys/fs/cgroup, `.` for a pure v2 host."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point, kind = line.split()[4], line.split(" - ")[1].split()[0]
        if kind in ("cgroup", "cgroup2") and point.startswith("/sys/fs/cgroup"):
            found.append(os.path.relpath(point, "/sys/fs/cgroup"))
    return found


def same_work(bench: Bench) -> None:
    """Refuses to go on unless every runtime makes the same container as runc."""
    script = ["/bin/sh", "-c", bundles.FACTS]
    counts = {}
    for variant, config in bench.variants.items():
        seen: dict[str, dict[str, str]] = {}
        for runtime in bench.runtimes.values():
            bundle = bench.bundle(runtime.name, "facts", config, script)
            output = runtime.call("run", "--bundle", str(bundle), "facts").stdout
            seen[runtime.name] = bundles.facts(output, config, f"carob-bench-{runtime.name}-facts")
        if variant == "run":
            done = measure.output(
                bench.floor_argv("run", str(bench.rootfs), "carob-bench-floor-facts", script)
            )
            seen[FLOOR] = bundles.facts(done, config, "carob-bench-floor-facts")
        counts[variant] = len(seen["runc"])
        for name, facts in seen.items():
            lacks = bundles.missing(seen["runc"], facts)
            if lacks:
                raise Refused(f"{variant}: {name} did not do what runc did:\n  " + "\n  ".join(lacks))
    bench.results.checks = counts


def measure_run(bench: Bench) -> None:
    """`run` of /bin/true: create, start, wait, delete."""
    turns, runs = (3, 10) if bench.quick else (12, 25)
    drop = "sh -c 'echo 3 > /proc/sys/vm/drop_caches'"
    cases = [(name, name, "warm") for name in bench.variants]
    cases.append(("run+seccomp, compiled anew", "run+seccomp", "no cache"))
    if os.access("/proc/sys/vm/drop_caches", os.W_OK):
        cases.append(("run, file cache cold", "run", "cold"))
    for row, variant, caches in cases:
        if not bench.wants(row):
            continue
        commands, prepare = {}, {}
        for runtime in bench.runtimes.values():
            bundle = bench.bundle(runtime.name, "run", bench.variants[variant], bundles.TRUE)
            commands[runtime.name] = runtime.argv("run", "--bundle", str(bundle), "run")
            if caches == "no cache":
                prepare[runtime.name] = f"rm -rf /run/carob.cache {runtime.root}/.cache"
        if variant == "run":
            floor = bench.floor_argv("run", str(bench.rootfs), "carob-bench-floor", bundles.TRUE)
            commands[FLOOR] = floor
        count, each = turns, runs
        if caches == "cold":
            prepare = {name: drop for name in commands}
            count, each = (2, 3) if bench.quick else (5, 5)
        per = {name: each for name in commands}
        bench.results.times(row, measure.rounds(
            commands, count, per, bench.dir, bench.budget_s, bench.results.failed, prepare,
            bench.forget_run,
        ))


def measure_verbs(bench: Bench) -> None:
    """create, start, state, kill and delete, each by itself."""
    if not bench.wants("verbs"):
        return
    samples = {name: {verb: Samples() for verb in measure.VERBS} for name in bench.runtimes}
    config = bench.variants["run"]
    names = list(bench.runtimes)
    end = time.monotonic() + bench.budget_s
    for turn in range(12 if bench.quick else 100):
        if turn >= measure.LEAST_ROUNDS and time.monotonic() > end:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            bundle = bench.bundle(name, "verbs", config, bundles.SLEEP)
            measure.verbs(bench.runtimes[name], bundle, "verbs", samples[name])
    for verb in measure.VERBS:
        bench.results.times(verb, {name: samples[name][verb] for name in names})


def measure_exec(bench: Bench) -> None:
    """`exec /bin/true` in a running container; also its memory and system calls."""
    wanted = [name for name in ("exec", "trace", "rss") if not bench.only or name in bench.only]
    if not wanted:
        return
    config = bench.variants["run"]
    for runtime in bench.runtimes.values():
        bundle = bench.bundle(runtime.name, "exec", config, bundles.SLEEP)
        runtime.detached("run", "--detach", "--bundle", str(bundle), "exec")
    commands = {
        name: runtime.argv(*exec_args(bench, bundles.TRUE))
        for name, runtime in bench.runtimes.items()
    }
    pid = str(bench.runtimes[CAROB].pid("exec"))
    cgroup = f"carob-bench-{CAROB}-exec"
    commands[FLOOR] = bench.floor_argv("exec", pid, cgroup, bundles.TRUE)
    same_exec(bench, pid, cgroup)
    if bench.wants("exec"):
        turns, runs = (3, 10) if bench.quick else (12, 25)
        per = {name: runs for name in commands}
        bench.results.times("exec", measure.rounds(
            commands, turns, per, bench.dir, bench.budget_s, bench.results.failed
        ))
    counts(bench, "exec", commands)
    for runtime in bench.runtimes.values():
        runtime.call("delete", "--force", "exec")


def exec_args(bench: Bench, args: list[str]) -> list[str]:
    """`exec` as containerd calls it, with the whole process: given a bare command, crun leaves out
    noNewPrivileges and rlimits."""
    process = {**bench.variants["run"]["process"], "args": args}
    path = bench.dir / "bundles" / f"process-{Path(args[0]).name}.json"
    path.write_text(json.dumps(process))
    return ["exec", "--process", str(path), "exec"]


def same_exec(bench: Bench, pid: str, cgroup: str) -> None:
    script = ["/bin/sh", "-c", bundles.FACTS.replace('echo "pid=$$"', "")]
    seen = {
        name: bundles.facts(
            runtime.call(*exec_args(bench, script)).stdout,
            bench.variants["run"], f"carob-bench-{name}-exec",
        )
        for name, runtime in bench.runtimes.items()
    }
    done = measure.output(bench.floor_argv("exec", pid, cgroup, script))
    seen[FLOOR] = bundles.facts(done, bench.variants["run"], cgroup)
    bench.results.checks["exec"] = len(seen["runc"])
    for name, facts in seen.items():
        lacks = bundles.missing(seen["runc"], facts)
        if lacks:
            raise Refused(f"exec: {name} did not do what runc did:\n  " + "\n  ".join(lacks))


def counts(bench: Bench, verb: str, commands: dict[str, list[str]]) -> None:
    """System calls and peak RSS of a verb."""
    if bench.wants(f"{verb} trace"):
        calls = {n: measure.system_calls(c, bench.dir) for n, c in commands.items()}
        bench.results.numbers(f"system calls of {verb}", "calls", calls)
    if bench.wants(f"{verb} rss"):
        rss = {
            name: measure.peak_rss(bench.floor, command)
            for name, command in commands.items() if name != FLOOR
        }
        bench.results.numbers(f"peak RSS of {verb}", "KiB", rss)


def measure_run_counts(bench: Bench) -> None:
    if bench.only and not {"trace", "rss"} & set(bench.only):
        return
    commands = {}
    for runtime in bench.runtimes.values():
        bundle = bench.bundle(runtime.name, "run", bench.variants["run"], bundles.TRUE)
        commands[runtime.name] = runtime.argv("run", "--bundle", str(bundle), "run")
    commands[FLOOR] = bench.floor_argv(
        "run", str(bench.rootfs), "carob-bench-floor", bundles.TRUE
    )
    counts(bench, "run", commands)


def measure_limit(bench: Bench) -> None:
    """The smallest memory limit, equal to the swap limit, under which /bin/true runs."""
    if not bench.wants("limit"):
        return
    found = {}
    for runtime in bench.runtimes.values():

        def write(limit: int, name: str = runtime.name) -> Path:
            config = copy.deepcopy(bench.variants["run"])
            config["linux"]["resources"]["memory"] = {"limit": limit, "swap": limit}
            return bench.bundle(name, "limit", config, bundles.TRUE)

        found[runtime.name] = measure.smallest_limit(runtime, write, 2 if bench.quick else 5)
    bench.results.numbers("smallest memory limit", "KiB", found)


def measure_many(bench: Bench) -> None:
    """A thousand containers alive at the same time."""
    if not bench.wants("many"):
        return
    total, edge = (60, 20) if bench.quick else (1000, 100)
    found = {}
    for runtime in bench.runtimes.values():

        def bundle_of(index: int, name: str = runtime.name) -> Path:
            path = bench.dir / "bundles" / f"{name}-many-{index}"
            if not path.exists():
                bench.bundle(name, f"many-{index}", bench.variants["run"], bundles.SLEEP)
            return path

        found[runtime.name] = measure.many(runtime, bundle_of, total, edge)
    column = lambda key: {name: values[key] for name, values in found.items()}  # noqa: E731
    bench.results.numbers(f"first {edge} of {total} containers", "containers/s", column("first"))
    bench.results.numbers(f"last {edge} of {total} containers", "containers/s", column("last"))
    slower = {name: values["last"] / values["first"] for name, values in found.items()}
    bench.results.numbers("last against first", "ratio", slower)
    bench.results.numbers(f"list of {total}", "ms", column("list"))
    bench.results.numbers("delete -f, each", "ms", column("delete"))


def measure_parallel(bench: Bench) -> None:
    """Throughput of eight loops of `run` at the same time."""
    if not bench.wants("parallel"):
        return
    runs, turns = (4, 2) if bench.quick else (15, 4)
    rates: dict[str, list[float]] = {name: [] for name in bench.runtimes}
    for _ in range(turns):
        for runtime in bench.runtimes.values():
            paths = [
                bench.bundle(runtime.name, f"loop-{index}", bench.variants["run"], bundles.TRUE)
                for index in range(8)
            ]
            rates[runtime.name].append(measure.parallel(runtime, paths, runs))
    best = {name: report.quantile(found, 0.5) for name, found in rates.items()}
    bench.results.numbers("8 parallel run loops", "containers/s", best)


MEASUREMENTS = [
    measure_run, measure_verbs, measure_exec, measure_run_counts, measure_limit,
    measure_parallel, measure_many, pods.measure_pods, images.measure_images,
    clients.measure_clients,
]


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--only", action="append", default=[])
    return parser.parse_args(argv)


def main() -> int:
    measure.stop_on_signals()
    measure.remove_tree(Path(os.environ["CAROB_BENCH_DIR"]) / "bundles")
    bench = Bench(parse(sys.argv[1:]))
    started = time.monotonic()
    try:
        bench.results.machine = report.machine(bench.runtimes)
        bench.wants("same work?")
        same_work(bench)
        for one in MEASUREMENTS:
            one(bench)
            bench.results.seconds = round(time.monotonic() - started)
            bench.results.write(bench.dir)
        bench.results.announce(bench.dir)
    except Refused as refused:
        print(f"scripts/bench: cannot compare: {refused}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        for runtime in bench.runtimes.values():
            runtime.clear()
        measure.remove_tree(bench.dir / "bundles")
    return 0


if __name__ == "__main__":
    sys.exit(main())
