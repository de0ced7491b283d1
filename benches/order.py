"""Finds the functions that carob's verbs call, and writes the linker script that puts them together.

Called by scripts/order. Every function of a release build gets a breakpoint; then the verbs run, and
what they have met is listed by the names of its sections. Lying all over ten megabytes, each of them
costs a page fault of its own and 64 KiB of memory in every process.
"""

from __future__ import annotations

import argparse
import bisect
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

# Of `ld -Map`: a section, its address and size in hexadecimal and its file, in the next line where the
# name is long; below it its global symbols.
SECTION = re.compile(r"^ (\.text\S*)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) (\S.*)$|^ {16}0x([0-9a-f]+) {16}\S+$", re.M)
# What differs between builds in a name (RFC 2603): the crate at its end, one of those that need the
# function, in full or as a place in the name that has it; a number that LLVM appends; the hash of a
# crate, whose length is not always the same; all other places that the name refers to.
CRATE = re.compile(r"Cs[0-9A-Za-z]{4,13}_(\d+)")
LAST_PLACE = re.compile(r"B[0-9A-Za-z]{0,2}_$")
NUMBER = re.compile(r"\.\d+$")
VARIES = ((re.compile(r"Cs[0-9A-Za-z]{4,13}_"), "Cs*_"), (re.compile(r"B[0-9A-Za-z]{0,2}_"), "B*_"))
# Of a manifest with probes, so that the supervisor's way through them is known too.
POD = """
apiVersion: v1
kind: Pod
metadata: {name: order}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: %s
    command: [sleep, "1000"]
    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
"""


PARTS = ("run", "create", "exec", "others", "pods")


@dataclass(frozen=True)
class Section:
    address: int
    size: int
    file: str
    name: str

    def pattern(self) -> str:
        """What matches it in a linker script, also after a change of the program or of the compiler."""
        if self.name.startswith(".text._R"):
            name = LAST_PLACE.sub("", NUMBER.sub("", self.name))
            for crate in CRATE.finditer(name):
                if crate.end() + int(crate[1]) == len(name):
                    name = name[: crate.start()]
            for part, anything in VARIES:
                name = part.sub(anything, name)
            return f"*({name}*)"
        archive = re.fullmatch(r".*/(lib\w+)[^/]*\((.*)\)", self.file)
        if archive:
            return f"*{archive[1]}*:{archive[2]}({self.name})"
        return f"*({self.name})" if self.name != ".text" else f"*{Path(self.file).name}(.text)"


def sections(map_file: Path) -> dict[Section, set[int]]:
    """The sections of functions, in the order of their addresses, with the addresses of their symbols."""
    found: dict[Section, set[int]] = {}
    last = None
    # Before it, the map lists what was thrown away.
    _, kept = map_file.read_text().split("\nLinker script and memory map\n", 1)
    for match in SECTION.finditer(kept):
        name, address, size, file, symbol = match.groups()
        if name:
            last = Section(int(address, 16), int(size, 16), file, name)
            if last.size > 0:
                found[last] = {last.address}
        elif last in found and last.address <= int(symbol, 16) < last.address + last.size:
            found[last].add(int(symbol, 16))
    return found


def readelf(binary: Path, what: str) -> list[list[str]]:
    done = subprocess.run(["readelf", "-W", what, binary], capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def text_base(binary: Path) -> int:
    """What an address of the program's text is less its place in the file."""
    for row in readelf(binary, "--program-headers"):
        if row[:1] == ["LOAD"] and "E" in row[6:8]:
            return int(row[2], 16) - int(row[1], 16)
    sys.exit(f"{binary} has no text")


class Tracer:
    """Runs a command whose programs have a breakpoint in place of the first byte of each function.

    The file itself has them (`armed`), so whatever maps it has them too; a process that meets one gets
    its byte back, in its own copy of the page, and goes on. One that carob clones, init, gets all of
    them again: it maps each page anew. See ptrace(2).
    """

    TRACEME, PEEK, POKE, CONT, GETREGS, SETREGS, SETOPTIONS = 0, 1, 4, 7, 12, 13, 0x4200
    FORK, VFORK, CLONE, EXEC = 1, 2, 3, 4
    FOLLOW = 1 << FORK | 1 << VFORK | 1 << CLONE | 1 << EXEC
    WALL = 0x40000000
    BREAKPOINT = 0xCC

    def __init__(self, bytes_at: dict[int, int]):
        self.bytes_at = bytes_at
        # What carob itself has called, and what its children have.
        self.hit: set[int] = set()
        self.hit_by_init: set[int] = set()
        # What each process has met since its program was executed; of a child the same before that.
        self.met: dict[int, set[int]] = {}
        self.inits: set[int] = set()
        self.call = ctypes.CDLL(None, use_errno=True).ptrace
        self.call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self.call.restype = ctypes.c_long

    def run(self, command: list[str], arms_init: bool) -> int:
        self.hit.clear()
        self.hit_by_init.clear()
        self.arms_init = arms_init
        first = os.fork()
        if first == 0:
            self.call(self.TRACEME, 0, None, None)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.execvp(command[0], command)
        os.waitpid(first, 0)
        self.call(self.SETOPTIONS, first, None, self.FOLLOW)
        self.call(self.CONT, first, None, None)
        ended = None
        quiet_since = time.monotonic()
        # What it has left running is traced on; what that calls at its end belongs to whoever ends it.
        while ended is None or time.monotonic() < quiet_since + 1:
            try:
                pid, status = os.waitpid(-1, self.WALL | (0 if ended is None else os.WNOHANG))
            except ChildProcessError:
                break
            if pid == 0:
                time.sleep(0.01)
                continue
            quiet_since = time.monotonic()
            if pid == first and not os.WIFSTOPPED(status):
                ended = status
            if os.WIFSTOPPED(status):
                self.go_on(pid, os.WSTOPSIG(status), status >> 16)
        return os.waitstatus_to_exitcode(ended)

    def go_on(self, pid: int, stop: int, event: int) -> None:
        if event == self.EXEC:
            self.met[pid] = set()
            self.inits.discard(pid)
        elif pid not in self.met:
            self.begin(pid)
        mine = stop == signal.SIGTRAP and (event != 0 or self.breakpoint(pid))
        # A new process begins with a stop that nobody has sent.
        self.call(self.CONT, pid, None, None if mine or stop == signal.SIGSTOP else stop)

    def begin(self, pid: int) -> None:
        """A process at its first stop: if it is one that carob has cloned, it is armed again."""
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        before = self.met.get(int(stat[1]), set()) if self.arms_init else set()
        self.met[pid] = set()
        if before:
            self.inits.add(pid)
        for address in before:
            self.poke(pid, address, self.BREAKPOINT)

    def poke(self, pid: int, address: int, byte: int) -> None:
        word = self.call(self.PEEK, pid, address, None) & ~0xFF
        self.call(self.POKE, pid, address, word | byte)

    def breakpoint(self, pid: int) -> bool:
        registers = (ctypes.c_ulong * 27)()
        self.call(self.GETREGS, pid, None, ctypes.addressof(registers))
        address = registers[16] - 1
        if address not in self.bytes_at:
            return False
        self.poke(pid, address, self.bytes_at[address])
        registers[16] = address
        self.call(self.SETREGS, pid, None, ctypes.addressof(registers))
        self.met.setdefault(pid, set()).add(address)
        (self.hit_by_init if pid in self.inits else self.hit).add(address)
        return True


def armed(carob: Path, to: Path, addresses: set[int]) -> dict[int, int]:
    """A copy with a breakpoint at each address; what was there before, by address."""
    base = text_base(carob)
    program = bytearray(carob.read_bytes())
    bytes_at = {address: program[address - base] for address in addresses}
    for address in bytes_at:
        program[address - base] = Tracer.BREAKPOINT
    to.write_bytes(program)
    to.chmod(0o755)
    return bytes_at


class Verbs:
    """What is called: the verbs that engines and pods call often, those of PARTS in this order."""

    def __init__(self, carob: Path, rootfs: Path, scratch: Path):
        self.carob, self.rootfs, self.scratch = carob, rootfs, scratch
        self.root = scratch / "root"

    def call(self, *args: str) -> None:
        # Standard output is a file: what a container leaves open must not hold anybody up.
        with open(self.scratch / "log", "w+") as log:
            argv = [self.carob, "--root", self.root, *args]
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=120)
            if done.returncode != 0:
                log.seek(0)
                sys.exit(f"carob {' '.join(args)}: {log.read()}")

    def clean(self) -> None:
        """Removes what a verb that failed has left; mostly nothing."""
        for verb in (["delete", "--force", "order-1"], ["delete", "--force", "order-2"], ["pod", "rm", "--force", "order"]):
            subprocess.run([self.carob, "--root", self.root, *verb], capture_output=True, timeout=120)

    def bundle(self, name: str, args: list[str], **linux: object) -> str:
        bundle = self.scratch / name
        bundle.mkdir()
        self.call("spec", "--bundle", str(bundle))
        config = json.loads((bundle / "config.json").read_text())
        config["process"].update(terminal=False, args=args)
        config["root"]["path"] = str(self.rootfs)
        config["linux"].update(linux)
        (bundle / "config.json").write_text(json.dumps(config))
        return str(bundle)

    def run(self) -> None:
        plain = self.bundle("plain", ["true"])
        for _ in range(2):
            self.call("run", "--bundle", plain, "order-1")

    def create(self) -> None:
        rule = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}
        seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]}
        limits = {"memory": {"limit": 1 << 28}, "cpu": {"shares": 512, "quota": 50000}, "pids": {"limit": 99}}
        full = self.bundle("full", ["sleep", "1000"], seccomp=seccomp, resources=limits)
        for again in (True, False):
            self.call("create", "--bundle", full, "--pid-file", str(self.scratch / "pid"), "order-2")
            self.call("start", "order-2")
            if again:
                self.call("delete", "--force", "order-2")

    def exec(self) -> None:
        for _ in range(2):
            self.call("exec", "order-2", "true")

    def others(self) -> None:
        self.call("exec", "--detach", "--pid-file", str(self.scratch / "pid"), "order-2", "true")
        for verb in ("state", "ps", "pause", "resume", f"update --memory {1 << 29}"):
            self.call(*verb.split(), "order-2")
        self.call("list")
        self.call("kill", "order-2", "KILL")
        self.call("delete", "--force", "order-2")

    def pods(self) -> None:
        manifest = self.scratch / "pod.yaml"
        manifest.write_text(POD % f"rootfs:{self.rootfs}")
        self.call("pod", "run", "--detach", str(manifest))
        self.call("pod", "wait", "--for", "ready", "order")
        self.call("pod", "ps")
        self.call("pod", "rm", "--force", "order")


def kib(called: set[Section]) -> int:
    return sum(section.size for section in called) >> 10


def script(hot: dict[str, set[Section]]) -> str:
    lines = []
    for part, called in hot.items():
        lines.append(f"    /* {part}: {kib(called)} KiB */")
        lines += (f"    {pattern}" for pattern in sorted({section.pattern() for section in called}))
    inside = "\n".join(lines)
    return f"""/* The functions that carob's verbs call, one beside the other.
   Written by scripts/order; a name that is no longer there does no harm. */
SECTIONS
{{
  .text.hot : {{
{inside}
  }}
}}
INSERT BEFORE .text;
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("carob", type=Path, help="a release build")
    parser.add_argument("map", type=Path, help="what its linker says with -Map")
    parser.add_argument("rootfs", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    found = sections(args.map)
    text = list(found)
    starts = [section.address for section in text]
    with tempfile.TemporaryDirectory(prefix="carob-order.") as scratch:
        copy = Path(scratch) / "carob"
        where = [str(copy), str(args.rootfs.resolve()), scratch]
        tracer = Tracer(armed(args.carob, copy, set().union(*found.values())))
        called: dict[str, set[Section]] = {}
        try:
            for part in PARTS:
                # Elsewhere there are threads, and children that have their parent's memory.
                arms_init = part in ("run", "exec")
                if tracer.run([sys.executable, __file__, part, *where], arms_init) != 0:
                    sys.exit(f"the verbs of {part} have failed")
                of = lambda met: {text[bisect.bisect_right(starts, address) - 1] for address in met}
                called[part] = of(tracer.hit) | of(tracer.hit_by_init)
                if arms_init:
                    called[f"{part}, init"] = of(tracer.hit_by_init)
                    called[f"{part}, carob"] = of(tracer.hit)
        finally:
            Verbs(args.carob.resolve(), args.rootfs.resolve(), Path(scratch)).clean()
    hot = side_by_side(called)
    for part in hot:
        print(f"{part}: {len(hot[part])} of {len(text)} functions, {kib(hot[part])} KiB")
    args.output.write_text(script(hot))


def side_by_side(called: dict[str, set[Section]]) -> dict[str, set[Section]]:
    """In an order in which carob and init each find theirs in one or two pieces, in `run` as in `exec`."""
    run, init = called.pop("run, carob"), called.pop("run, init")
    exec_, exec_init = called.pop("exec, carob"), called.pop("exec, init")
    both = called["run"] & called["exec"]
    carob, inits = run | exec_, init | exec_init
    hot = {
        "exec, carob": called["exec"] - both - inits,
        "exec, both": (called["exec"] - both) & carob & inits,
        "exec, init": called["exec"] - both - carob,
        "run and exec, init": both - carob,
        "run and exec, both": both & carob & inits,
        "run and exec, carob": both - inits,
        "run, carob": called["run"] - both - inits,
        "run, both": (called["run"] - both) & carob & inits,
        "run, init": called["run"] - both - carob,
        **called,
    }
    listed: set[Section] = set()
    for part in hot:
        hot[part] = hot[part] - listed
        listed |= hot[part]
    return {part: sections for part, sections in hot.items() if sections}


if __name__ == "__main__":
    if sys.argv[1] in PARTS:
        getattr(Verbs(*map(Path, sys.argv[2:5])), sys.argv[1])()
    else:
        main()
