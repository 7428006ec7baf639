"""B6: an app that reads a large file without a pause keeps no writer of another mount out.

Such a file is read under a lease. The writer's daemon asks without waiting, every few milliseconds; here
it stops between two such questions until the reader has tried to get the lease again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_writing import STOPS, WAITS
from tests.attack.test_parsers import GALLERY, PHOTO
from tests.support.machine.processes import start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples.jpegs import leaks

EDITOR: Final = 10012
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  gallery: {{uid: {GALLERY}}}
  editor: {{uid: {EDITOR}, grants: [media.location]}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - {{id: no-location, require: {{redact: location}}, who: {{not: {{grant: media.location}}}}, paths: "/**"}}
"""
FAR_S: Final = 20.0
TIMES: Final = 10


def _reads(channel: Connection, path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    channel.send("open")
    while channel.recv() is not None:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            channel.send(bool(leaks(os.pread(fd, 1 << 16, 0))))
        except OSError as error:
            channel.send(error.errno)
    os.close(fd)


def _writes(channel: Connection, path: Path) -> None:
    os.close(os.open(path, os.O_RDWR))
    channel.send("in")


def questions(here: Mount, there: Mount, fifos: list[Path]) -> int:
    """How often the writer's daemon has to ask for the lease, of TIMES at most."""
    says, hears, rests = (os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in fifos)
    reader = start_as(GALLERY, _reads, here / "photo.jpg")
    reader.receive()
    reader.send("read")
    assert reader.receive() is False
    writer = start_as(EDITOR, _writes, there / "photo.jpg")
    asked, reading = 1, False
    try:
        while asked < TIMES:
            assert wait([says, writer.channel], FAR_S), "the writer's daemon is gone"
            if writer.channel.poll():
                break
            os.read(says, 1)
            if not reading:
                reader.send("read")
                reading = True
            assert wait([reader.channel, rests], FAR_S), "neither read nor resting"
            if reader.channel.poll():
                assert reader.receive() is False
                reading = False
            asked += 1
            os.write(hears, b".")
        return asked
    finally:
        os.write(hears, b"." * 1000)
        if reading:
            reader.receive()
        reader.send(None)
        reader.result()
        assert writer.receive() == "in"
        writer.result()
        for fd in (says, hears, rests):
            os.close(fd)


@pytest.fixture
def asked(mounts: Mounts, arena: Path, empty_store: Path) -> Callable[[str], int]:
    """`asked(guard)`: how often, where the reader's daemon lacks that guard."""
    fifos = [arena / name for name in ("says", "hears", "rests")]
    for fifo in fifos:
        os.mkfifo(fifo)
    (empty_store / "photo.jpg").write_bytes(PHOTO)
    (empty_store / "photo.jpg").chmod(0o666)

    def start(guard: str) -> int:
        made = []
        for guards in (f"says-that-it-rests,{guard}".strip(","), "stops-between-probes"):
            mount = mounts.prepare(POLICY, empty_store, "--copy-max", "64")
            mount.expected_mediated = True
            mount.program = ("tests.attack.weakened", guards)
            mount.environment |= {STOPS: f"{fifos[0]}:{fifos[1]}", WAITS: str(fifos[2])}
            made.append(mount.start())
        return questions(*made, fifos)

    return start


def test_who_reads_without_a_pause_keeps_no_writer_out(asked) -> None:
    assert asked("") <= 2


def test_the_writer_is_kept_out_where_the_lease_is_taken_again_at_once(asked) -> None:
    assert asked("never-rests") == TIMES
