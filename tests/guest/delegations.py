"""Files too large to copy on an NFS store, under delegations of its server, beside writers on each machine.

tests/mount/test_guest.py runs it. The fixtures of two_machines.py are used: "two" is the other machine.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.attack.racing import layouts, secrets
from tests.guest.nfs import run, serve
from tests.guest.two_machines import machine
from tests.support.machine.counts import count
from tests.support.machine.processes import call_as, start_as
from tests.support.mount import layers
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import WEAKENED, Mounts

READER, WRITER = 10011, 10010
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: delegations}}
apps:
  gallery: {{uid: {READER}}}
  editor: {{uid: {WRITER}}}
rules:
  - {{id: read, allow: [see, read], who: {{app: any}}, paths: "/***"}}
  - {{id: edit, allow: [all], who: {{app: editor}}, paths: "/***"}}
  - {{id: hide, require: {{redact: location}}, who: {{app: gallery}}, paths: "/***"}}
"""
FILES: Final = 40
"""A server that has taken a delegation back gives none of the file for half a minute at least."""
READS: Final = count(3_000, 100_000)
UNDER_WAY_S: Final = 0.3
GIVES_WAY_S: Final = 5.0
PART: Final = 16 << 10
IMAGES: Final = layouts()


class Stores(NamedTuple):
    """The directories by which a writer reaches the files. store: of the machine that has the mount."""

    server: Path
    store: Path
    other: Path


@pytest.fixture
def stores(empty_store: Path, tmp_path: Path) -> Iterator[Stores]:
    tmp_path.chmod(0o700)
    for number in range(FILES):
        (empty_store / f"{number}.jpg").write_bytes(IMAGES[0])
        (empty_store / f"{number}.jpg").chmod(0o666)
        os.chown(empty_store / f"{number}.jpg", WRITER, WRITER)
    Path("/var/lib/nfs/v4recovery").mkdir(parents=True, exist_ok=True)  # where a server keeps its clients
    serve()
    export = f"10.9.0.0/16:{empty_store}"
    run("exportfs", "-o", "rw,no_root_squash,no_subtree_check,insecure,sec=sys,fsid=0", export)
    try:
        for number, name in enumerate(("one", "two"), 1):
            machine(name, number, tmp_path / name, ",actimeo=1")
        yield Stores(empty_store, tmp_path / "one", tmp_path / "two")
    finally:
        for name in ("one", "two"):
            if os.path.ismount(tmp_path / name):
                layers.unmount(tmp_path / name)
        run("exportfs", "-u", export)


class Seen(NamedTuple):
    read: int
    refused: int
    leaked: int


def reads(channel, place: Path, turn: mmap.mmap) -> Seen:
    """Open and read the file whose turn it is, in parts, until told to stop."""
    read = refused = leaked = 0
    hidden = secrets()
    channel.send("reading")
    while not channel.poll():
        try:
            with (place / f"{turn[0]}.jpg").open("rb", buffering=0) as file:
                data = b""
                while part := file.read(PART):
                    data += part
                    read += 1
                leaked += any(secret in data for secret in hidden)
        except OSError:
            refused += 1
    channel.recv()
    return Seen(read, refused, leaked)


def writes(place: Path, turn: mmap.mmap, seconds: float, rest_s: float) -> int:
    """Change one file after the other; the number of changes. rest_s: before each one is read."""
    until, changes = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        time.sleep(UNDER_WAY_S)
        with (place / f"{turn[0]}.jpg").open("r+b", buffering=0) as file:
            for image in IMAGES[1:3]:
                file.seek(0)
                file.write(image)
        changes += 1
        time.sleep(UNDER_WAY_S + rest_s)
        turn[0] = (turn[0] + 1) % FILES
    return changes


def race(mount: Mount, place: Path, *, remote: bool, wanted: int = READS) -> Seen:
    """Read files while they are changed in a directory; what the reader saw."""
    seen = Seen(0, 0, 0)
    with mmap.mmap(-1, 4096) as turn:
        while seen.read < wanted and not seen.leaked:
            reader = start_as(READER, reads, mount.mountpoint, turn)
            assert reader.receive() == "reading"
            assert call_as(WRITER, writes, place, turn, 20, 1.0 if remote else 0.0, deadline_s=120)
            reader.send("stop")
            found = reader.result()
            seen = Seen(*map(sum, zip(seen, found, strict=True)))
    return seen


def started(mounts: Mounts, stores: Stores, guard: str = "") -> Mount:
    mount = mounts.prepare(POLICY, stores.store, "--copy-max", "4K")
    mount.expected_mediated = True
    if guard:
        mount.program = (WEAKENED, guard)
    return mount.start()


def open_to_the_writer(stores: Stores) -> None:
    for directory in (stores.server, stores.store, stores.other):
        for above in (directory, *directory.parents):
            above.chmod(above.stat().st_mode | 0o011)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("way", ["mount", "store", "other", "server"])
def test_no_reader_sees_a_place_beside_a_writer(way: str, mounts: Mounts, stores: Stores) -> None:
    """Attack A2.4: The same on NFS 4, while a program writes through the mount, on this machine, on
    another, or on the server, also while the server restarts
    Guard: policyfs/store/locking/leases.py::Lease.holds,
    policyfs/fs/redacted/leased.py::LeasedFiles._is_as_told
    Also: ::test_what_was_written_while_the_server_was_down_is_looked_at,
    tests/unit/test_fs_redacted_leased.py::test_bytes_count_only_if_the_server_tells_no_other_times_after_the_read
    Without: ::test_a_reader_sees_places_without_leases_and_times,
    ::test_it_is_shown_where_the_server_is_not_asked
    """
    mount = started(mounts, stores)
    place = mount.mountpoint if way == "mount" else getattr(stores, way)
    open_to_the_writer(stores)
    seen = race(mount, place, remote=way in {"other", "server"})
    print(way, seen, mount.status()["leases"])
    assert seen.leaked == 0, seen
    assert seen.read >= READS
    assert mount.status()["leases"]["broken"] > 3, "no writer came under a lease"
    assert mounts.stop_all() == []


@pytest.mark.timeout(600)
def test_a_reader_sees_places_without_leases_and_times(mounts: Mounts, stores: Stores) -> None:
    open_to_the_writer(stores)
    mount = started(mounts, stores, "no-leases,server-not-asked")
    assert race(mount, stores.store, remote=False, wanted=1_000_000).leaked
    assert mounts.stop_all() == []


def changed(place: Path) -> list[float]:
    """Change files that are being read, and their names; the seconds that each change took."""
    changes: list[Callable[[Path], object]] = [
        lambda path: os.utime(path, (1, 1)),
        lambda path: path.chmod(0o640),
        lambda path: path.rename(f"{path}.old"),
        lambda path: os.truncate(path, 5000),
        Path.unlink,
    ]
    took = []
    for number, change in enumerate(changes):
        begin_s = time.monotonic()
        change(place / f"{number}.jpg")
        took.append(time.monotonic() - begin_s)
    return took


def holds(channel, paths: list[Path]) -> None:
    """Have files open of which each was read."""
    with contextlib.ExitStack() as stack:
        for path in paths:
            stack.enter_context(path.open("rb", buffering=0)).read(PART)
        channel.send("read")
        channel.recv()


def longest_change(mount: Mount, stores: Stores, way: str) -> float:
    """Change files that an app has open and that are under leases; the longest wait in seconds."""
    open_to_the_writer(stores)
    reader = start_as(READER, holds, [mount / f"{number}.jpg" for number in range(5)])
    assert reader.receive() == "read"
    assert mount.status()["leases"]["held"] == 5
    uid, place = (WRITER, mount.mountpoint) if way == "mount" else (0, getattr(stores, way))
    took = call_as(uid, changed, place, deadline_s=250)
    assert mount.status()["leases"]["held"] == 0
    reader.send("end")
    reader.result()
    print(way, took)
    return max(took)


@pytest.mark.parametrize("way", ["mount", "store", "other"])
def test_no_change_of_a_file_under_a_lease_waits_for_long(way: str, mounts: Mounts, stores: Stores) -> None:
    """Not even where the event loop itself makes the request that waits for the lease."""
    assert longest_change(started(mounts, stores), stores, way) < GIVES_WAY_S
    assert mounts.stop_all() == []


def test_changes_wait_where_the_loop_releases_the_lease(mounts: Mounts, stores: Stores) -> None:
    """The kernel takes the lease after two seconds, in place of 45."""
    Path("/proc/sys/fs/lease-break-time").write_text("2")
    assert longest_change(started(mounts, stores, "released-by-the-loop"), stores, "mount") > 1.5
    assert mounts.stop_all() == []


def reads_on(channel, path: Path) -> list[bool]:
    """Read a file, and again once told so: whether a place was in it."""
    leaked = []
    with path.open("rb", buffering=0) as file:
        for word in ("read", "read again"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            data = b""
            with contextlib.suppress(OSError):
                data = os.pread(file.fileno(), len(IMAGES[0]), 0)
            leaked.append(any(secret in data for secret in secrets()))
            channel.send((word, len(data)))
            channel.recv()
    return leaked


def read_after_a_restart(mount: Mount, stores: Stores) -> list[bool]:
    """Change a file while its server is down. To the kernel the lease holds all the time."""
    reader = start_as(READER, reads_on, mount / "0.jpg")
    assert reader.receive() == ("read", len(IMAGES[0]))
    run("rpc.nfsd", "0")
    (stores.server / "0.jpg").write_bytes(IMAGES[1])
    run("rpc.nfsd", "--grace-time", "10", "4")
    with (stores.store / "0.jpg").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    reader.send("again")
    word, size = reader.receive(60)
    print(word, size, mount.status()["leases"])
    reader.send("end")
    return reader.result()


def test_what_was_written_while_the_server_was_down_is_looked_at(mounts: Mounts, stores: Stores) -> None:
    mount = started(mounts, stores)
    assert read_after_a_restart(mount, stores) == [False, False]
    assert mounts.stop_all() == []


def test_it_is_shown_where_the_server_is_not_asked(mounts: Mounts, stores: Stores) -> None:
    mount = started(mounts, stores, "server-not-asked")
    assert read_after_a_restart(mount, stores) == [False, True]
    assert mounts.stop_all() == []
