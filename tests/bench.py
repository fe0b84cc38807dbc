"""Times whole processes on the same trees: ours, the peers that are installed, and yardsticks. See tests/bench."""

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--agent", required=True)
parser.add_argument("--yardstick", required=True)
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--corpus", type=Path, action="append", default=[])
parser.add_argument("--work", type=Path, default=None)
parser.add_argument("--cold", action="store_true")
parser.add_argument("--figures", type=Path, default=None)
parser.add_argument("--on", action="append", default=[], metavar="FILE-SYSTEM")
parser.add_argument("--peers", default="restic,rustic,borg,rsync")
options = parser.parse_args()

base = Path(tempfile.mkdtemp(prefix="rfs-bench-", dir=options.work))
work = base


def corpus() -> Path:
    """5,000 installed files, chosen by the digests of their paths; times are set back, so that none is young."""
    found = []
    for root in ("/usr/bin", "/usr/lib", "/usr/share", "/usr/include"):
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path) and 0 < os.path.getsize(path) <= 1 << 20:
                    found.append(path)
    found.sort(key=lambda path: hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest())
    tree = work / "corpus"
    for path in found[:5000]:
        to = tree / path.lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
        os.utime(to, (1_700_000_000, 1_700_000_000))
    return tree


LARGE = 16 << 20


def change(tree: Path, seed: int) -> None:
    """Changes one file in a hundred: most are edited, some replaced, deleted, renamed, or given another mode; some are new.

    In a tree of large files a block of each is changed instead."""
    files = sorted(p for p in tree.rglob("*") if p.is_file() and not p.is_symlink())
    dice = random.Random(seed)
    if files and sum(p.stat().st_size for p in files) / len(files) > LARGE:
        for path in files:
            with open(path, "r+b") as file:
                file.seek(dice.randrange(path.stat().st_size // 65536) * 65536)
                file.write(dice.randbytes(65536))
        return
    for number, path in enumerate(dice.sample(files, max(1, len(files) // 100))):
        kind = number % 20
        if kind < 12:
            with open(path, "r+b") as file:
                file.seek(path.stat().st_size // 2)
                file.write(dice.randbytes(64))
        elif kind < 15:
            new = path.with_name(path.name + ".new")
            new.write_bytes(dice.randbytes(4000))
            new.rename(path)
        elif kind < 17:
            path.unlink()
        elif kind < 19:
            path.rename(path.with_name(path.name + f".{seed}"))
        else:
            path.chmod(path.stat().st_mode ^ 0o010)
    for number in range(max(1, len(files) // 300)):
        (dice.choice(files).parent / f"new-{seed}-{number}").write_bytes(dice.randbytes(2000))


def away(path: Path) -> None:
    """Moves rather than removes: a file system slows down right after a mass delete, and that would be in the figures."""
    if not path.exists():
        return
    few = sum(len(names) for _, _, names in os.walk(path)) < 1000
    if few or subprocess.check_output(["stat", "-f", "-c", "%T", path], text=True).strip() == "tmpfs":
        shutil.rmtree(path)
        return
    trash = work / "trash"
    trash.mkdir(exist_ok=True)
    path.rename(trash / f"{path.name}-{time.monotonic_ns()}")


def size_of(path: Path) -> float:
    """What a folder takes on disk, in MiB; not the clones of our store, which share the blocks of what is live."""
    return int(subprocess.check_output(["du", "-sk", "--exclude=clones", path]).split()[0]) / 1024


class Image:
    """A file system of its own, fresh, in a file; what is written to it can be told from all else."""

    def __init__(self, kind: str, mebibytes: int):
        self.image, self.at = base / f"{kind}.img", base / kind
        with open(self.image, "wb") as file:
            file.truncate(mebibytes << 20)
        subprocess.check_call([f"mkfs.{kind}", "-q", self.image], stderr=subprocess.DEVNULL)
        self.at.mkdir()
        subprocess.check_call(["mount", "-o", "loop", self.image, self.at])
        device = subprocess.check_output(["findmnt", "-no", "SOURCE", self.at], text=True).strip()
        self.statistics = Path("/sys/class/block") / Path(device).name / "stat"

    def written(self) -> float:
        """MiB since it was mounted."""
        subprocess.check_call(["sync", "-f", self.at])
        return int(self.statistics.read_text().split()[6]) / 2048

    def close(self) -> None:
        subprocess.call(["umount", "-l", self.at])
        self.image.unlink()


def timed(command, env=None, cwd=None, accepted=(0,)):
    """Seconds, and the peak memory of the process and its children in MiB."""
    with tempfile.TemporaryFile() as errors:
        begun = time.monotonic()
        child = subprocess.Popen(command, env={**os.environ, **(env or {})}, cwd=cwd, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        took = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in accepted:
            errors.seek(0)
            sys.exit(f"{command}: {child.returncode}: {errors.read().decode(errors='replace')[-2000:]}")
    return took, usage.ru_maxrss / 1024


def forget() -> bool:
    """Empties the page cache, if that is allowed."""
    subprocess.run(["sync"], check=True)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


class Ours:
    name = "rfs"

    def __init__(self, tree: Path, at: Path):
        self.tree, self.at, self.config = tree, at, at / "agent.toml"

    def fresh(self) -> None:
        away(self.at)
        self.at.mkdir()
        self.config.write_text(
            f'[host]\nname = "bench"\n[store]\npath = "{self.at}/store"\n'
            f'[[component]]\nname = "tree"\nkind = "files"\npaths = ["{self.tree}"]\n'
        )

    def capture(self):
        return timed([options.agent, "capture", "--config", self.config])

    def newest(self) -> str:
        text = subprocess.check_output([options.agent, "snapshots", "list", "--output", "json", "--config", self.config])
        listed = json.loads(text)
        return (listed["snapshots"] if isinstance(listed, dict) else listed)[0]["id"]

    def restore(self, snapshot: str):
        return timed([options.agent, "restore", snapshot, "--config", self.config])

    def fill(self, snapshot: str):
        return self.restore(snapshot)

    def verify(self):
        return timed([options.agent, "snapshots", "verify", "--config", self.config])


class Restic:
    name = "restic"

    def __init__(self, tree: Path, at: Path):
        self.tree, self.at = tree, at
        self.env = {"RESTIC_REPOSITORY": str(at), "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(at) + "-cache"}

    def fresh(self) -> None:
        away(self.at)
        timed(["restic", "init"], self.env)

    def capture(self):
        return timed(["restic", "backup", "--quiet", str(self.tree)], self.env)

    def newest(self) -> str:
        listed = json.loads(subprocess.check_output(["restic", "snapshots", "--json"], env={**os.environ, **self.env}))
        return listed[-1]["short_id"]

    def restore(self, snapshot: str):
        if "--delete" not in subprocess.run(["restic", "restore", "--help"], capture_output=True, text=True).stdout:
            # Older ones cannot write over a link that is there, and go on without.
            return timed(["restic", "restore", snapshot, "--target", "/"], self.env, accepted=(0, 1))
        return timed(
            ["restic", "restore", snapshot, "--target", "/", "--delete", "--overwrite", "if-changed", "--include", str(self.tree)],
            self.env,
        )

    def fill(self, snapshot: str):
        return timed(["restic", "restore", snapshot, "--target", "/"], self.env)

    def verify(self):
        return timed(["restic", "check", "--read-data"], self.env)


class Rustic:
    name = "rustic"

    def __init__(self, tree: Path, at: Path):
        self.tree, self.at = tree, at
        self.env = {"RUSTIC_REPOSITORY": str(at), "RUSTIC_PASSWORD": "bench", "RUSTIC_CACHE_DIR": str(at) + "-cache"}

    def fresh(self) -> None:
        away(self.at)
        timed(["rustic", "init"], self.env)

    def capture(self):
        return timed(["rustic", "backup", "--no-progress", str(self.tree)], self.env)

    def newest(self) -> str:
        text = subprocess.check_output(["rustic", "snapshots", "--json"], env={**os.environ, **self.env}, stderr=subprocess.DEVNULL)
        groups = json.loads(text)
        found = [s for group in groups for s in (group[1] if isinstance(group, list) else group["snapshots"])]
        return max(found, key=lambda s: s["time"])["id"]

    def restore(self, snapshot: str):
        return timed(["rustic", "restore", "--no-progress", "--delete", f"{snapshot}:{self.tree}", str(self.tree)], self.env)

    def fill(self, snapshot: str):
        return self.restore(snapshot)

    def verify(self):
        return timed(["rustic", "check", "--no-progress", "--read-data"], self.env)


class Borg:
    name = "borg"

    def __init__(self, tree: Path, at: Path):
        self.tree, self.at, self.count = tree, at, 0
        self.env = {"BORG_REPO": str(at), "BORG_CACHE_DIR": str(at) + "-cache", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

    def fresh(self) -> None:
        away(self.at)
        timed(["borg", "init", "--encryption", "none"], self.env)

    def capture(self):
        self.count += 1
        return timed(["borg", "create", "--compression", "zstd,1", f"::run-{self.count}", str(self.tree)], self.env)

    def newest(self) -> str:
        return f"run-{self.count}"

    def restore(self, snapshot: str):
        """It has none in place."""
        return None

    def fill(self, snapshot: str):
        return timed(["borg", "extract", f"::{snapshot}"], self.env, cwd="/")

    def verify(self):
        return timed(["borg", "check", "--verify-data"], {**self.env, "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING": "YES"})


class Rsync:
    name = "rsync"

    def __init__(self, tree: Path, at: Path):
        self.tree, self.at = tree, at

    def fresh(self) -> None:
        away(self.at)

    def capture(self):
        return timed(["rsync", "-aHAX", "--delete", f"{self.tree}/", f"{self.at}/"])

    def newest(self) -> str:
        return ""

    def restore(self, _snapshot: str):
        return timed(["rsync", "-aHAX", "--delete", f"{self.at}/", f"{self.tree}/"])

    def fill(self, snapshot: str):
        return self.restore(snapshot)

    def verify(self):
        """It keeps no digests."""
        return None


STEPS = ["first, warm", "first, cold", "nothing changed", "1 % changed", "restore the 1 %", "restore into empty", "verify all"]
YARDS = ["walk", "read", "hash", "copy"]


class Figures:
    """Seconds by step and contender, and each contender's peak of memory."""

    def __init__(self):
        self.seconds, self.memory, self.mebibytes = {}, {}, {}

    def add(self, step: str, name: str, measured) -> None:
        if measured is None:
            return
        seconds, memory = measured
        self.seconds.setdefault((step, name), []).append(seconds)
        self.memory[name] = max(memory, self.memory.get(name, 0))

    def note(self, what: str, name: str, mebibytes: float) -> None:
        self.mebibytes.setdefault((what, name), []).append(mebibytes)

    def median(self, step: str, name: str):
        values = self.seconds.get((step, name))
        return statistics.median(values) if values else None

    def show(self, names) -> None:
        print(f"{'':20}" + "".join(f"{name:>17}" for name in names))
        for step in STEPS:
            ours = self.median(step, "rfs")
            if ours is None:
                continue
            cells = [f"{ours:>17.3f}"]
            for name in names[1:]:
                median = self.median(step, name)
                cells.append(f"{'-':>17}" if median is None else f"{median:>9.3f} ({median / ours:4.1f})")
            print(f"{step:20}" + "".join(cells))
        print(f"{'peak memory, MiB':20}" + "".join(f"{self.memory.get(name, 0):>17.0f}" for name in names))
        for what in dict.fromkeys(what for what, _ in self.mebibytes):
            found = [self.mebibytes.get((what, name)) for name in names]
            print(f"{what:20}" + "".join(f"{statistics.median(f):>17.1f}" if f else f"{'-':>17}" for f in found))
        for step in YARDS:
            median = self.median(step, "yardstick")
            print(f"yardstick: {step:9}" + (f"{median:>17.3f}" if median is not None else f"{'-':>17}"))

    def put(self, names, path: Path) -> None:
        rows = {f"{step} | {name}": values for (step, name), values in self.seconds.items()}
        path.write_text(json.dumps({"seconds": rows, "peak MiB": self.memory, "MiB": {f"{w} | {n}": v for (w, n), v in self.mebibytes.items()}}, indent=1))


def fresh_live(tree: Path, live: Path) -> None:
    away(live)
    subprocess.check_call(["cp", "-a", str(tree), str(live)])
    subprocess.check_call(["sync"])


def yardsticks(live: Path, figures: Figures) -> None:
    for step in YARDS[:-1]:
        figures.add(step, "yardstick", timed([options.yardstick, step, live]))
    copy = work / "copy"
    figures.add("copy", "yardstick", timed([options.yardstick, "copy", live, copy]))
    away(copy)


def measure(tree: Path, image=None) -> None:
    files = sum(1 for p in tree.rglob("*") if p.is_file() and not p.is_symlink())
    size = sum(p.lstat().st_size for p in tree.rglob("*") if p.is_file() and not p.is_symlink())
    where = f" on {image.at.name}" if image else ""
    print(f"\n{tree.name}{where}: {files} files, {size / 2**20:.0f} MiB, {options.runs} runs; medians in seconds (ours is so many times faster)")
    live = work / "live"
    contenders = [Ours(live, work / "rfs")]
    for kind in (Restic, Rustic, Borg, Rsync):
        if kind.name not in options.peers.split(","):
            continue
        if shutil.which(kind.name):
            contenders.append(kind(live, work / kind.name))
        else:
            print(f"not measured: {kind.name} is not installed")
    figures = Figures()
    for run in range(options.runs):
        fresh_live(tree, live)
        time.sleep(2.1)  # What is younger than a clock's grain cannot be trusted by anyone; it is not what is measured.
        yardsticks(live, figures)
        for c in contenders if run % 2 == 0 else contenders[::-1]:
            if options.cold:
                c.fresh()
                if forget():
                    figures.add("first, cold", c.name, c.capture())
                timed([options.yardstick, "read", live])
            c.fresh()
            subprocess.check_call(["sync"])
            figures.add("first, warm", c.name, c.capture())
            stored = size_of(c.at)
            figures.note("stored, MiB", c.name, stored)
            figures.add("nothing changed", c.name, c.capture())
            first = c.newest()
            change(live, run + 1)
            if c.name == "rsync":
                # Its one copy is the first state until the next capture, so it is put back first, and changed again.
                figures.add("restore the 1 %", c.name, c.restore(first))
                change(live, run + 1)
                figures.add("1 % changed", c.name, c.capture())
                fresh_live(tree, live)
                c.capture()
            else:
                figures.add("1 % changed", c.name, c.capture())
                figures.note("stored for 1 %, MiB", c.name, size_of(c.at) - stored)
                before = image.written() if image else 0
                restored = c.restore(first)
                figures.add("restore the 1 %", c.name, restored)
                if image and restored is not None:
                    figures.note("written for it, MiB", c.name, image.written() - before)
            away(live)
            if c.name == "rsync":
                live.mkdir()
            figures.add("restore into empty", c.name, c.fill(first))
            figures.add("verify all", c.name, c.verify())
            away(c.at)
            fresh_live(tree, live)
            time.sleep(2.1)
    names = [c.name for c in contenders]
    figures.show(names)
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        figures.put(names, options.figures / f"{tree.name}{where.replace(' ', '-')}.json")


try:
    for tree in options.corpus or [corpus()]:
        if not options.on:
            measure(tree.resolve())
        for kind in options.on:
            rounds = options.runs * (2 if options.cold else 1)
            image = Image(kind, int(size_of(tree) * (4 + 12 * rounds)) + 512)
            try:
                work = image.at
                measure(tree.resolve(), image)
            finally:
                work = base
                image.close()
finally:
    shutil.rmtree(base, ignore_errors=True)
