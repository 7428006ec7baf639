"""A file whose name is taken over again and again, by others than this mount, while an app opens it.

Natively open(2) finds the old or the new file. Here LOOKUP and OPEN are two requests, and the kernel asks
once more if the name leads elsewhere at the second: it must not lead elsewhere again.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_writing import STOPS
from tests.support.machine.processes import call_as, start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

PLAIN, VIEWER, WRITER = 10010, 10011, 10012
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  plain: {{uid: {PLAIN}, gid: {PLAIN}}}
  viewer: {{uid: {VIEWER}, gid: {VIEWER}}}
  writer: {{uid: {WRITER}, gid: {WRITER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - {{id: places, require: {{redact: [location]}}, who: {{app: viewer}}, paths: "/***"}}
  - {{id: kinds, require: {{content: [image/jpeg]}}, who: {{app: writer}}, paths: "/***"}}
"""
FAR_S: Final = 20.0
SECONDS: Final = 1.0
"""The time for which a test replaces a file all the time."""
Stopping = Callable[..., tuple[Mount, int, int]]
PHOTOS: Final = [
    jpegs.with_segments(jpegs.plain(number, 32), jpegs.exif_segment(jpegs.exif())) for number in range(4)
]

SIZED: Final = {
    size: jpegs.with_segments(jpegs.plain(1, side), jpegs.exif_segment(jpegs.exif()))
    for size, side in (("small", 32), ("large", 256))
}
"""Photos of two sizes."""


def _opens(channel: Connection, path: Path, flags: int) -> list[bytes | str]:
    """Open a file, over and over; what was in it each time, or the error."""
    seen: list[bytes | str] = []
    while channel.recv() is not None:
        try:
            fd = os.open(path, flags)
            seen.append(os.pread(fd, 1 << 16, 0))
            os.close(fd)
        except OSError as error:
            seen.append(errno.errorcode[error.errno or 0])
        channel.send("opened")
    return seen


def _opened(
    mount: Mount, uid: int, flags: int, says: int, hears: int, change: Callable[[int], object]
) -> list[bytes | str]:
    """What an app sees in a file that is changed at each try of each of its opens, between LOOKUP and OPEN.
    change: is told the number of the try."""
    opener, most = start_as(uid, _opens, mount / "photo", flags), 0
    for _ in range(5):
        opener.send("open")
        tries = 0
        while True:
            assert select.select([says, opener.channel], [], [], FAR_S)[0], "neither opening nor open"
            if opener.channel.poll():
                break
            os.read(says, 1)
            tries += 1
            change(tries)
            os.write(hears, b".")
        assert opener.receive() == "opened"
        most = max(most, tries)
    assert most == 2, "the kernel tries once more"
    opener.send(None)
    return opener.result()


def replace(path: Path, data: bytes) -> None:
    """Give a name another file."""
    other = path.with_name("next")
    other.write_bytes(data)
    other.chmod(0o666)
    other.rename(path)


@pytest.fixture
def stopping(mounts: Mounts, arena: Path, empty_store: Path) -> Iterator[Stopping]:
    """`stopping(options)`: a mount that stops at each open, and the fifos by which it says so and hears."""
    with ExitStack() as stack:

        def start(*options: str) -> tuple[Mount, int, int]:
            fifos = [arena / name for name in ("says", "hears")]
            for fifo in fifos:
                os.mkfifo(fifo)
            says, hears = (os.open(fifo, os.O_RDWR | os.O_NONBLOCK) for fifo in fifos)
            for fd in (says, hears):
                stack.callback(os.close, fd)
            replace(empty_store / "photo", PHOTOS[0])
            mount = mounts.prepare(POLICY, empty_store, *options)
            mount.program = ("tests.attack.weakened", "stops-before-open")
            mount.environment[STOPS] = ":".join(map(str, fifos))
            return mount.start(), says, hears

        yield start


ROADS: Final = {
    "raw": (PLAIN, os.O_RDONLY, ()),
    "raw, to write": (PLAIN, os.O_RDWR, ()),
    "redacted": (VIEWER, os.O_RDONLY, ()),
    "redacted, under a lease": (VIEWER, os.O_RDONLY, ("--copy-max", "64")),
    "checked": (WRITER, os.O_RDWR, ()),
    "an app mount": (PLAIN, os.O_RDONLY, ("--app", "plain")),
}


@pytest.mark.parametrize(
    ("road", "elsewhere"),
    [
        *((road, "the store") for road in ROADS),
        *(pytest.param(road, "another mount", marks=pytest.mark.night) for road in ("raw", "redacted")),
    ],
)
def test_a_name_taken_over_at_each_try_is_opened_all_the_same(
    stopping, mounts: Mounts, road: str, elsewhere: str
) -> None:
    uid, flags, options = ROADS[road]
    mount, says, hears = stopping(*options)
    mount.expected_mediated = True
    other = mounts.start(POLICY, mount.store) if elsewhere == "another mount" else None

    def take_over(tries: int) -> None:
        data = PHOTOS[tries % len(PHOTOS)]
        if other is None:
            replace(mount.store / "photo", data)
        else:
            call_as(PLAIN, replace, other / "photo", data)

    seen = _opened(mount, uid, flags, says, hears, take_over)
    assert not [one for one in seen if isinstance(one, str)], seen
    if uid == VIEWER:
        assert not any(jpegs.leaks(one) for one in seen)
    else:
        assert all(one in PHOTOS for one in seen)


@pytest.mark.parametrize("begins", SIZED)
def test_a_file_that_is_too_large_for_a_copy_at_every_other_try_is_opened_all_the_same(
    stopping, begins: str
) -> None:
    """It grows and shrinks in its place, as where a camera empties a photo and writes it anew."""
    mount, says, hears = stopping("--copy-max", str(len(SIZED["small"])))
    mount.expected_mediated = True
    sizes = ["small", "large"] if begins == "large" else ["large", "small"]

    def write(tries: int) -> None:
        (mount.store / "photo").write_bytes(SIZED[sizes[(tries - 1) % 2]])

    (mount.store / "photo").write_bytes(SIZED[begins])
    seen = _opened(mount, VIEWER, os.O_RDONLY, says, hears, write)
    assert not [one for one in seen if isinstance(one, str)], seen
    assert not any(jpegs.leaks(one) for one in seen)


def _opens_for(channel: Connection, path: Path) -> list[str]:
    """Open a file until told to end; the errors of these opens."""
    errors: list[str] = []
    channel.send("begun")
    while not channel.poll():
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            errors.append(errno.errorcode[error.errno or 0])
    return errors


@pytest.mark.parametrize("options", [(), ("--no-avc",)], ids=["vectors", "no vectors"])
def test_the_opens_of_one_app_take_nothing_from_the_second_try_of_another(
    mounts: Mounts, empty_store: Path, options: tuple[str, ...]
) -> None:
    replace(empty_store / "photo", PHOTOS[0])
    mount = mounts.start(POLICY, empty_store, *options)
    openers = [start_as(PLAIN, _opens_for, mount / "photo") for _ in range(3)]
    for opener in openers:
        assert opener.receive() == "begun"
    end_s = time.monotonic() + SECONDS
    while time.monotonic() < end_s:
        replace(empty_store / "photo", PHOTOS[1])
        time.sleep(0.0005)
    for opener in openers:
        opener.send("end")
    assert [opener.result() for opener in openers] == [[], [], []]
