"""Leases on large files between mounts and with the store; a loop that is late, a holder that dies."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_copies import FIFOS
from tests.attack.test_large_files import (
    EDITOR,
    GALLERY,
    GIVES_WAY_S,
    POLICY,
    _reader,
    _writer,
    ask,
    code_of,
    end,
)  # fmt: skip
from tests.support.machine.processes import Child, call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples.jpegs import leaks

FAR_S: Final = 30.0
BREAK_TIME: Final = Path("/proc/sys/fs/lease-break-time")
WAYS: Final = {
    "open": lambda path: os.close(os.open(path, os.O_RDWR)),
    "without waiting": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK)),
    "reading and truncating": lambda path: os.close(os.open(path, os.O_RDONLY | os.O_TRUNC)),
    "truncate by path": lambda path: os.truncate(path, 8 << 20),
}


@pytest.fixture
def photo(store_on, media) -> Path:
    """A photo of 8 MB in a store on ext4."""
    store = store_on("ext4")
    (store / "DCIM").mkdir()
    (store / "DCIM").chmod(0o777)
    path = store / "DCIM/big.jpg"
    path.write_bytes(media["photo_8mb.jpg"].read_bytes())
    path.chmod(0o666)
    return path


def prepared(mounts, photo: Path, *guards: str) -> Mount:
    """A mount of the photo's store that copies 1 MiB at most, of a daemon without these guards."""
    mount = mounts.prepare(POLICY, photo.parents[1], "--copy-max", "1M")
    if guards:
        mount.program = ("tests.attack.weakened", ",".join(guards))
    return mount


def mounted(mounts, photo: Path) -> Mount:
    """A running one with all guards."""
    return prepared(mounts, photo).start()


def reads_on(channel, path: Path) -> dict[str, int]:
    """Read the file in a loop until told to stop; how often that went well, and the errors."""
    fd = os.open(path, os.O_RDONLY)
    said = {"read": len(os.pread(fd, 1, 0))}  # once before anybody writes
    channel.send("reading")
    offset = 0
    while not channel.poll():
        offset = (offset + 65536) % (4 << 20)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.pread(fd, 4096, offset)
            said["read"] += 1
        except OSError as error:
            name = errno.errorcode[error.errno or 0]
            said[name] = said.get(name, 0) + 1
    return said


@contextlib.contextmanager
def readers(mount: Mount, count: int = 2) -> Iterator[list[Child]]:
    """Restricted apps that read without pause."""
    children = [start_as(GALLERY, reads_on, mount / "DCIM/big.jpg") for _ in range(count)]
    for child in children:
        child.receive()
    yield children
    for child in children:
        child.send("stop")


def seconds(way: str, path: Path) -> float:
    start = time.monotonic()
    WAYS[way](path)
    return time.monotonic() - start


@pytest.mark.alone
def test_readers_keep_no_writer_out_in_this_mount_another_or_the_store(photo, mounts_on) -> None:
    """Attack B6.5: Keep writers out of a large file by reading it without a pause
    Guard: policyfs/fs/redacted/leased.py::LeasedFiles._rest
    Also: tests/attack/test_kept_out.py::test_who_reads_without_a_pause_keeps_no_writer_out,
    tests/unit/test_fs_redacted_leased.py::test_after_a_break_no_lease_is_taken_for_a_moment
    Without:
    tests/attack/test_kept_out.py::test_the_writer_is_kept_out_where_the_lease_is_taken_again_at_once
    """
    here, there = mounted(mounts_on, photo), mounted(mounts_on, photo)
    taken: dict[tuple[str, str], float] = {}
    with readers(here) as children:
        for name, uid, root in (("here", EDITOR, here), ("there", EDITOR, there), ("store", 0, photo)):
            path = root if isinstance(root, Path) else root / "DCIM/big.jpg"
            for way in WAYS:
                if name == "store" and way == "without waiting":
                    continue  # whoever asks the store itself is told EAGAIN, as natively
                taken[name, way] = call_as(uid, seconds, way, path)
    assert max(taken.values()) < GIVES_WAY_S, taken
    said = [child.result() for child in children]
    # What was emptied and made longer is zeros: of no kind that may be shown.
    assert all(set(one) <= {"read", "EBUSY", "EACCES"} and one["read"] for one in said), said
    assert here.status()["leases"]["broken"] > 0
    assert photo.stat().st_size == 8 << 20


def test_what_a_writer_of_another_mount_writes_is_not_read_and_each_refusal_is_on_record(
    photo, mounts_on
) -> None:
    """Attack A3.1: Write a large file through another mount, or in the store, while a slow daemon reads it
    Guard: policyfs/fs/redacted/leased.py::LeasedFiles._current
    Also: ::test_a_loop_that_is_too_late_sends_nothing_that_a_writer_wrote
    Without: ::test_a_late_loop_sends_what_a_writer_wrote_where_the_lease_is_not_asked_after
    """
    here, there = mounted(mounts_on, photo), mounted(mounts_on, photo)
    original = photo.read_bytes()
    reader = start_as(GALLERY, _reader, here / "DCIM/big.jpg")
    reader.receive()
    assert isinstance(ask(reader, (65536, 0)), bytes)
    writer = start_as(EDITOR, _writer, there / "DCIM/big.jpg", False)
    writer.receive()
    assert ask(writer, (1 << 20, original[: 64 * 1024])) == "written"
    assert ask(reader, (65536, 1 << 20)) == "EBUSY"
    assert call_as(GALLERY, code_of, os.open, here / "DCIM/big.jpg", os.O_RDONLY) == "EBUSY"
    assert ask(writer, (1 << 20, original[1 << 20 : (1 << 20) + 64 * 1024])) == "written"
    end(writer)
    shown = wait_for(lambda: not isinstance(said := ask(reader, "all"), str) and said, "readable again")
    assert not leaks(shown)
    end(reader)
    refused = here.events(app="gallery", decision="deny", path="/DCIM/big.jpg")
    assert {event["operation"] for event in refused} == {"open", "read"}
    assert {event["errno"] for event in refused} <= {errno.EBUSY, "EBUSY"}
    assert all("open for writing" in event["note"] for event in refused), refused


def test_a_file_emptied_without_a_signal_shows_nothing_that_was_not_looked_at(photo, mounts_on) -> None:
    """open(O_RDONLY|O_TRUNC) in the store truncates under a lease, and nobody hears of it."""
    mount = mounted(mounts_on, photo)
    secret = photo.read_bytes()[: 64 * 1024]
    reader = start_as(GALLERY, _reader, mount / "DCIM/big.jpg")
    reader.receive()
    assert isinstance(ask(reader, (65536, 0)), bytes)
    os.close(os.open(photo, os.O_RDONLY | os.O_TRUNC))
    for _ in range(3):
        said = ask(reader, (65536, 0))
        assert isinstance(said, str) or not leaks(said)
    with photo.open("r+b") as file:
        file.write(b"\0" * (2 << 20) + secret)
        file.flush()
        assert ask(reader, (65536, 2 << 20)) in ("EBUSY", b"")
    end(reader)


@pytest.fixture
def short_leases(request: pytest.FixtureRequest) -> Iterator[None]:
    """The kernel takes a lease after 1 s. It is the machine's setting: restored at once, and no other test
    may have leases meanwhile."""
    assert request.node.get_closest_marker("alone"), "this shortens the leases of tests beside it"
    before = BREAK_TIME.read_text()
    BREAK_TIME.write_text("1")
    try:
        yield
    finally:
        BREAK_TIME.write_text(before)


def read_directly(channel, path: Path, offset: int) -> object:
    """One READ of one page, past the kernel's cache; the bytes, or the error's name."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    page = mmap.mmap(-1, 4096)
    channel.send("open")
    channel.recv()
    try:
        os.preadv(fd, [page], offset)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return page[:]


def read_by_a_late_daemon(mounts, photo: Path, place: int, secret: bytes, *guards: str) -> object:
    """What a reader gets whose daemon stands still until a writer of the store has taken the lease."""
    fifos = [photo.parents[1] / f"{name}-{place}" for name in ("says", "hears")]
    for path in fifos:
        os.mkfifo(path)
    mount = prepared(mounts, photo, "late", *guards)
    mount.environment[FIFOS] = ":".join(map(str, fifos))
    mount.start()
    reader = start_as(GALLERY, read_directly, mount / "DCIM/big.jpg", place)
    reader.receive()
    reader.send("read")

    says, hears = (os.open(path, os.O_RDWR) for path in fifos)
    assert wait([says], FAR_S), "the daemon's loop does not come to the read"

    def write(channel) -> None:
        with photo.open("r+b") as file:
            file.seek(place)
            file.write(secret)
            file.flush()
            channel.send("written")
            channel.recv()

    writer = start_as(0, write)
    try:
        assert writer.receive() == "written", "the kernel took the lease by force"
        os.write(hears, b"....")
        return reader.result()
    finally:
        os.write(hears, b"....")
        writer.send("go")
        writer.result()
        os.close(says)
        os.close(hears)


@pytest.mark.alone
@pytest.mark.usefixtures("short_leases")
def test_a_loop_that_is_too_late_sends_nothing_that_a_writer_wrote(photo, mounts_on) -> None:
    secret = photo.read_bytes()[:4096]
    assert leaks(secret)
    assert read_by_a_late_daemon(mounts_on, photo, 2 << 20, secret) == "EBUSY"


@pytest.mark.alone
@pytest.mark.usefixtures("short_leases")
def test_a_late_loop_sends_what_a_writer_wrote_where_the_lease_is_not_asked_after(photo, mounts_on) -> None:
    secret = photo.read_bytes()[:4096]
    assert read_by_a_late_daemon(mounts_on, photo, 2 << 20, secret, "lease-not-asked") == secret


def read_by_threads(channel, path: Path, threads: int) -> tuple[int, int]:
    """Read the head of the file by several threads until told to stop; how many reads went well, and how many
    of them showed a place."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)  # each read is a request
    channel.send("reading")
    stopped, shown = threading.Event(), [[0, 0] for _ in range(threads)]

    def read(counts: list[int]) -> None:
        buffer, chance = mmap.mmap(-1, 64 << 10), random.Random(threading.get_ident())
        while not stopped.wait(chance.uniform(0, 0.3)):  # else all wait for the new lease before it is there
            try:
                size = os.preadv(fd, [buffer], 0)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                continue
            counts[0] += 1
            counts[1] += bool(leaks(buffer[:size]))

    running = [threading.Thread(target=read, args=(counts,)) for counts in shown]
    for thread in running:
        thread.start()
    channel.recv()
    stopped.set()
    for thread in running:
        thread.join()
    return sum(counts[0] for counts in shown), sum(counts[1] for counts in shown)


def shown_around_visits(mount: Mount, photo: Path, visits: int = 12) -> int:
    """How many reads of a restricted app showed a place while a program opened the file in the store, wrote a
    byte of the picture and closed it, so many times."""
    reader = start_as(GALLERY, read_by_threads, mount / "DCIM/big.jpg", 8)
    reader.receive()
    for _ in range(visits):
        fd = os.open(photo, os.O_RDWR)
        try:
            os.pwrite(fd, os.pread(fd, 1, 4 << 20), 4 << 20)
        finally:
            os.close(fd)
        time.sleep(0.4)  # longer than the time without a new lease, and without a plan
    reader.send("stop")
    good, shown = reader.result()
    assert good, "every read was refused"
    assert mount.status()["leases"]["broken"] > visits // 2
    return shown


def test_no_read_meets_a_new_lease_before_the_places_are_located(photo, mounts_on) -> None:
    """Attack A2.5: Read a large file by several threads while others open it for writing: one read takes a
    new lease, another comes before the place is located
    Guard: policyfs/fs/redacted/leased.py::LeasedFiles.read
    Also: tests/unit/test_fs_redacted_leased.py::test_no_read_meets_a_new_lease_without_its_patches,
    tests/unit/test_fs_redacted_leased.py::test_what_cannot_be_shown_after_a_break_is_refused_at_each_read
    Without: ::test_reads_show_the_place_where_a_new_lease_counts_at_once
    """
    assert shown_around_visits(prepared(mounts_on, photo, "plans-late").start(), photo) == 0


def test_reads_show_the_place_where_a_new_lease_counts_at_once(photo, mounts_on) -> None:
    mount = prepared(mounts_on, photo, "plans-late", "shown-before-located").start()
    assert shown_around_visits(mount, photo)


def test_a_lease_dies_with_its_daemon_and_the_writer_goes_on(photo, mounts_on) -> None:
    mount = mounted(mounts_on, photo)
    reader = start_as(GALLERY, _reader, mount / "DCIM/big.jpg")
    reader.receive()
    assert isinstance(ask(reader, (65536, 0)), bytes)
    os.kill(mount.pid, signal.SIGSTOP)
    writer = start_as(0, lambda _channel: os.close(os.open(photo, os.O_RDWR)))
    assert not writer.channel.poll(0.3), "the lease of a daemon that stands still keeps the writer out"
    mount.expected_exit = -signal.SIGKILL
    start = time.monotonic()
    os.kill(mount.pid, signal.SIGKILL)
    writer.result()
    assert time.monotonic() - start < GIVES_WAY_S
    mount.force_away()
    mount.control_socket.unlink(missing_ok=True)
    reader.kill()


def test_where_leases_mean_nothing_a_large_file_is_refused_and_says_why(mounts, arena, media) -> None:
    """On an overlay a lease is granted, and a write to the file below breaks nothing."""
    layers = {name: arena / "layers" / name for name in ("lower", "upper", "work", "merged")}
    for directory in layers.values():
        directory.mkdir(parents=True)
    (layers["lower"] / "DCIM").mkdir()
    for name in ("big.jpg", "small.jpg"):
        source = media["photo_8mb.jpg" if name == "big.jpg" else "photo_with_place.jpg"]
        (layers["lower"] / "DCIM" / name).write_bytes(source.read_bytes())
        (layers["lower"] / "DCIM" / name).chmod(0o644)
    options = "lowerdir={lower},upperdir={upper},workdir={work}".format(**layers)
    call_as(0, os.system, f"mount -t overlay overlay -o {options} {layers['merged']}")
    store = layers["merged"]
    store.chmod(0o700)
    try:
        mount = mounts.prepare(POLICY, store, "--copy-max", "1M")
        mount.expected_mediated = True
        mount.start()
        assert call_as(GALLERY, code_of, os.open, mount / "DCIM/big.jpg", os.O_RDONLY) == "EACCES"
        assert not leaks(call_as(GALLERY, Path.read_bytes, mount / "DCIM/small.jpg"))
        assert leaks(call_as(EDITOR, Path.read_bytes, mount / "DCIM/big.jpg"))
        [refused] = mount.events(app="gallery", operation="open", decision="deny")
        assert "leases do not work" in refused["note"]
        assert mount.status()["leases"] == {"held": 0, "refused": 0, "broken": 0}
        assert not mount.stop()
    finally:
        call_as(0, os.system, f"umount {store}")
