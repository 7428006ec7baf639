"""C1 by two apps: a write of one is judged while the other, in another view or mount, empties the file.

Both may write photos and nothing else. One writes words behind the beginning of a photo, which is still a
photo then; the other takes the beginning away at that very moment. Neither may leave words alone. A try
counts if the first daemon stood where it says it did when the other app asked.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import pytest

from tests.attack.guards_writing import STOPS, WAITS
from tests.support.machine.counts import count
from tests.support.machine.processes import Child, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, open_handles
from tests.support.samples import jpegs

WRITER, CUTTER = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  writer: {{uid: {WRITER}, gid: {WRITER}}}
  cutter: {{uid: {CUTTER}, gid: {CUTTER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - {{id: photos, require: {{content: [image/jpeg]}}, paths: "/**"}}
  - {{id: view, require: {{redact: [location]}}, who: {{app: cutter}}, paths: "/**"}}
"""
PHOTO: Final = jpegs.plain(1, 64)
LONG: Final = PHOTO[:-2] + b"\0" * 100_000 + b"\xff\xd9"
WORDS: Final = b"words and no picture"
FAR_S: Final = 20.0

WRITES: Final[dict[str, tuple[bytes, Callable[[int], object]]]] = {
    "in the head": (PHOTO, lambda fd: os.pwrite(fd, WORDS, 40)),
    "behind the head": (LONG, lambda fd: os.pwrite(fd, WORDS, 90_000)),
    "longer": (PHOTO, lambda fd: os.ftruncate(fd, 70_000)),
    "reserved": (PHOTO, lambda fd: os.posix_fallocate(fd, 0, 70_000)),
}
"""What the writer does with which file."""

CUTS: Final[dict[str, Callable[[Path], object]]] = {
    "O_TRUNC": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    "O_RDONLY|O_TRUNC": lambda path: os.close(os.open(path, os.O_RDONLY | os.O_TRUNC)),
    "truncate": lambda path: os.truncate(path, 0),
}


def _does(channel: Connection, path: Path, calls: dict[str, Callable[[Any], object]], opens: bool) -> None:
    """Make the calls one is told to, and say how they ended."""
    while (name := channel.recv()) is not None:
        try:
            on: Any = os.open(path, os.O_RDWR) if opens else path
            try:
                calls[name](on)
            finally:
                if opens:
                    os.close(on)  # its RELEASE ends a draft
            channel.send("done")
        except OSError as error:
            channel.send(errno.errorcode[error.errno or 0])


class Race:
    """Two apps at one file, each through its own mount; the writer's daemon stops at each change."""

    def __init__(self, here: Mount, there: Mount, fifos: list[Path]) -> None:
        self.stored, self.written = here.store / "photo", here
        self.says, self.hears, self.waits = (os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in fifos)
        writes = {name: call for name, (_, call) in WRITES.items()}
        self.writer = start_as(WRITER, _does, here / "photo", writes, True)
        self.cutter = start_as(CUTTER, _does, there / "photo", CUTS, False)

    def close(self) -> None:
        """Let everybody go."""
        os.write(self.hears, b"." * 1000)
        for child in (self.writer, self.cutter):
            child.send(None)
            child.result()
        for fd in (self.says, self.hears, self.waits):
            os.close(fd)

    def turn(self, write: str, cut: str) -> tuple[str, str, bytes]:
        """One try: how the write and the cut ended, and what is in the store then."""
        self._released()
        self.stored.write_bytes(WRITES[write][0])
        self.writer.send(write)
        self._stopped()
        self.cutter.send(cut)
        self._told(self.cutter, self.waits)
        wrote = self._gone_on()
        cut_ended = self.cutter.receive()
        with contextlib.suppress(BlockingIOError):
            os.read(self.waits, 4096)
        return wrote, cut_ended, self.stored.read_bytes()

    def _released(self) -> None:
        """Wait for the RELEASE of the last try, after its close(): until then a write joins its draft."""
        wait_for(lambda: open_handles(self.written.status()) == 0, "the last try released", FAR_S)

    def _stopped(self) -> None:
        assert wait([self.says], FAR_S), "the writer's daemon does not come so far"
        os.read(self.says, 1)

    def _told(self, child: Child, *fifos: int) -> None:
        """Until the child is done, or one of these says something."""
        assert wait([child.channel, *fifos], FAR_S), "neither done nor waiting"

    def _gone_on(self) -> str:
        """The writer's daemon goes on, as often as it stops, until the writer has an answer."""
        os.write(self.hears, b".")
        while True:
            self._told(self.writer, self.says)
            if self.writer.channel.poll():
                return str(self.writer.receive())
            self._stopped()
            os.write(self.hears, b".")


@pytest.fixture
def racing(mounts: Mounts, arena: Path, empty_store: Path) -> Iterator[Callable[..., Race]]:
    """`racing(where, apart)`: the race, with a writer's daemon that stops there and has these guards out."""
    fifos = [arena / name for name in ("says", "hears", "waits")]
    for fifo in fifos:
        os.mkfifo(fifo)
    (empty_store / "photo").write_bytes(PHOTO)
    (empty_store / "photo").chmod(0o666)
    races: list[Race] = []

    def start(where: str, out: str = "", *, apps: bool = False, one: bool = False) -> Race:
        made = []
        each = (("writer", [out, where]), ("cutter", [out, "says-that-it-waits"]))
        for app, guards in each[:1] if one else each:
            mount = mounts.prepare(POLICY, empty_store, *(("--app", app) if apps else ()))
            mount.program = ("tests.attack.weakened", ",".join(filter(None, guards)))
            mount.environment |= {STOPS: f"{fifos[0]}:{fifos[1]}", WAITS: str(fifos[2])}
            made.append(mount.start())
        races.append(Race(made[0], made[-1], fifos))
        return races[-1]

    yield start
    for race in races:
        race.close()


def wrong(left: bytes) -> bool:
    """Is it something that neither app may leave."""
    return bool(left) and not left.startswith(PHOTO[:20])


@pytest.mark.parametrize(
    ("where", "apps"), [("stops-when-judged", False), ("stops-when-looked", True)], ids=["shared", "apps"]
)
def test_what_is_judged_in_one_mount_is_not_undone_in_another(racing, where: str, apps: bool) -> None:
    """Attack C1.4: The same through two mounts of the store
    Guard: policyfs/fs/checked/head_writes.py::Checker._is_still,
    policyfs/store/locking/latches.py::Latches.take
    Also: tests/unit/test_store_locking_latches.py
    Without: ::test_words_are_left_where_daemons_do_not_look_again_or_do_not_wait
    """
    race = racing(where, apps=apps)
    ways = [(write, cut) for write in WRITES for cut in CUTS]
    for number in range(count(36, 2500)):
        write, cut = ways[number % len(ways)]
        wrote, cut_ended, left = race.turn(write, cut)
        assert not wrong(left), (write, cut, left[:60])
        assert cut_ended == "done", (write, cut)
        assert wrote in {"done", "EPERM", "ENOTSUP"}, (write, cut)


@pytest.mark.parametrize(
    ("where", "out"), [("stops-when-judged", "not-looked-again"), ("stops-when-looked", "latches-open")]
)
def test_words_are_left_where_daemons_do_not_look_again_or_do_not_wait(racing, where: str, out: str) -> None:
    race = racing(where, out)
    left = [race.turn(write, "O_RDONLY|O_TRUNC")[2] for write in WRITES for _ in range(2)]
    assert all(wrong(one) for one in left[:4]), left


def test_what_is_judged_in_one_view_is_not_undone_in_another(racing) -> None:
    """Attack C1.3: Use two apps with different views of one file: one app empties the file while the daemon
    judges a write of the other app
    Guard: policyfs/fs/opening/lifecycle.py::Lifecycle.enter, and
    policyfs/fs/checked/head_writes.py::Checker._is_still by itself
    Also:
    tests/unit/test_fs_checked_head_writes.py::test_a_write_judged_in_one_view_does_not_follow_the_end_of_the_bytes_in_another,
    tests/unit/test_fs_checked_head_writes.py::test_two_writes_judged_by_two_names_are_not_laid_over_each_other
    Without: ::test_words_are_left_where_each_view_has_a_lock_of_its_own
    """
    race = racing("stops-while-judging,says-before-emptying", one=True)
    for number in range(count(60, 5000)):
        write = ("in the head", "longer")[number % 2]
        wrote, cut_ended, left = race.turn(write, "O_RDONLY|O_TRUNC")
        assert (wrote, cut_ended, left) == ("done", "done", b"")


def test_words_are_left_where_each_view_has_a_lock_of_its_own(racing) -> None:
    """And where nobody looks again: one of the two guards is enough."""
    race = racing("stops-while-judging,says-before-emptying", "lock-of-its-own,not-looked-again", one=True)
    assert any(wrong(race.turn("in the head", "O_RDONLY|O_TRUNC")[2]) for _ in range(10))
