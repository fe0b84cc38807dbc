"""Times whole processes on the same trees: ours, the peers that are installed, and yardsticks. See tests/bench."""

import argparse
import hashlib
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--agent", required=True)
parser.add_argument("--store", required=True)
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--corpus", type=Path, action="append", default=[])
parser.add_argument("--work", type=Path, default=None)
options = parser.parse_args()

work = Path(tempfile.mkdtemp(prefix="rfs-bench-", dir=options.work))
trash = work / "trash"
trash.mkdir()


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


def change(tree: Path, seed: int) -> None:
    """Changes one file in a hundred: most are edited, some replaced, deleted, renamed, or given another mode; some are new."""
    files = sorted(p for p in tree.rglob("*") if p.is_file() and not p.is_symlink())
    dice = random.Random(seed)
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
    if path.exists():
        path.rename(trash / f"{path.name}-{time.monotonic_ns()}")


def timed(command, env=None) -> float:
    begun = time.monotonic()
    done = subprocess.run(command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    took = time.monotonic() - begun
    if done.returncode != 0:
        sys.exit(f"{command}: {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    return took


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

    def capture(self) -> float:
        return timed([options.agent, "capture", "--config", self.config])

    def newest(self) -> str:
        text = subprocess.check_output([options.agent, "snapshots", "list", "--output", "json", "--config", self.config])
        import json

        listed = json.loads(text)
        return (listed["snapshots"] if isinstance(listed, dict) else listed)[0]["id"]

    def restore(self, snapshot: str) -> float:
        return timed([options.agent, "restore", snapshot, "--config", self.config])


class Restic:
    name = "restic"

    def __init__(self, tree: Path, at: Path):
        self.tree, self.at = tree, at
        self.env = {"RESTIC_REPOSITORY": str(at), "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(at) + "-cache"}

    def fresh(self) -> None:
        away(self.at)
        timed(["restic", "init"], self.env)

    def capture(self) -> float:
        return timed(["restic", "backup", "--quiet", str(self.tree)], self.env)

    def newest(self) -> str:
        return "latest"

    def restore(self, snapshot: str) -> float:
        if "--delete" not in subprocess.run(["restic", "restore", "--help"], capture_output=True, text=True).stdout:
            return timed(["restic", "restore", snapshot, "--target", "/"], self.env)
        return timed(
            ["restic", "restore", snapshot, "--target", "/", "--delete", "--overwrite", "if-changed", "--include", str(self.tree)],
            self.env,
        )


class Borg:
    name = "borg"

    def __init__(self, tree: Path, at: Path):
        self.tree, self.at, self.count = tree, at, 0
        self.env = {"BORG_REPO": str(at), "BORG_CACHE_DIR": str(at) + "-cache", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

    def fresh(self) -> None:
        away(self.at)
        timed(["borg", "init", "--encryption", "none"], self.env)

    def capture(self) -> float:
        self.count += 1
        return timed(["borg", "create", "--compression", "zstd,1", f"::run-{self.count}", str(self.tree)], self.env)

    def restore(self, snapshot: str):
        return None


class Rsync:
    name = "rsync"

    def __init__(self, tree: Path, at: Path):
        self.tree, self.at = tree, at

    def fresh(self) -> None:
        away(self.at)

    def capture(self) -> float:
        return timed(["rsync", "-aHAX", "--delete", f"{self.tree}/", f"{self.at}/"])

    def newest(self) -> str:
        return ""

    def restore(self, _snapshot: str) -> float:
        return timed(["rsync", "-aHAX", "--delete", f"{self.at}/", f"{self.tree}/"])


def measure(tree: Path) -> None:
    files = sum(1 for p in tree.rglob("*") if p.is_file())
    size = sum(p.lstat().st_size for p in tree.rglob("*") if p.is_file() and not p.is_symlink())
    print(f"\n{tree}: {files} files, {size / 2**20:.0f} MiB, {options.runs} runs, medians in seconds (and ours is so many times faster)")
    live = work / "live"
    contenders = [Ours(live, work / "rfs")]
    for kind in (Restic, Borg, Rsync):
        if shutil.which(kind.name):
            contenders.append(kind(live, work / kind.name))
        else:
            print(f"not measured: {kind.name} is not installed")
    steps = ["first", "nothing changed", "1 % changed", "restore the 1 %"]
    figures = {(step, c.name): [] for step in steps for c in contenders}
    yard = {"stat walk": [], "read and hash": []}
    for run in range(options.runs):
        away(live)
        subprocess.check_call(["cp", "-a", str(tree), str(live)])
        subprocess.check_call(["sh", "-c", f"cat {live}/* >/dev/null 2>&1; find {live} -type f -exec cat {{}} + >/dev/null"])
        yard["stat walk"].append(timed(["find", str(live), "-newermt", "2100-01-01"]))
        time.sleep(2.1)  # What is younger than a clock's grain cannot be trusted by anyone; it is not what is measured.
        order = contenders if run % 2 == 0 else contenders[::-1]
        for c in order:
            c.fresh()
            figures["first", c.name].append(c.capture())
            figures["nothing changed", c.name].append(c.capture())
        kept = {c.name: c.newest() for c in order if hasattr(c, "newest")}
        # Restores go in place, so each contender gets the same change again.
        for c in order:
            change(live, run + 1)
            if c.name not in kept:
                figures["1 % changed", c.name].append(c.capture())
                Rsync(live, tree).restore("")
                continue
            if c.name == "rsync":
                figures["restore the 1 %", c.name].append(c.restore(""))
                change(live, run + 1)
                figures["1 % changed", c.name].append(c.capture())
                Rsync(live, tree).restore("")
            else:
                figures["1 % changed", c.name].append(c.capture())
                figures["restore the 1 %", c.name].append(c.restore(kept[c.name] if c.name != "restic" else first_restic(c)))
    names = [c.name for c in contenders]
    print(f"{'':18}" + "".join(f"{name:>18}" for name in names))
    for step in steps:
        cells = []
        ours = statistics.median(figures[step, "rfs"])
        for name in names:
            values = figures[step, name]
            if not values:
                cells.append(f"{'-':>18}")
            elif name == "rfs":
                cells.append(f"{ours:>18.3f}")
            else:
                median = statistics.median(values)
                cells.append(f"{median:>10.3f} ({median / ours:4.1f})")
        print(f"{step:18}" + "".join(cells))
    print(f"yardstick: `find` over the tree {statistics.median(yard['stat walk']):.3f}")


def first_restic(c: "Restic") -> str:
    import json

    listed = json.loads(subprocess.check_output(["restic", "snapshots", "--json"], env={**os.environ, **c.env}))
    return listed[0]["short_id"]


try:
    for tree in options.corpus or [corpus()]:
        measure(tree.resolve())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"\nthe largest process of all took {peak:.0f} MiB")
finally:
    shutil.rmtree(work, ignore_errors=True)
