"""F2: kinds that are remembered, or were just found, while somebody writes the file through a mapping."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import time
from collections.abc import Callable, Iterator
from itertools import product
from multiprocessing.connection import wait
from pathlib import Path
from typing import Final, TypeVar

import pytest

from policyfs.content.cache import RACY_NS
from tests.attack.guards_writing import STOPS
from tests.attack.racing import ALL, Race, Seen
from tests.support.machine.counts import SOAK, count
from tests.support.machine.processes import Child, call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs
from tests.support.samples.carriers import HEADER_BYTES, LAYOUTS

Result = TypeVar("Result")
EDITOR, READER = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  editor: {{uid: {EDITOR}}}
  reader: {{uid: {READER}}}
rules:
  - {{id: editor, allow: [all], who: {{app: editor}}, paths: "/**"}}
  - {{id: names, allow: [see], paths: "/**"}}
  - id: words
    allow: [read, write, delete]
    who: {{app: reader}}
    paths: "/words/**"
    when: {{type: text/*}}
  - {{id: box, allow: [all], who: {{app: reader}}, paths: "/box/**"}}
"""
PHOTO: Final = jpegs.photo_with(jpegs.exif()).ljust(16 * 1024, b"\0")
TEXT: Final = (b"plain words, one line after the other\n" * 500)[: len(PHOTO)]
assert len(TEXT) == len(PHOTO)
TRIES: Final = count(4, 5_000)
RACED: Final = count(40, 5_000)
SECRET: Final = b"\0a place, told in a photo\0"
SECONDS: Final = count(100, 3_600)
FAR_S: Final = 20.0
NOTICED: Final = 5
"""Tries, for the kernel may write the page out meanwhile (after 30 s), and then the times show the store."""
pytestmark = pytest.mark.timeout(2 * SECONDS + 120)
MOUNTS: Final = {"shared": (), "app": ("--app", "reader")}
PLACES: Final = [("ext4", "shared"), ("xfs", "app")]
if SOAK:
    PLACES[:] = product(("ext4", "xfs", "tmpfs"), MOUNTS)


def _painter(channel, path: Path, keep: bool) -> None:
    """Makes the file what it is told through a mapping that it keeps, or (keep=False) has for each store
    alone; says the file's times then. A page is read before it is written."""
    memory: mmap.mmap | None = None
    while (image := channel.recv()) is not None:
        if memory is None:
            fd = os.open(path, os.O_RDWR)
            memory = mmap.mmap(fd, 0)
            os.close(fd)
        assert memory[0] is not None
        memory[: len(image)] = image
        if not keep:
            memory.close()
            memory = None
        stat = os.stat(path)
        channel.send((stat.st_mtime_ns, stat.st_ctime_ns))


@contextlib.contextmanager
def painter(path: Path, *, keep: bool = True) -> Iterator[Callable[[bytes], object]]:
    """A writer at the store: `paint(image)` returns the file's times afterwards."""
    child = start_as(EDITOR, _painter, path, keep)

    def paint(image: bytes) -> object:
        child.send(image)
        return child.receive()

    try:
        yield paint
    finally:
        child.send(None)
        child.result()


def shelf(store: Path) -> Path:
    """The file of words in a store whose parts the editor may change there."""
    store.chmod(0o777)
    for name in ("words", "box"):
        (store / name).mkdir()
        (store / name).chmod(0o777)
    path = store / "words/a.txt"
    path.write_bytes(TEXT)
    path.chmod(0o666)
    return path


def aged(path: Path) -> None:
    """Wait until the file is too old to change once more within one tick of the clock."""
    changed = path.stat().st_ctime_ns
    wait_for(lambda: time.time_ns() - changed > 2 * RACY_NS, "the clock to go on")


def what_is_read(path: Path) -> str:
    """What a reader gets: "words", "photo", or the error's name."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return errno_name(error)
    assert data in (TEXT, PHOTO), "torn"
    return "words" if data == TEXT else "photo"


def errno_name(error: OSError) -> str:
    return os.strerror(error.errno or 0)


def read(mount: Mount) -> str:
    """As the reader, through the mount."""
    return call_as(READER, what_is_read, mount / "words/a.txt")


DENIED: Final = "Permission denied"


def become_photo(
    paint: Callable[[bytes], object], path: Path, between: Callable[[], Result], *, noticed: bool = False
) -> Result:
    """Make words a photo without a trace in the file's times; `between` runs before, and again if the page
    was written out meanwhile. noticed: the store may notice."""
    for _ in range(NOTICED):
        before = paint(TEXT)
        aged(path)
        got = between()
        if paint(PHOTO) == before or noticed:
            return got
    raise AssertionError("the store noticed each time: nothing was tried")


def dirty_page(mount: Mount, path: Path, *, noticed: bool = False) -> list[str]:
    """What the reader gets of words, and of what they became without a trace in the file's times."""
    with painter(path) as paint:
        got = become_photo(paint, path, lambda: [read(mount), read(mount)], noticed=noticed)
        return [*got, read(mount)]


@pytest.mark.parametrize(("kind", "sort"), PLACES)
def test_a_page_that_is_dirty_already(kind, sort, store_on, mounts_on) -> None:
    """Attack F2.1: Write through a mapping whose page is already dirty, so that the daemon uses the file's
    old kind: now, and after a remount
    Guard: policyfs/fs/access/facts.py::FactFinder.kind_of
    Also: ::test_a_remembered_kind_after_a_remount
    Without: ::test_a_page_that_is_dirty_already_is_read_where_stat_is_believed
    """
    store = store_on(kind)
    path = shelf(store)
    mount = mounts_on.start(POLICY, store, *MOUNTS[sort])
    # A clone makes xfs write the page out, and then the next store changes the times.
    assert dirty_page(mount, path, noticed=kind == "xfs") == ["words", "words", DENIED]
    with painter(path) as paint:
        paint(TEXT)
        assert read(mount) == "words"
    assert read(mount) == "words"
    again = mounts_on.start(POLICY, store, *MOUNTS[sort])
    assert dirty_page(again, path, noticed=kind == "xfs") == ["words", "words", DENIED]


@pytest.mark.parametrize(("kind", "sort"), PLACES)
def test_a_page_that_is_dirty_already_is_read_where_stat_is_believed(kind, sort, store_on, without) -> None:
    store = store_on(kind)
    path = shelf(store)
    mount = without("kind-by-stat", POLICY, store, *MOUNTS[sort])
    assert dirty_page(mount, path) == ["words", "words", "photo"]


def test_a_remembered_kind_after_a_remount(store_on, mounts_on, without) -> None:
    """Found under a lease it is kept over a restart; what was found while somebody wrote is not."""
    store = store_on("ext4")
    path = shelf(store)
    aged(path)
    asked = []
    for _ in range(2):
        mount = mounts_on.start(POLICY, store)
        assert read(mount) == "words"
        asked.append(mount.status()["sniffer"]["requests"])
        mount.stop()
    assert asked == [1, 0], "what was found under a lease is not looked for again"
    for guard, expected in (("kind-by-stat", "photo"), ("", DENIED)):
        with painter(path) as paint:


            def once(guard: str = guard) -> str:
                mount = without(guard, POLICY, store) if guard else mounts_on.start(POLICY, store)
                got = read(mount)
                mount.stop()
                return got

            assert become_photo(paint, path, once) == "words"
            assert once() == expected


@pytest.mark.parametrize(("guard", "got"), [("", DENIED), ("times-always-tell", "photo")])
def test_a_writer_that_came_and_went_without_a_trace(guard, got, store_on, mounts_on, without) -> None:
    """On tmpfs a page that a mapping has read is written by it and no time changes.

    Attack F2.5: Write and close on a store whose times do not show the write (tmpfs), so that the daemon
    uses an old kind or an old plan
    Guard: policyfs/store/trial.py::probe
    Also: tests/attack/test_remembered.py::test_a_writer_that_has_gone_without_a_trace
    Without: ::test_a_writer_that_came_and_went_without_a_trace,
    tests/attack/test_remembered.py::test_a_writer_that_has_gone_without_a_trace
    """
    store = store_on("tmpfs")
    path = shelf(store)
    aged(path)
    mount = without(guard, POLICY, store) if guard else mounts_on.start(POLICY, store)
    assert [read(mount), read(mount)] == ["words", "words"]
    before = path.stat().st_mtime_ns, path.stat().st_ctime_ns
    with painter(path, keep=False) as paint:
        assert paint(PHOTO) == before, "the store noticed: nothing is tried here"
    assert read(mount) == got


class Moments:
    """A daemon that stops at certain moments, and what is done there."""

    def __init__(self, guard: str, store: Path, mounts, work: Path, *options: str) -> None:
        names = [work / f"{name}-{len(mounts.all)}" for name in ("says", "hears")]
        for name in names:
            os.mkfifo(name)
        self._says, self._hears = (os.open(name, os.O_RDWR | os.O_CLOEXEC) for name in names)
        self.mount = mounts.prepare(POLICY, store, *options)
        self.mount.program = ("tests.attack.weakened", guard)
        self.mount.environment[STOPS] = ":".join(map(str, names))
        self.mount.start()

    def read(self, at_stop: Callable[[int], None]) -> tuple[str, int]:
        """What the reader gets, and how often the daemon stopped on the way."""
        child = start_as(READER, lambda _channel: what_is_read(self.mount / "words/a.txt"))
        stops = 0
        while True:
            ready = wait([self._says, child.channel], FAR_S)
            assert ready, "neither a stop nor an answer"
            if self._says in ready:
                os.read(self._says, 1)
                at_stop(stops)
                stops += 1
                os.write(self._hears, b".")
            else:
                return child.result(), stops

    def close(self) -> None:
        for fd in (self._says, self._hears):
            os.close(fd)


@pytest.fixture
def moments(mounts_on, arena) -> Iterator[Callable[..., Moments]]:
    """`moments(guards, store, *options)`: a running daemon that stops at moments."""
    made = []

    def start(guard: str, store: Path, *options: str) -> Moments:
        made.append(Moments(guard, store, mounts_on, arena, *options))
        return made[-1]

    yield start
    for one in made:
        one.close()


def other(image: bytes) -> bytes:
    return TEXT if image is PHOTO else PHOTO


def tried(at: Moments, path: Path, tries: int, *, keep: bool) -> tuple[list[str], int]:
    """What was read in so many tries in each of which somebody wrote while the daemon had found a kind."""
    got, entered, image = [], 0, TEXT
    with painter(path, keep=keep) as paint:
        paint(image)

        def turn(_stop: int) -> None:
            nonlocal image
            image = other(image)
            paint(image)

        deadline = time.monotonic() + SECONDS
        while entered < tries:
            assert time.monotonic() < deadline, "too slow"
            said, stops = at.read(turn)
            if stops:
                got.append(said)
                entered += 1
    return got, entered


@pytest.mark.parametrize(("kind", "sort"), PLACES)
def test_who_writes_while_a_kind_is_found_is_not_read(kind, sort, store_on, moments) -> None:
    """By a mapping that was there before, and by one that comes and goes in between.

    Attack F2.2: Write while the daemon finds the kind, or after that, until the open ends: by a lasting
    mapping, or by one that comes and goes
    Guard: policyfs/fs/opening/preconditions.py::Preconditions.demand_proof
    Also: ::test_no_pass_over_a_file_of_changing_kind_sees_a_photo,
    tests/attack/test_kinds_without_proof.py::test_where_leases_mean_nothing_a_copy_is_read,
    tests/attack/test_kinds_without_proof.py::test_without_passthrough_and_where_writes_are_checked
    Without: ::test_a_photo_is_seen_where_the_kind_is_not_proven
    """
    store = store_on(kind)
    path = shelf(store)
    at = moments("stops-when-sniffed", store, *MOUNTS[sort])
    for keep in (True, False):
        got, _ = tried(at, path, TRIES, keep=keep)
        assert set(got) <= {"words", DENIED}, got
    weak = moments("stops-when-sniffed,unproven-kind", store, *MOUNTS[sort])
    for keep in (True, False):
        got, _ = tried(weak, path, 2, keep=keep)
        assert "photo" in got, got


@pytest.mark.parametrize(("guards", "waits"), [("", True), (",kind-lease-let-go", False)])
def test_who_comes_to_write_waits_until_the_open_is_answered(guards, waits, store_on, moments) -> None:
    """Attack F2.3: Open for writing between the end of the daemon's open and its answer
    Guard: policyfs/fs/access/kind_proof.py::KindEvidence.close_later
    """
    store = store_on("ext4")
    path = shelf(store)
    aged(path)
    at = moments(f"stops-when-opened{guards}", store)
    writers: list[Child] = []
    waited = []

    def write(channel) -> None:
        with path.open("r+b") as file:
            file.write(PHOTO)
        channel.send("written")

    def come(_stop: int) -> None:
        writers.append(start_as(EDITOR, write))
        waited.append(not writers[0].channel.poll(0.5 if waits else FAR_S))

    said, stops = at.read(come)
    assert (stops, waited) == (1, [waits])
    # What is written after the open is read by whoever has it open; who was sent to a copy is denied.
    assert said in ("words", "photo", DENIED)
    writers[0].result()
    assert at.read(lambda _stop: None) == (DENIED, 0)


def code_of_open(path: Path, flags: int) -> str:
    """What an open says; "" if it is allowed."""
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def moved(change: Callable[..., None], *paths: Path) -> str:
    """What a rename, link or unlink says."""
    try:
        change(*paths)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def test_what_else_hangs_on_a_kind(store_on, mounts_on, without) -> None:
    """Writing, removing and moving: nothing is granted for what the file was before somebody wrote.

    Attack F2.4: Have a file renamed, linked, removed or opened for writing by its old kind; move a file
    while a writer has it open to change the file's kind
    Guard: policyfs/fs/checked/move_proof.py::decide_rename,
    policyfs/fs/checked/move_proof.py::decide_link, policyfs/fs/access/facts.py::FactFinder.kind_of
    """
    store = store_on("ext4")
    path = shelf(store)
    mount = mounts_on.start(POLICY, store, "--copy-max", "4K")
    weak = without("kind-by-stat", POLICY, store, "--copy-max", "4K")
    there, out = mount / "words/a.txt", mount / "box/a.txt"
    with painter(path) as paint:
        paint(TEXT)
        aged(path)
        for one in (mount, weak):
            assert call_as(READER, code_of_open, one / "words/a.txt", os.O_WRONLY) == ""

        def of_words() -> None:
            assert call_as(READER, code_of_open, weak / "words/a.txt", os.O_RDONLY) == ""
            # Too large to copy, and a reader that writes cannot be shown a copy.
            assert call_as(READER, code_of_open, there, os.O_RDONLY) == "EBUSY"
            assert call_as(READER, code_of_open, there, os.O_RDWR) == "EBUSY"
            # Its writers would come along to where anything may be read.
            assert call_as(READER, moved, os.rename, there, out) == "EXDEV"

        become_photo(paint, path, of_words)
        assert call_as(READER, code_of_open, there, os.O_WRONLY) == "EACCES"
        assert call_as(READER, moved, os.unlink, there) == "EACCES"
        assert call_as(READER, moved, os.rename, there, out) == "EACCES"
        assert call_as(READER, moved, os.rename, weak / "words/a.txt", weak / "box/a.txt") == ""
    refused = mount.events(app="reader", operation="open", decision="deny")
    assert any("open for writing, or mapped" in event.get("note", "") for event in refused), refused
    (store / "box/a.txt").unlink()
    path.write_bytes(TEXT)
    path.chmod(0o666)
    assert call_as(READER, code_of_open, there, os.O_RDWR) == ""
    assert call_as(READER, moved, os.rename, there, out) == ""


def forms() -> list[bytes]:
    """One file in LAYOUTS forms of equal size: words, and a photo that tells SECRET, in turns."""
    words = (b"plain words, one line after the other\n" * 2000)[: HEADER_BYTES + 24_000]
    picture = jpegs.plain(5, 64)
    made = []
    for number in range(LAYOUTS):
        told = (SECRET + bytes([number])) * (HEADER_BYTES // (len(SECRET) + 1))
        photo = (picture + told)[:HEADER_BYTES] + words[HEADER_BYTES:]
        made.append(photo if number % 2 else words)
    made[0::2] = [words[:64] + b"%05d" % number + words[69:] for number in range(LAYOUTS // 2)]
    return made


@pytest.mark.parametrize(("kind", "sort"), PLACES)
def test_no_pass_over_a_file_of_changing_kind_sees_a_photo(kind, sort, store_on, mounts_on, race) -> None:
    """The writer's mapping turns it from words into a photo and back all the time."""
    race.use(forms())
    race.look_for([SECRET])
    store = store_on(kind)
    path = shelf(store)
    path.write_bytes(race.images[0])
    mount = mounts_on.start(POLICY, store, *MOUNTS[sort])
    seen = changing(race, mount, path, RACED)
    assert not seen.leaked, seen
    assert seen.entered >= RACED, seen
    assert seen.raw_reader_saw, seen
    assert "ESTALE" not in seen.opens, seen


def test_a_photo_is_seen_where_the_kind_is_not_proven(store_on, without, race) -> None:
    race.use(forms())
    race.look_for([SECRET])
    store = store_on("ext4")
    path = shelf(store)
    path.write_bytes(race.images[0])
    mount = without("unproven-kind", POLICY, store)
    assert changing(race, mount, path, 3000, leaks=1).leaked


def changing(race: Race, mount: Mount, path: Path, entered: int, leaks: int = 0) -> Seen:
    """A race over one file whose writer is at the store."""
    ways = tuple(name for name in ALL if name != "copy_file_range")
    return race.run(
        mount / "words/a.txt", writer_path=path, mode="map", writer=EDITOR, reader=READER, entered=entered,
        seconds=SECONDS, techniques=ways, leaks=leaks,
    )  # fmt: skip
