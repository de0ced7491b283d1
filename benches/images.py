"""Images: from a registry to the disk and to a running container, beside podman."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import time
from pathlib import Path

import engines
import measure
from measure import Refused, Samples

CAROB, PODMAN, ROOTFS = "carob", "podman, crun", "carob, rootfs:"
GROUP = "images"
NAME = "bench:1"
TRUE = ["/bin/true"]
REGISTRY_CONF = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {content}}}}}
http: {{addr: '{address}'}}
"""


class Images:
    """A registry with one image, and the stores of those who pull it."""

    def __init__(self, bench):
        self.dir = bench.dir / "images"
        measure.remove_tree(self.dir)
        self.dir.mkdir()
        self.carob = bench.runtimes[CAROB]
        self.crun = bench.runtimes["crun"].path
        self.state = bench.dir / "state" / "images"
        self.podmans: list[engines.Podman] = []
        self.data = self.dir
        self.registry: subprocess.Popen | None = None
        self.name = ""

    def serve(self) -> None:
        """Starts the registry."""
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        conf = self.dir / "registry.yml"
        conf.write_text(REGISTRY_CONF.format(content=self.dir / "registry", address=address))
        with open(self.dir / "registry.log", "w") as log:
            self.registry = subprocess.Popen(
                ["docker-registry", "serve", str(conf)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        self.name = f"{address}/{NAME}"
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(address.split(":")).close()
                return
            if self.registry.poll() is not None or time.monotonic() > end:
                raise Refused(f"the registry does not listen; see {self.dir / 'registry.log'}")
            time.sleep(0.05)

    def make(self, rootfs: Path, quick: bool) -> None:
        """Pushes busybox, a layer of small files, and one of large ones."""
        layout = f"{self.dir / 'layout'}:x"
        engines.checked(["umoci", "init", "--layout", str(self.dir / "layout")])
        engines.checked(["umoci", "new", "--image", layout])
        small, large = self.dir / "small", self.dir / "large"
        # The same bytes each time; half of them can be compressed.
        chance = random.Random(1)
        for number in range(1000 if quick else 8000):
            path = small / "usr" / f"{number % 97}" / f"{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chance.randbytes(2048) + bytes(2048))
        (large / "opt").mkdir(parents=True)
        for number in range(2 if quick else 12):
            half = 4 << 20
            (large / "opt" / f"{number}").write_bytes(chance.randbytes(half) + bytes(half))
        for tree in (rootfs, small, large):
            layer = self.dir / "layer.tar"
            engines.checked(["tar", "-C", str(tree), "-cf", str(layer), "."])
            engines.checked(["umoci", "raw", "add-layer", "--image", layout, str(layer)])
            layer.unlink()
        measure.remove_tree(small)
        measure.remove_tree(large)
        to = f"docker://{self.name}"
        engines.checked(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}", to])
        measure.remove_tree(self.dir / "layout")

    def new_stores(self) -> None:
        """Empty stores. Those before stay until the end: ext4 looks long for a free inode where many
        have been deleted in the last minutes."""
        turn = len(self.podmans)
        self.data = self.dir / f"data-{turn}"
        place, state = self.dir / f"podman-{turn}", self.state / f"{turn}"
        self.podmans.append(engines.Podman("crun", self.crun, place, state, self.dir / "none"))
        # It makes its directories and databases now, not while the time is taken.
        engines.checked([*self.podman.command, "images"])
        os.sync()

    @property
    def podman(self) -> engines.Podman:
        return self.podmans[-1]

    def pull(self) -> dict[str, list[str]]:
        data = ["--data-root", str(self.data)]
        return {
            CAROB: self.carob.argv("image", "pull", "--quiet", *data, self.name),
            PODMAN: [*self.podman.command, "pull", "-q", "--tls-verify=false", self.name],
        }

    def start(self) -> dict[str, list[str]]:
        run = ["run", "--data-root", str(self.data), "--pull", "never"]
        podman = ["run", "--rm", "--network", "none", "--pull", "never", self.name]
        return {
            CAROB: self.carob.argv(*run, "--image", self.name, *TRUE),
            PODMAN: [*self.podman.command, *podman, *TRUE],
        }

    def start_rootfs(self) -> list[str]:
        """The same files as a plain directory."""
        files = self.dir / "files"
        files.mkdir()
        data = ["--data-root", str(self.data)]
        self.carob.call("image", "unpack", *data, self.name, str(files))
        run = ["run", "--data-root", str(self.data), "--image", f"rootfs:{files}"]
        return self.carob.argv(*run, *TRUE)

    def used_mib(self) -> dict[str, float]:
        stores = {CAROB: self.data, PODMAN: self.podman.data / "root"}
        found = {}
        for name, path in stores.items():
            blocks = engines.checked(["du", "-s", "--block-size=1K", str(path)]).split()[0]
            found[name] = int(blocks) / 1024
        return found

    def clear(self) -> None:
        if self.registry is not None and self.registry.poll() is None:
            self.registry.terminate()
            self.registry.wait(timeout=measure.TIMEOUT_S)
        for podman in self.podmans:
            podman.clear()
        measure.remove_tree(self.dir)


def measure_images(bench) -> None:
    """All of it, and nothing of it stays."""
    if bench.only and GROUP not in bench.only or not bench.wants(GROUP):
        return
    if "crun" not in bench.runtimes:
        return
    images = Images(bench)
    bench.results.machine |= engines.available()
    try:
        images.serve()
        images.make(bench.rootfs, bench.quick)
        pulls(bench, images)
        bench.results.numbers("disk use of an image", "MiB", images.used_mib(), GROUP)
        second_start(bench, images)
    finally:
        images.clear()


def pulls(bench, images: Images) -> None:
    """From an empty store to the first container, in turns."""
    names = [CAROB, PODMAN]
    samples = {row: {name: Samples() for name in names} for row in ("pull and unpack", "first start")}
    end = time.monotonic() + 2 * bench.budget_s
    for turn in range(3 if bench.quick else 10):
        if turn >= measure.LEAST_ROUNDS and time.monotonic() > end:
            break
        images.new_stores()
        pull, start = images.pull(), images.start()
        for name in names[turn % 2:] + names[:turn % 2]:
            measure.timed(pull[name], samples["pull and unpack"][name])
            measure.timed(start[name], samples["first start"][name])
            os.sync()
    for row, found in samples.items():
        bench.results.times(row, found, GROUP)


def second_start(bench, images: Images) -> None:
    """An image that is there, beside a directory with the same files."""
    commands = images.start() | {ROOTFS: images.start_rootfs()}
    turns, runs = (3, 5) if bench.quick else (12, 10)
    per = {name: runs for name in commands}
    found = measure.rounds(
        commands, turns, per, bench.dir, bench.budget_s, bench.results.failed
    )
    bench.results.times("second start", found, GROUP)
    row = bench.results.rows["second start"]["runtimes"]
    over = row[CAROB]["median"] - row[ROOTFS]["median"]
    bench.results.numbers("second start over rootfs:", "ms", {CAROB: over}, GROUP)
