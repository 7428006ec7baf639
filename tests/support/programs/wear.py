"""Attempts by one app to wear out a daemon that it shares with others, and an honest app's waiting times.

Each attempt is a function of (root, number, turn): the mount, which of the attacking processes, and how often
it went round before. Each of these processes calls it without a pause; its working directory is its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import subprocess
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.machine.counts import SOAK
from tests.support.machine.processes import start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.holdings import anonymous_memory
from tests.support.programs.fairness import QUIET, Flood, flooded_by, quantile

POLICY: Final = """
apiVersion: policyfs/v1
kind: Policy
metadata: {name: wear}
apps:
  quiet: {uid: 10010}
  hostile: {uid: 10020}
rules:
  - id: quiet.own
    allow: [all]
    who: {app: quiet}
    paths: ["/quiet/***"]
  - id: hostile.own
    allow: [all]
    who: {app: hostile}
    paths: ["/hostile/***"]
  - id: hostile.not-these
    deny: [create, write, delete]
    who: {app: hostile}
    paths: ["/hostile/**/refused-*", "/hostile/links/*"]
  - id: hostile.by-number
    allow: [see, read]
    who: {app: hostile}
    paths: ["/names/*-{uid}/**", "/names/{uid}*{uid}/*", "/names/*{app}*{uid}*/**"]
  - id: hostile.redacted
    require: {redact: [location]}
    who: {app: hostile}
    paths: ["/hostile/photos/**"]
  - id: hostile.checked
    require: {content: [text/plain]}
    who: {app: hostile}
    paths: ["/hostile/notes/**"]
"""
"""Two apps, of which neither sees the other's files."""

LONG: Final = b"\xff" * 250
"""A name as long as names are, and no UTF-8."""
TREE_LEVELS: Final = 8_000
PLACES: Final = ("deep", "links", "notes", "photos")
REFUSALS: Final = 64
LINKED: Final = b"of-many-names"
LOCKS: Final = 2_000 if SOAK else 500
"""Of each process."""


def furnish(store: Path, *, links: int) -> None:
    """Make what both apps have. links: hard links of one file."""
    store.mkdir(mode=0o700)
    for name in ("quiet", "hostile", "names", *(f"hostile/{of}" for of in PLACES)):
        (store / name).mkdir()
        (store / name).chmod(0o777)
    for number in range(16):
        (store / f"quiet/file{number}").write_bytes(b"quiet")
    (store / "hostile/locked").touch(mode=0o666)
    bomb = png_bomb()
    for of in range(8):
        (store / f"hostile/photos/bomb{of}.png").write_bytes(bomb)
        (store / f"hostile/photos/bomb{of}.png").chmod(0o666)
    _levels(store / "hostile/tree", TREE_LEVELS)
    _links(store / "hostile/links", links)


def _levels(top: Path, levels: int) -> None:
    """A directory with that many below each other, each called d."""
    top.mkdir()
    fd = os.open(top, os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        os.chmod("d", 0o777, dir_fd=fd)
        below = os.open("d", os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def _links(directory: Path, count: int) -> None:
    """One file under that many names."""
    fd = os.open(directory, os.O_DIRECTORY)
    os.close(os.open(LINKED, os.O_CREAT | os.O_WRONLY, 0o666, dir_fd=fd))
    for number in range(count - 1):
        os.link(LINKED, b"%05d" % number, src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)


def clear(store: Path) -> None:
    """Remove a store whatever its depth (shutil's own calls are as deep as the tree)."""
    subprocess.run(["rm", "-rf", "--", store], check=True, timeout=300)


def png_bomb(inflated_bytes: int = 1 << 28) -> bytes:
    """A picture of one pixel with compressed texts that inflate to that many bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9, wbits=-15)
    piece = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)  # may be repeated as it is
    pieces, sum_ = inflated_bytes >> 20, (inflated_bytes % 65521) << 16 | 1  # of zeros
    deflated = b"\x78\xda" + piece * pieces + packer.flush() + struct.pack(">I", sum_)
    text = b"XML:com.adobe.xmp\0\1\0\0\0" + deflated
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"iTXt", text), (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)


# ---------------------------------------------------------------- attempts


def deep(root: str, number: int, turn: int) -> None:
    """E1: one directory of a chain of long names; at the chain's end refusals, and a new chain."""
    if turn == 0:
        _new_chain(root, number, turn)
    try:
        os.mkdir(LONG)
        os.chdir(LONG)
    except OSError as error:
        if error.errno not in {errno.ENAMETOOLONG, errno.ENOENT}:
            raise
        for one in range(REFUSALS):
            with contextlib.suppress(OSError):
                os.mkdir(f"refused-{turn}-{one}")
        _new_chain(root, number, turn)


def _new_chain(root: str, number: int, turn: int) -> None:
    os.chdir(f"{root}/hostile/deep")
    name = f"{os.getpid()}-{number}-{turn}"
    os.mkdir(name)
    os.chdir(name)


def tree(root: str, number: int, turn: int) -> None:
    """E2: as far down a tree as it goes, and a change of names there."""
    if turn == 0:
        os.chdir(f"{root}/hostile/tree")
        with contextlib.suppress(OSError):
            while True:
                os.chdir("d")
    for path in (f"none-{turn}", "d", "."):
        with contextlib.suppress(OSError):
            os.stat(path)
    with contextlib.suppress(OSError):
        os.mkdir(f"made-{number}")
        os.rename(f"made-{number}", f"moved-{number}")
        os.rmdir(f"moved-{number}")
    with contextlib.suppress(OSError):
        os.listdir(".")


def links(root: str, number: int, turn: int) -> None:
    """E2: a file with thousands of names: names looked up, opens refused, a link made and taken away."""
    directory = f"{root}/hostile/links"
    names = [f"{directory}/{(turn * 50 + one) * 7 % 20_000:05}" for one in range(50)]
    for path in names:
        with contextlib.suppress(OSError):
            os.stat(path)
    for flags in (os.O_RDONLY, os.O_WRONLY):
        with contextlib.suppress(OSError):
            os.close(os.open(os.path.join(directory, os.fsdecode(LINKED)), flags))
    more = f"{root}/hostile/link-{number}"
    with contextlib.suppress(OSError):
        os.link(names[0], more)
        os.unlink(more)


def names(root: str, number: int, turn: int) -> None:
    """E3: names of long digits where rules have {uid} and {app}, a new one each time."""
    digits = f"{number}{turn:09}"
    for start in ("1" * 200, "10020" * 45, "1-" * 100, "hostile10020" * 15):
        name = start + digits
        with contextlib.suppress(OSError):
            os.stat(f"{root}/names/{name}/x")
        with contextlib.suppress(OSError):
            os.mkdir(f"{root}/names/{name}")


def bombs(root: str, number: int, turn: int) -> None:
    """E4: a picture that inflates without an end, a new version of it each time."""
    path = f"{root}/hostile/photos/bomb{number}.png"
    with contextlib.suppress(OSError):
        os.utime(path, ns=(turn, time.time_ns()))
        with open(path, "rb") as file:
            file.read(4096)


def locks(root: str, number: int, turn: int) -> None:
    """E5: thousands of locks of one byte each, all held at once."""
    fd = os.open(f"{root}/hostile/locked", os.O_RDWR)
    for one in range(LOCKS):
        with contextlib.suppress(OSError):
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, (number * LOCKS + one) * 2)
    os.close(fd)
    del turn


def denials(root: str, number: int, turn: int) -> None:
    """D2: refusals, of one name and of always another."""
    for name in ("refused-always", f"refused-{number}-{turn}"):
        with contextlib.suppress(OSError):
            os.mkdir(f"{root}/hostile/{name}")


ATTEMPTS: Final[dict[str, Flood]] = {
    one.__name__: one for one in (deep, tree, links, names, bombs, locks, denials)
}


# ---------------------------------------------------------------- both apps at work


def _honest(channel, root: str) -> None:
    """For so many seconds a message: opens, stats and writes now and then; the times of the calls in ns."""
    os.setsid()
    paths = [f"{root}/quiet/file{number}" for number in range(16)]
    while seconds := channel.recv():
        times, end, turn = [], time.monotonic() + seconds, 0
        while time.monotonic() < end:
            before = time.perf_counter_ns()
            fd = os.open(paths[turn % 16], os.O_RDONLY)
            times.append(time.perf_counter_ns() - before)
            os.close(fd)
            turn += 1
            time.sleep(0.002)
        channel.send(times)


@dataclass(frozen=True, slots=True)
class Wear:
    """Of one attempt. Times of the honest app's opens in µs; the rest of the daemon that is attacked.

    nodes: files and directories more that the kernel knows, at the end. trail_bytes: but for those of the
    honest app's opens, at what one is when it is alone. overflows: of the watch on the store, which lost
    events.
    """

    p99_alone: float
    p99_beside: float
    worst_beside: float
    opens: int
    turns: int
    seconds: float
    memory_bytes: int
    nodes: int
    overflows: int
    descriptors: int
    trail_bytes: int


def measure(hostile: Mount, quiet: Mount, attempt: str, *, processes: int, seconds: float) -> Wear:
    """The honest app alone for a while, then as long as *seconds* beside the attempt."""
    child = start_as(QUIET, _honest, str(quiet.mountpoint))

    def ask(for_s: float) -> Sequence[int]:
        child.send(for_s)
        return child.receive(for_s + 120)

    ask(0.2)
    began = trail_bytes(hostile)
    alone = ask(min(seconds, 10) / 4)
    of_an_open = (trail_bytes(hostile) - began) / len(alone)
    before = anonymous_memory(hostile.pid), trail_bytes(hostile), time.monotonic()
    nodes = hostile.status()["nodes"]
    with flooded_by(hostile, ATTEMPTS[attempt], processes, apart=True) as turns:
        beside = ask(seconds)
        memory = anonymous_memory(hostile.pid) - before[0]
        status, descriptors = hostile.status(), hostile.descriptors()
    grown, took = trail_bytes(hostile) - before[1], time.monotonic() - before[2]
    child.send(0)
    child.result(30)
    return Wear(
        p99_alone=quantile(alone, 0.99), p99_beside=quantile(beside, 0.99), worst_beside=max(beside) / 1000,
        opens=len(beside), turns=sum(turns), seconds=took, memory_bytes=memory,
        nodes=max(0, status["nodes"] - nodes), overflows=status["watch"]["overflows"],
        descriptors=descriptors, trail_bytes=grown - int(of_an_open * len(beside)),
    )  # fmt: skip


def trail_bytes(mount: Mount) -> int:
    """Bytes of all that a mount's trail holds."""
    return sum(file.stat().st_size for file in mount.trail_dir.rglob("*") if file.is_file())
