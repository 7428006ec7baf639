"""`make bench`: the figures of the table in docs/performance.md, as JSON (build/bench.json) and as a table.

`python -m tests.bench [--only PART ...] [--write]`; --write puts the table into
docs/performance.md between its markers.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench import measures
from tests.bench.fairness import busy, locks
from tests.bench.first_looks import looks
from tests.bench.memory import share
from tests.bench.redaction import redaction
from tests.bench.rules import rules
from tests.bench.session import Session
from tests.bench.takeover import pause
from tests.bench.targets import GALLERY, UID, Bench, Target
from tests.bench.trail import trail
from tests.support.machine.namespace import enter_private_namespace
from tests.support.machine.processes import call_as, tool_as
from tests.support.samples import media

CHECKOUT: Final = Path(__file__).resolve().parents[2]
NAMES: Final = 10_000
KNOWN: Final = 100_000
KNOWN_FILES: Final = 1_000  # in each directory
COMMITS: Final = 100
DATABASE_GOALS: Final = {"DELETE": "<= 4", "WAL": "<= 3"}
SETTLED_S: Final = 65.0
"""How long files lie untouched before they are walked: the kernel may keep what it knows of a file
for as long as the file has not changed, a minute at most (policyfs/fs/kernel_cache/attributes.py)."""


def throughput(session: Session, where: str, bench: Bench) -> None:
    """fio through native, bindfs and a shared policyfs mount."""
    (bench.store / "fio.bin").write_bytes(b"")
    os.chown(bench.store / "fio.bin", UID, UID)
    measures.fio(bench.native(), "write", "1m")  # lay the file out
    with bench.bindfs() as bindfs, bench.policyfs() as policyfs:
        targets = [bench.native(), bindfs, policyfs]
        for block, goals in (("1m", (">= 0.97", ">= 0.97")), ("4k", (">= 0.80", ">= 0.76"))):
            for kind, goal in zip(("read", "write"), goals, strict=True):
                values = measures.medians(targets, partial(measures.fio, kind=kind, block=block))
                session.add(f"{kind} {block}", where, "MiB/s", values, goal)
        assert policyfs.mount is not None
        counters = policyfs.mount.fuse_counters()
        asked = {"READ": counters.get("READ", 0), "WRITE": counters.get("WRITE", 0)}
        print(f"    requests at the daemon meanwhile: {asked}")


def metadata(session: Session, where: str, bench: Bench) -> None:
    """open+close, stat and listing in native, bindfs and an app mount."""
    many = bench.store / "many"
    many.mkdir()
    for number in range(NAMES):
        (many / f"name-{number:05d}.jpg").touch()
    tool_as(0, "chown", "-R", f"{UID}:{UID}", bench.store, check=True)
    with bench.bindfs() as bindfs, bench.policyfs("bench") as app:
        targets = [bench.native(), bindfs, app]

        def file(target: Target) -> str:
            return str(target.path / "many" / "name-00042.jpg")

        loop = session.client
        values = measures.medians(targets, lambda target: measures.rate(loop, UID, "open", file(target)))
        session.add("open + close", where, "1/s", values, ">= 9,000/s")
        values = measures.medians(targets, lambda target: measures.rate(loop, UID, "stat", file(target)))
        session.add("stat of a known file", where, "1/s", values, ">= 0.50")
        values = measures.medians(
            targets, lambda target: measures.second_listing(loop, UID, target.path / "many")
        )
        session.add(f"second listing of {NAMES:,} names", where, "names/s", values, ">= 0.50")


def databases(session: Session, where: str, bench: Bench) -> None:
    """SQLite's commits through an app mount: locks, a journal that comes and goes, and the disk."""
    with bench.policyfs("bench") as app:
        for journal in ("DELETE", "WAL"):

            def commit_us(target: Target, journal: str = journal) -> float:
                path = target.path / f"{journal}-{target.name}.sqlite"
                return call_as(UID, measures.commits, str(path), journal, COMMITS)

            values = measures.medians([bench.native(), app], commit_us)
            what = f"a commit of SQLite, journal_mode={journal}"
            session.add(what, where, "µs", values, DATABASE_GOALS[journal])


def photo(session: Session, where: str, bench: Bench) -> None:
    """open + read + close of a redacted photo of 4 MB that was seen before, native beside it."""
    directory = bench.store / "photos"
    directory.mkdir(mode=0o755)
    media.picture(directory / "four.jpg", width=2600, height=1950, noise=True)
    media.write_tags(directory / "four.jpg", media.place_tags(media.HOME))
    (directory / "four.jpg").chmod(0o644)
    size = (directory / "four.jpg").stat().st_size
    with bench.policyfs("gallery") as app:

        def cost_us(target: Target) -> float:
            path = str(target.path / "photos" / "four.jpg")
            return 1e6 / measures.rate(session.client, GALLERY, "photo", path, str(1 << 20))

        values = measures.medians([bench.native(), app], cost_us)
        session.add(f"open + read + close, redacted {size / 1e6:.1f} MB", where, "µs", values, "<= 1.5")


def memory(session: Session, where: str, bench: Bench) -> None:
    """Bytes and descriptors of the daemon per file that it knows."""
    directories = session.known // KNOWN_FILES
    for outer in range(directories):
        directory = bench.store / "known" / f"d{outer:03d}"
        directory.mkdir(parents=True)
        for inner in range(KNOWN_FILES):
            (directory / f"a-photo-with-a-usual-name-{inner:04d}.jpg").touch()
    time.sleep(SETTLED_S)
    with bench.policyfs("bench", "--keeper", leads=True) as app:
        assert app.mount is not None
        idle = share(app.mount.status()["pid"], "Pss")
        measures.client(session.client, UID, "walk", str(app.path / "known"))
        values = {"policyfs-app": share(app.mount.status()["pid"], "Pss") - idle}
        session.add(f"memory (PSS) for {session.known:,} known files", where, "MiB", values, "<= 98")
        values = {"policyfs-app": median(pause(app.mount) for _ in range(measures.REPEATS))}
        session.add(f"pause of a take-over, {session.known:,} known files", where, "ms", values, "<= 300")
    with bench.policyfs("bench") as app:
        mount = app.mount
        assert mount is not None
        measures.client(session.client, UID, "list", str(app.path / "known"))
        before, descriptors = measures.resident_bytes(mount.pid), mount.descriptors()
        known, _ = measures.client(session.client, UID, "walk", str(app.path / "known"))
        after = measures.resident_bytes(mount.pid)
        values = {"policyfs-app": (after - before) / known}
        session.add(f"memory per known file ({known:,})", where, "bytes", values, "<= 600")
        values = {"policyfs-app": float(mount.descriptors() - descriptors)}
        what = f"descriptors for {known:,} known files in {directories} directories"
        session.add(what, where, "descriptors", values, "none per file")
        before_walk = mount.fuse_counters()
        requests = sum(before_walk.values())
        measures.client(session.client, UID, "walk", str(app.path / "known"))
        values = {"policyfs-app": float(sum(mount.fuse_counters().values()) - requests)}
        session.add(f"requests of a second walk ({known:,} stats)", where, "requests", values, "< 1,000")
        after_walk = mount.fuse_counters()
        asked = {name: after_walk[name] - before_walk[name] for name in after_walk}
        watch = mount.status()["watch"]
        print(f"    of which { ({name: count for name, count in asked.items() if count}) }; watch {watch}")


def decisions(session: Session) -> None:
    """One memoised decision, with few rules and with many."""
    for size in (10, 10_000):
        engine = measures.engine_with(size)
        cost = min(measures.decision_ns(engine) for _ in range(measures.REPEATS)) / 1000
        session.add(f"decision, {size:,} rules", "engine", "µs", {"policyfs": cost}, "<= 3")


ON_STORES: Final[dict[str, Callable[[Session, str, Bench], None]]] = {
    "throughput": throughput,
    "metadata": metadata,
    "databases": databases,
    "photo": photo,
    "memory": memory,
    "redaction": redaction,
    "rules": rules,
    "trail": trail,
    "locks": locks,
    "busy": busy,
    "looks": looks,
}


def on_each_store(session: Session, parts: list[str]) -> None:
    """Every part on ext4 (or what the temporary directory is on) and on tmpfs."""
    places = {name: session.directory / name for name in ("disk", "tmpfs", "xfs")}
    for name, place in places.items():
        place.mkdir()
        if name == "tmpfs":
            tool_as(0, "mount", "-t", "tmpfs", "-o", "size=4g,mode=0711", "tmpfs", place, check=True)
        elif name == "xfs":
            image = session.directory / "xfs.img"
            tool_as(0, "truncate", "-s", "6G", image, check=True)
            tool_as(0, "mkfs.xfs", "-q", image, check=True)
            tool_as(0, "mount", "-o", "loop", image, place, check=True)
        place.chmod(0o711)
        where = tool_as(0, "stat", "-f", "-c", "%T", place, check=True).stdout.decode().strip()
        for part in parts:
            on_disk = part in {"memory", "rules", "trail", "locks", "busy", "looks"}
            if (on_disk and name == "tmpfs") or (name == "xfs" and part != "redaction"):
                continue  # nothing of it hangs on the store; on xfs only copies go another way
            directory = place / part
            directory.mkdir(mode=0o711)
            directory.chmod(0o711)
            with Bench(directory) as bench:
                ON_STORES[part](session, "ext4" if where == "ext2/ext3" else where, bench)
            shutil.rmtree(directory)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    every = ["decisions", *ON_STORES]
    parser = argparse.ArgumentParser(prog="bench", description="measure policyfs beside native and bindfs")
    parser.add_argument("--only", nargs="+", choices=every, default=every, help="measure these parts only")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--known", type=int, default=KNOWN, help="files to walk over, for `memory`")
    return parser.parse_args(words)


def main() -> int:
    """Command line of the benchmark."""
    asked = arguments()
    if os.geteuid() != 0:
        print("bench: needs root", file=sys.stderr)
        return 1
    enter_private_namespace()
    directory = Path(tempfile.mkdtemp(prefix="policyfs-bench-"))
    directory.chmod(0o711)
    session = Session(directory, asked.known)
    try:
        print(f"Linux {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
        if "decisions" in asked.only:
            decisions(session)
        on_each_store(session, [part for part in ON_STORES if part in asked.only])
    finally:
        for name in ("tmpfs", "xfs"):
            tool_as(0, "umount", "-l", directory / name)
        shutil.rmtree(directory, ignore_errors=True)
        session.report.save(CHECKOUT / "build" / "bench.json")  # what there is, also of a broken run
    if asked.write:
        session.report.write_into(CHECKOUT / "docs" / "performance.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
