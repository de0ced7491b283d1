"""What has been measured: statistics, goals, the report and its plots."""

from __future__ import annotations

import datetime
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

CAROB, FLOOR = "carob", "floor"
RUN = {"crun": 0.5, "runc": 0.2, "floor": 1.5}
FULL = {"crun": 0.5, "runc": 0.2}
VERB = {"crun": 0.7}
PODMAN = {"podman, crun": 1.0}
# Measure → what it may be, as a multiple of the peer's. Times hold for CPU time as well.
TIME_GOALS = {
    "run": RUN,
    "run+seccomp": FULL,
    "run+seccomp, compiled anew": FULL,
    "run+mounts": FULL,
    "run+limits": FULL,
    "run+all": FULL,
    "create": VERB,
    "start": VERB,
    "state": VERB,
    "kill": VERB,
    "delete": VERB,
    "exec": RUN,
    "pull and unpack": PODMAN,
    "first start": PODMAN,
    "second start": PODMAN,
    "pod run -d": {"floor": 4.0, "podman, runc": 0.15, "podman, crun": 0.15},
}
# Prefix of the measure → peer, factor, and whether more is better.
NUMBER_GOALS = [
    ("smallest memory limit", "crun", 1.0, False),
    ("system calls of run", None, 300, False),
    ("peak RSS of run", "crun", 1.0, False),
    ("peak RSS of exec", "crun", 1.0, False),
    ("last against first", None, 0.9, True),
    ("list of", "runc", 0.2, False),
    ("list of", "crun", 0.5, False),
    ("delete -f, each", "crun", 1.0, False),
    ("8 parallel run loops", "crun", 2.0, True),
    # Fewer pods share less: a quick run has 50.
    ("PSS per pod, 50 pods", None, 1536, False),
    ("PSS per pod, 100 pods", None, 1536, False),
    ("CPU time of an exec probe", "floor", 1.5, False),
    ("wake-ups of an idle pod", None, 0, False),
    ("disk use of an image", "podman, crun", 1.0, False),
    ("second start over rootfs:", None, 2, False),
]
COLOURS = {CAROB: "#e8590c", "crun": "#1c7ed6", "runc": "#2f9e44", FLOOR: "#868e96"}
MORE_COLOURS = ["#9c36b5", "#0c8599", "#e03131", "#f08c00", "#6741d9", "#66a80f"]
TEXT = "#7d8590"  # readable on white and on black


def quantile(values: list[float], at: float) -> float:
    """Linear interpolation between the two nearest samples."""
    ordered = sorted(values)
    place = at * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass
class Goal:
    """One goal and what became of it."""

    measure: str
    against: str
    goal: float
    found: float
    more: bool

    @property
    def met(self) -> bool:
        return self.found >= self.goal if self.more else self.found <= self.goal

    @property
    def verdict(self) -> str:
        if self.met:
            return "met"
        if self.goal == 0:
            return "**missed**"
        off = self.goal / self.found if self.more else self.found / self.goal
        return f"**missed** by {100 * (off - 1):.0f} %"


class Results:
    """Everything that goes into the report."""

    def __init__(self, quick: bool):
        self.quick = quick
        self.machine: dict[str, str] = {}
        self.checks: dict[str, int] = {}
        self.seconds = 0
        self.rows: dict[str, dict] = {}
        self.failed: list[str] = []

    def times(self, name: str, samples: dict, group: str = "") -> None:
        """Milliseconds of wall and, where it is known, CPU time; a group has tables of its own."""
        self.rows[name] = {
            "unit": "ms",
            "group": group,
            "runtimes": {
                runtime: {
                    "runs": len(one.wall),
                    "median": quantile(one.wall, 0.5),
                    "p10": quantile(one.wall, 0.1),
                    "p90": quantile(one.wall, 0.9),
                    "min": min(one.wall),
                    "cpu": quantile(one.cpu, 0.5) if one.cpu else None,
                }
                for runtime, one in samples.items()
            },
        }

    def numbers(self, name: str, unit: str, values: dict[str, float], group: str = "") -> None:
        """One number for each runtime."""
        self.rows[name] = {
            "unit": unit,
            "group": group,
            "runtimes": {runtime: {"value": value} for runtime, value in values.items()},
        }

    def goals(self) -> list[Goal]:
        found = []
        for name, limits in TIME_GOALS.items():
            for key, label in (("median", name), ("cpu", f"{name}, CPU time")):
                for peer, limit in limits.items():
                    ratio = self.ratio(name, peer, key)
                    if ratio is not None:
                        found.append(Goal(label, f"× {peer}", limit, ratio, False))
        for prefix, peer, limit, more in NUMBER_GOALS:
            for name in (name for name in self.rows if name.startswith(prefix)):
                if peer is None:
                    value = self.rows[name]["runtimes"][CAROB]["value"]
                    found.append(Goal(name, "", limit, value, more))
                elif (ratio := self.ratio(name, peer, "value")) is not None:
                    found.append(Goal(name, f"× {peer}", limit, ratio, more))
        return found

    def ratio(self, name: str, peer: str, key: str) -> float | None:
        """carob's number as a multiple of the peer's; none if one of them is missing."""
        runtimes = self.rows.get(name, {"runtimes": {}})["runtimes"]
        if not runtimes.get(CAROB, {}).get(key) or not runtimes.get(peer, {}).get(key):
            return None
        return runtimes[CAROB][key] / runtimes[peer][key]

    def write(self, directory: Path) -> None:
        goals = self.goals()
        whole = {
            "machine": self.machine,
            "quick": self.quick,
            "seconds": self.seconds,
            "facts compared": self.checks,
            "failed and repeated": self.failed,
            "rows": self.rows,
            "goals": [{**vars(goal), "met": goal.met} for goal in goals],
        }
        (directory / "results.json").write_text(json.dumps(whole, indent=1) + "\n")
        plots = draw(self.rows, directory)
        text = markdown(self, goals, plots)
        (directory / "report.md").write_text(text)

    def announce(self, directory: Path) -> None:
        goals = self.goals()
        met = sum(goal.met for goal in goals)
        print(f"{met} of {len(goals)} goals met in {self.seconds} s; {directory / 'report.md'}")


def machine(runtimes: dict) -> dict[str, str]:
    """Where and with what it was measured."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    mounts = Path("/proc/self/mountinfo").read_text()
    v1, v2 = mounts.count(" - cgroup "), mounts.count(" - cgroup2 ")
    kind = f"hybrid, {v1} v1 hierarchies" if v1 and v2 else f"v1, {v1}" if v1 else "v2"
    found = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{cpu[0] if cpu else platform.machine()}, {os.cpu_count()} CPUs",
        "memory": f"{pages / (1 << 30):.0f} GiB",
        "kernel": platform.release(),
        "cgroups": kind,
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }
    for name, runtime in runtimes.items():
        size = os.stat(runtime.path).st_size / (1 << 20)
        found[name] = f"{runtime.version()}, {size:.1f} MiB"
    return found


def table(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *["---:" for _ in head[1:]]]
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def runtimes_of(rows: dict[str, dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows.values() for name in row["runtimes"]))


def cells(rows: dict[str, dict], show) -> list[list[str]]:
    names = runtimes_of(rows)
    return [
        [name, *(show(row, row["runtimes"][one]) if one in row["runtimes"] else "" for one in names)]
        for name, row in rows.items()
    ]


def groups(rows: dict[str, dict]) -> dict[str, dict[str, dict]]:
    """Rows by what they are about; those about one container have no name."""
    found: dict[str, dict[str, dict]] = {}
    for name, row in rows.items():
        found.setdefault(row["group"], {})[name] = row
    return found


def markdown(results: Results, goals: list[Goal], plots: list[str]) -> str:
    kind = "quick run: few samples, small numbers of containers" if results.quick else "full run"
    parts = [f"# carob beside other runtimes\n\n{kind}, {results.seconds} s\n"]
    parts.append(table(["", ""], [[key, value] for key, value in results.machine.items()]))
    compared = ", ".join(f"{name} {count}" for name, count in results.checks.items())
    parts.append(f"Facts that each container told about itself, equal for all: {compared}.\n")
    if results.failed:
        parts.append(f"Failed once and were repeated: {len(results.failed)} commands.\n")
    parts.append("## Goals\n")
    parts.append(table(["measure", "found", "goal", ""], [
        [goal.measure, f"{number(goal.found)} {goal.against}",
         f"{'≥' if goal.more else '≤'} {number(goal.goal)}", goal.verdict]
        for goal in goals
    ]))
    parts += [f"![{plot}]({plot})\n" for plot in plots]
    for group, rows in groups(results.rows).items():
        parts += tables(results, rows, f"{group}: " if group else "")
    return "\n".join(parts)


def tables(results: Results, rows: dict[str, dict], prefix: str) -> list[str]:
    """The tables of one group of rows."""
    parts = []
    timed = {name: row for name, row in rows.items() if _is_timed(row)}
    with_cpu = {name: row for name, row in timed.items() if _has_cpu(row)}
    others = {name: row for name, row in rows.items() if name not in timed}
    shown = [
        (timed, "wall time, ms: median (p10–p90)", _spread),
        (timed, "wall time, ms: minimum", lambda _, one: f"{one['min']:.2f}"),
        (with_cpu, "CPU time, user and system, ms", lambda _, one: f"{one['cpu']:.2f}"),
    ]
    for chosen, title, show in shown:
        if chosen:
            parts.append(f"## {_title(prefix + title)}\n")
            parts.append(table(["", *runtimes_of(chosen)], cells(chosen, show)))
    ratios = [(timed, "median", "median"), (timed, "minimum", "min"), (with_cpu, "CPU time", "cpu")]
    for chosen, title, key in ratios:
        if not chosen:
            continue
        peers = [name for name in runtimes_of(chosen) if name != CAROB]
        parts.append(f"## {_title(prefix)}carob as a multiple of each, {title}\n")
        parts.append(table(["", *peers], [
            [name, *(_times(results.ratio(name, peer, key)) for peer in peers)] for name in chosen
        ]))
    if others:
        parts.append(f"## {_title(prefix + 'sizes, counts, rates')}\n")
        parts.append(table(["", *runtimes_of(others)], cells(
            others, lambda row, one: f"{number(one['value'])} {row['unit']}"
        )))
    return parts


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def _has_cpu(row: dict) -> bool:
    return all(one["cpu"] is not None for one in row["runtimes"].values())


def _is_timed(row: dict) -> bool:
    return all("median" in one for one in row["runtimes"].values())


def _spread(_row: dict, one: dict) -> str:
    return f"{one['median']:.2f} ({one['p10']:.2f}–{one['p90']:.2f})"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} ×"


def draw(rows: dict[str, dict], directory: Path) -> list[str]:
    """Plots as SVG; returns their file names."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({
        "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
        "text.color": TEXT, "axes.labelcolor": TEXT, "axes.edgecolor": TEXT,
        "xtick.color": TEXT, "ytick.color": TEXT, "axes.titlecolor": TEXT,
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    })
    names = runtimes_of(rows)
    others = iter(MORE_COLOURS * len(names))
    colours = {name: COLOURS.get(name) or next(others) for name in names}
    drawn = []
    for group, members in groups(rows).items():
        prefix = f"{group}-" if group else ""
        timed = {name: row for name, row in members.items() if _is_timed(row)}
        counted = {name: row for name, row in members.items() if name not in timed}
        if "run" in timed:
            _bars(pyplot, {"run": timed["run"]}, colours, directory / "run.svg",
                  "one container: create, start, /bin/true, delete")
            drawn.append("run.svg")
        if timed:
            drawn.append(f"{prefix}times.svg")
            _bars(pyplot, timed, colours, directory / drawn[-1], f"{group} wall time".strip())
        if counted:
            drawn.append(f"{prefix}counts.svg")
            _small(pyplot, counted, colours, directory / drawn[-1])
    return drawn


def _bars(pyplot, rows: dict, colours: dict, path: Path, title: str) -> None:
    """Medians as horizontal bars, p10 to p90 as whiskers."""
    labels, values, low, high, paint = [], [], [], [], []
    for name, row in rows.items():
        for runtime, one in sorted(row["runtimes"].items(), key=lambda item: item[1]["median"]):
            labels.append(runtime if len(rows) == 1 else f"{name}  {runtime}")
            values.append(one["median"])
            low.append(one["median"] - one["p10"])
            high.append(one["p90"] - one["median"])
            paint.append(colours[runtime])
    figure, axes = pyplot.subplots(figsize=(7.5, 0.6 + 0.26 * len(labels) + 0.5))
    places = range(len(labels))
    axes.barh(places, values, xerr=[low, high], color=paint, ecolor=TEXT, height=0.7)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    for place, value, spread in zip(places, values, high):
        axes.annotate(f" {value:.1f}", (value + spread, place), va="center", fontsize=9)
    axes.set_xlim(0, 1.15 * max(value + spread for value, spread in zip(values, high)))
    axes.set_xlabel("ms, median and p10–p90")
    axes.set_title(title)
    figure.savefig(path, transparent=True, bbox_inches="tight")
    pyplot.close(figure)


def _small(pyplot, rows: dict, colours: dict, path: Path) -> None:
    """One small plot for each number."""
    columns = 3
    lines = -(-len(rows) // columns)
    figure, grid = pyplot.subplots(lines, columns, figsize=(9, 1.9 * lines), squeeze=False)
    spots = [axes for line in grid for axes in line]
    for axes, (name, row) in zip(spots, rows.items()):
        runtimes = list(row["runtimes"])
        values = [row["runtimes"][runtime]["value"] for runtime in runtimes]
        axes.barh(runtimes, values, color=[colours[runtime] for runtime in runtimes])
        axes.invert_yaxis()
        axes.set_title(f"{name}, {row['unit']}", fontsize=9)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        for place, value in enumerate(values):
            axes.annotate(f" {number(value)}", (value, place), va="center", fontsize=8)
    for axes in spots[len(rows):]:
        axes.set_visible(False)
    figure.tight_layout()
    figure.savefig(path, transparent=True)
    pyplot.close(figure)
