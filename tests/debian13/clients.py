"""Programs that use a mount while package.sh changes the package under it.

    clients.py run MOUNT STORE REPORTS [WORD]     four processes, until the file REPORTS/stop exists
    clients.py check MOUNT STORE REPORTS WORD     what they have done since the last check

MOUNT has note.txt, photo.jpg and the directory inbox; STORE is the directory behind it. The reader keeps one
descriptor and one mapping of each file, and the writer one descriptor, from the start to the end. Both
commands end with 1 if a call failed, a byte was another, or a process ended. Needs root, and Python alone.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

GALLERY: Final = 10011
UPLOADER: Final = 10012
"""The uids of the policy's apps: the gallery reads, the uploader writes."""
PAUSE_S: Final = 0.01
ROUNDS: Final = 50
"""Each process makes so many rounds before a check looks at it, so that it has used the daemon of then."""
PATIENCE_S: Final = 60.0
FILES: Final = ("note.txt", "photo.jpg")


class ClientError(Exception):
    """A call gave another result than before."""


def text(number: int) -> bytes:
    """Return the content of the writer's file of this number: 1 to 64 KiB of text."""
    line = hashlib.sha256(str(number).encode()).hexdigest().encode() + b"\n"
    return line * (16 << number % 7)


def whole(descriptor: int) -> bytes:
    """Return all bytes of an open file, without its position."""
    return os.pread(descriptor, 1 << 24, 0)


def reader(mount: Path, _reports: Path) -> Iterator[None]:
    """Read by descriptors and mappings that stay."""
    held = []
    for name in FILES:
        descriptor = os.open(mount / name, os.O_RDONLY)
        mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        held.append((name, descriptor, mapped, whole(descriptor), os.fstat(descriptor).st_ino))
    while True:
        for name, descriptor, mapped, first, inode in held:
            # The kernel forgets the pages: a read and the mapping ask the daemon once more.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if whole(descriptor) != first or mapped[:] != first:
                raise ClientError(f"the open {name} has other bytes")
            if os.fstat(descriptor).st_ino != inode:
                raise ClientError(f"the open {name} is another inode")
        yield


def opener(mount: Path, _reports: Path) -> Iterator[None]:
    """Stat, list, open and read, and look for an absent name."""
    first = {name: (mount / name).read_bytes() for name in FILES}
    while True:
        for name, content in first.items():
            if (mount / name).stat().st_size != len(content) or (mount / name).read_bytes() != content:
                raise ClientError(f"{name} has other bytes")
        if not {*FILES, "inbox"} <= set(os.listdir(mount)):
            raise ClientError("a listing lacks names")
        try:
            (mount / "absent").stat()
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        else:
            raise ClientError("an absent name is there")
        yield


def writer(mount: Path, reports: Path) -> Iterator[None]:
    """Write files, give them their names, and replace one; REPORTS/acknowledged has what was done.

    Each file is read once more under its last name. `log` grows by a descriptor that stays.
    """
    inbox = mount / "inbox"
    log = os.open(inbox / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with (reports / "acknowledged").open("a", encoding="utf-8") as acknowledged:
        number = 0
        while True:
            number += 1
            for place in (inbox / str(number), inbox / "latest"):
                part = place.with_suffix(".part")
                part.write_bytes(text(number))
                part.rename(place)
                if place.read_bytes() != text(number):
                    raise ClientError(f"{place.name} has other bytes than were written")
            os.write(log, b"%d\n" % number)
            (inbox / "short").touch()
            (inbox / "short").unlink()
            acknowledged.write(f"{number}\n")
            acknowledged.flush()
            yield


def day(mount: Path, reports: Path) -> Iterator[None]:
    """Have programs unpack a tree, and copy, compare, search, move and remove it."""
    tree = reports / "tree"
    for number in range(40):
        (tree / f"Album {number % 4}").mkdir(parents=True, exist_ok=True)
        (tree / f"Album {number % 4}" / str(number)).write_bytes(text(number))
    place = mount / "inbox/day"
    steps = (
        "mkdir -p {place}", "tar -C {tree} -cf {place}/tree.tar .", "mkdir {place}/tree",
        "tar -C {place}/tree -xf {place}/tree.tar", "diff -r {tree} {place}/tree",
        "cp -a {place}/tree {place}/copy", "find {place} -type f -newermt 2001-01-01",
        "mv {place}/copy {place}/moved", "diff -r {tree} {place}/moved", "chmod -R go-w {place}/moved",
        "sha256sum {place}/tree.tar", "rm -r {place}",
    )  # fmt: skip
    subprocess.run(["rm", "-rf", place], check=True)  # of a round that failed
    while True:
        for step in steps:
            words = [word.format(tree=tree, place=place) for word in step.split()]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode or done.stderr:
                raise ClientError(f"{step}: exit {done.returncode}, {done.stderr[:200]}")
            yield


ROLES: Final[dict[str, tuple[int, Callable[[Path, Path], Iterator[None]]]]] = {
    "reader": (GALLERY, reader), "opener": (GALLERY, opener), "writer": (UPLOADER, writer),
    "day": (UPLOADER, day),
}  # fmt: skip


def report(reports: Path, role: str, rounds: int, failed: list[str]) -> None:
    """Replace the report of a process."""
    found = {"pid": os.getpid(), "rounds": rounds, "failed": len(failed), "first": failed[:1]}
    new = reports / f"{role}.new"
    new.write_text(json.dumps(found), encoding="utf-8")
    new.rename(reports / role)


def client(role: str, mount: Path, reports: Path) -> int:
    """Be one of the processes until REPORTS/stop exists; returns its exit code.

    After a failure it goes on, by what it holds open where that is possible, so that failures are counted.
    """
    uid, work = ROLES[role]
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    rounds, failed = 0, list[str]()
    steps = work(mount, reports)
    while not (reports / "stop").exists():
        try:
            next(steps)
            rounds += 1
        except (OSError, ClientError, StopIteration) as error:
            failed.append(f"{type(error).__name__}: {error}")
            steps = work(mount, reports)
        report(reports, role, rounds, failed)
        time.sleep(PAUSE_S)
    return bool(failed)


def run(mount: Path, reports: Path) -> int:
    """Run the processes; returns 1 if one failed."""
    reports.mkdir()
    reports.chmod(0o1777)
    children = []
    for role in ROLES:
        if not (pid := os.fork()):
            os._exit(client(role, mount, reports))
        children.append(pid)
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in children)


def reported(reports: Path, role: str) -> dict[str, object]:
    """Return the report of a process; one without rounds, if there is none."""
    try:
        found: dict[str, object] = json.loads((reports / role).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"pid": 0, "rounds": 0, "failed": 0, "first": []}
    return found


def rounds_of(reports: Path, role: str) -> int:
    """Return how many rounds a process has made."""
    return int(str(reported(reports, role)["rounds"]))


def wait_for_rounds(reports: Path) -> Iterator[str]:
    """Yield what is wrong, once each process has made ROUNDS more rounds; prints how many it has made."""
    ends = time.monotonic() + PATIENCE_S
    wanted = {role: rounds_of(reports, role) + ROUNDS for role in ROLES}
    while any(rounds_of(reports, role) < least for role, least in wanted.items()) and time.monotonic() < ends:
        time.sleep(PAUSE_S)
    first = reports / "pids"  # of the first check
    found = {role: reported(reports, role) for role in ROLES}
    if not first.exists():
        first.write_text(json.dumps({role: of["pid"] for role, of in found.items()}), encoding="utf-8")
    pids = json.loads(first.read_text(encoding="utf-8"))
    for role, of in found.items():
        if of["failed"]:
            yield f"{role}: {of['failed']} calls failed, the first: {of['first']}"
        if rounds_of(reports, role) < wanted[role]:
            yield f"{role}: no {ROUNDS} rounds in {PATIENCE_S:.0f} s"
        if of["pid"] != pids[role] or not Path(f"/proc/{of['pid']}/fd").exists():
            yield f"{role}: it has ended, or is another process"
    print(", ".join(f"{role} {of['rounds']} rounds" for role, of in found.items()), end="")


def lost(store: Path, reports: Path) -> Iterator[str]:
    """Yield acknowledged files that the store lacks or has with other bytes; prints how many there are."""
    numbers = [int(line) for line in (reports / "acknowledged").read_text(encoding="utf-8").split()]
    inbox = store / "inbox"
    for number in numbers:
        try:
            if (inbox / str(number)).read_bytes() != text(number):
                yield f"the file {number} has other bytes"
        except OSError as error:
            yield f"the file {number}: {error}"
    logged = [int(line) for line in (inbox / "log").read_bytes().split(b"\n")[:-1]]
    if logged[: len(numbers)] != numbers:
        yield "the log has other lines than were written"
    print(f", {len(numbers)} files whole", end="")


def check(store: Path, reports: Path, word: str) -> int:
    """Print what the processes have done until now; returns 1 if something is wrong."""
    print(f"clients, {word}: ", end="")
    wrong = [*wait_for_rounds(reports), *lost(store, reports)]
    print("; 0 calls failed" if not wrong else "")
    for line in wrong[:10]:
        print(f"clients.py: {line}", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        sys.exit(run(Path(sys.argv[2]), Path(sys.argv[3])))
    sys.exit(check(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
