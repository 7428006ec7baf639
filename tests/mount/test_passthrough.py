"""Bytes that the daemon never sees: files and redacted copies run at the kernel's own pace.

`fuse.READ` and `fuse.WRITE` of `policyfs status --json` count what reached the daemon. Each test
runs in a shared mount and in an app's own mount; the store is of mode 0700 root.
"""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine.processes import call_as, start_as, tool_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs.bytesio import (
    MIB,
    digest_by_map,
    digest_by_read,
    digest_of,
    every_way,
    padded_video,
    pattern,
    store_by_map,
    write_whole,
)
from tests.support.samples.media import HOME

APP_UID = 10071
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: passthrough}}
apps:
  app: {{uid: {APP_UID}}}
  other: {{uid: {APP_UID + 1}, grants: [media.location]}}
rules:
  - {{id: work, allow: [all], who: {{app: app}}, paths: ["/Work/**"]}}
  - {{id: watch, allow: [see, read], who: {{app: any}}, paths: ["/Movies/**", "/DCIM/**"]}}
  - id: no-location
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    paths: ["/DCIM/**"]
"""
VIDEO_BYTES = 16 * MIB
SPARSE_BYTES = 5 << 30

Start = Callable[..., Mount]


@pytest.fixture(params=["shared", "app"])
def start(request: pytest.FixtureRequest, mounts: Mounts, big_store: Path) -> Start:
    """`start(*options)`: the store behind a mount of each sort."""

    def go(*options: str, store: Path = big_store) -> Mount:
        own = ("--app", "app") if request.param == "app" else ()
        return mounts.start(POLICY, store, *own, *options)

    return go


@pytest.fixture(scope="module")
def long_video(module_arena: Path, media: dict[str, Path]) -> Path:
    """A long video, of this process alone: the files of `media` are shared with others that run tests,
    and one of them would write it anew while the other reads it."""
    return padded_video(module_arena / "long.mp4", media["video.mp4"], VIDEO_BYTES)


@pytest.fixture
def big_store(store: Path, long_video: Path) -> Path:
    """The usual store with a long video in it (a hard link), and a directory to write to."""
    work = store / "Work"
    work.mkdir(mode=0o755)
    (store / "Movies" / "long.mp4").hardlink_to(long_video)
    assert store.stat().st_mode & 0o777 == 0o700
    assert store.stat().st_uid == 0
    return store


def daemon_io(mount: Mount) -> tuple[int, int]:
    """How many READ and WRITE requests have reached the daemon."""
    counters = mount.fuse_counters()
    return counters.get("READ", 0), counters.get("WRITE", 0)


def passed(mount: Mount) -> dict[str, Any]:
    return mount.status()["passthrough"]


def test_a_video_is_read_whole_and_a_file_written_without_the_daemon(start: Start, big_store: Path) -> None:
    mount = start()
    truth = digest_by_read(big_store / "Movies/long.mp4")
    written = pattern(1, VIDEO_BYTES)
    assert call_as(APP_UID, digest_by_read, mount / "Movies/long.mp4") == truth
    assert call_as(APP_UID, digest_by_map, mount / "Movies/long.mp4") == truth
    call_as(APP_UID, write_whole, mount / "Work/new.bin", written)
    assert call_as(APP_UID, digest_by_read, mount / "Work/new.bin") == digest_of(written)
    assert daemon_io(mount) == (0, 0)
    assert passed(mount)["enabled"]
    stored = big_store / "Work/new.bin"
    assert stored.read_bytes() == written
    assert (stored.stat().st_uid, stored.stat().st_mode & 0o7777) == (APP_UID, 0o644)


def test_ordinary_tools_copy_a_video_without_the_daemon(mounts: Mounts, big_store: Path) -> None:
    mount = mounts.start(POLICY, big_store)
    tool_as(APP_UID, "cp", mount / "Movies/long.mp4", mount / "Work/copy.mp4", check=True)
    tool_as(APP_UID, "cmp", mount / "Movies/long.mp4", mount / "Work/copy.mp4", check=True)
    assert daemon_io(mount) == (0, 0)
    assert digest_by_read(big_store / "Work/copy.mp4") == digest_by_read(big_store / "Movies/long.mp4")


def place_bytes(data: bytes) -> list[str]:
    return [name for name in HOME.names if name.encode() in data]


def test_a_redacted_photo_is_read_and_mapped_without_the_daemon(start: Start, big_store: Path) -> None:
    mount = start()
    original = (big_store / "DCIM/Camera/big.jpg").read_bytes()
    assert len(original) > 8_000_000
    assert place_bytes(original)
    photo = mount / "DCIM/Camera/big.jpg"
    seen = call_as(APP_UID, Path.read_bytes, photo)
    assert len(seen) == len(original)
    assert seen != original
    assert place_bytes(seen) == []
    assert call_as(APP_UID, digest_by_map, photo) == digest_of(seen)
    assert call_as(APP_UID, digest_by_read, photo, 4096) == digest_of(seen)
    assert daemon_io(mount) == (0, 0)
    copies = mount.status()["copies"]
    assert (copies["count"], copies["pinned"], copies["misses"]) == (1, 0, 1), "one copy serves every open"


def test_a_copy_is_registered_once_and_each_open_is_decided_and_on_record(
    mounts: Mounts, big_store: Path
) -> None:
    """The short way to a copy that the kernel knows leaves nothing out."""
    mount = mounts.start(POLICY, big_store)
    source = big_store / "DCIM/Camera/big.jpg"
    photo = mount / "DCIM/Camera/big.jpg"
    seen = call_as(APP_UID, Path.read_bytes, photo)
    assert call_as(APP_UID, Path.read_bytes, photo) == seen
    assert mount.status()["backing_ids"] == 1, "it stays registered while it is kept"
    opens = mount.events(operation="open", path="/DCIM/Camera/big.jpg", decision="allow")
    assert len(opens) == 2
    assert opens[0]["redacted"]
    for field in ("redacted", "kind", "rules", "view", "io", "uid"):
        assert opens[0][field] == opens[1][field], field
    with source.open("ab") as file:
        file.write(b"another version")
    assert len(call_as(APP_UID, Path.read_bytes, photo)) == len(seen) + len(b"another version")
    assert mount.status()["backing_ids"] == 1, "the id of the old version is given back"
    assert mount.policy is not None
    mount.policy.write_text(POLICY.replace('"/Movies/**", "/DCIM/**"', '"/Movies/**"'), encoding="utf-8")
    assert mount.reload().returncode == 0
    with pytest.raises(FileNotFoundError):
        call_as(APP_UID, Path.read_bytes, photo)
    mount.policy.write_text(POLICY.replace("who: {not: {grant: media.location}}", "who: {app: other}"))
    assert mount.reload().returncode == 0
    assert call_as(APP_UID, Path.read_bytes, photo) == source.read_bytes()


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["passthrough", "mediated"])
def test_every_way_of_reading_gives_the_same_bytes(
    mounts: Mounts, big_store: Path, options: tuple[str, ...]
) -> None:
    """A redacted file as much as a raw one: there is no way round the copy."""
    mount = mounts.start(POLICY, big_store, *options)
    digests = {}
    for name in ("Movies/trip.mp4", "DCIM/Camera/big.jpg"):
        ways = call_as(APP_UID, every_way, mount / name, mount / "Work/spare")
        assert len(ways) == 7
        (digests[name],) = set(ways.values())
    assert digests["Movies/trip.mp4"] == digest_by_read(big_store / "Movies/trip.mp4")
    assert digests["DCIM/Camera/big.jpg"] != digest_by_read(big_store / "DCIM/Camera/big.jpg")
    assert (daemon_io(mount) == (0, 0)) == (not options)


def test_redacted_and_raw_readers_have_one_file_open_without_the_daemon(
    mounts: Mounts, big_store: Path
) -> None:
    mount = mounts.start(POLICY, big_store)
    photo = mount / "DCIM/Camera/big.jpg"
    original = (big_store / "DCIM/Camera/big.jpg").read_bytes()
    readers = [start_as(uid, hold_mapped, photo) for uid in (APP_UID, APP_UID + 1)]
    redacted, raw = (reader.receive() for reader in readers)
    assert raw == digest_of(original)
    assert redacted != raw
    for reader in readers:
        reader.send("go on")
    assert [reader.result() for reader in readers] == [redacted, raw], "the same bytes, both open"
    assert daemon_io(mount) == (0, 0)


def hold_mapped(channel, path: Path) -> str:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        channel.send(digest_of(mapped))
        channel.recv()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        read = digest_of(file.read())
        assert read == digest_of(mapped)
        return read


def test_mappings_agree_with_the_store(mounts: Mounts, big_store: Path) -> None:
    mount = mounts.start(POLICY, big_store, "--app", "app")
    call_as(APP_UID, write_whole, mount / "Work/mapped.bin", bytes(4 * MIB))
    call_as(APP_UID, store_by_map, mount / "Work/mapped.bin", 3 * MIB - 5, b"over the edge")
    expected = bytes(3 * MIB - 5) + b"over the edge" + bytes(MIB - 8)
    stored = big_store / "Work/mapped.bin"
    assert stored.read_bytes() == expected
    with stored.open("r+b") as file:
        file.write(b"from the store")
    assert call_as(APP_UID, digest_by_map, mount / "Work/mapped.bin") == digest_of(stored.read_bytes())
    assert daemon_io(mount) == (0, 0)


def test_a_mapping_outlives_its_descriptor_and_a_second_open(mounts: Mounts, big_store: Path) -> None:
    mount = mounts.start(POLICY, big_store)
    call_as(APP_UID, write_whole, mount / "Work/mapped.bin", bytes(MIB))
    assert call_as(APP_UID, write_after_close, mount / "Work/mapped.bin") == b"late"
    assert (big_store / "Work/mapped.bin").read_bytes()[:8] == b"latelast"
    assert daemon_io(mount) == (0, 0)


def write_after_close(path: Path) -> bytes:
    fd = os.open(path, os.O_RDWR)
    mapped = mmap.mmap(fd, 0)
    os.close(fd)
    mapped[:4] = b"late"
    again = path.read_bytes()[:4]
    mapped[4:8] = b"last"
    mapped.close()
    return again


def test_without_passthrough_the_same_bytes_come_through_the_daemon(mounts: Mounts, big_store: Path) -> None:
    passing, mediated = (mounts.start(POLICY, big_store, *more) for more in ((), ("--no-passthrough",)))
    truth = digest_by_read(big_store / "Movies/long.mp4")
    written = pattern(2, VIDEO_BYTES)
    assert call_as(APP_UID, digest_by_read, mediated / "Movies/long.mp4") == truth
    assert call_as(APP_UID, digest_by_map, mediated / "Movies/long.mp4") == truth
    call_as(APP_UID, write_whole, mediated / "Work/mediated.bin", written)
    call_as(APP_UID, store_by_map, mediated / "Work/mediated.bin", 5 * MIB - 3, b"mapped")
    expected = written[: 5 * MIB - 3] + b"mapped" + written[5 * MIB + 3 :]
    assert (big_store / "Work/mediated.bin").read_bytes() == expected
    assert call_as(APP_UID, digest_by_read, mediated / "Work/mediated.bin") == digest_of(expected)
    for name in ("DCIM/Camera/big.jpg", "DCIM/Camera/a.jpg", "DCIM/Camera/b.jpg"):
        digests = {
            call_as(APP_UID, digest, mount / name)
            for mount in (passing, mediated)
            for digest in (digest_by_read, digest_by_map)
        }
        assert len(digests) == 1, f"{name} differs between the two mounts"
    reads, writes = daemon_io(mediated)
    assert reads >= VIDEO_BYTES // MIB
    assert writes >= VIDEO_BYTES // MIB
    assert not passed(mediated)["enabled"]
    assert "--no-passthrough" in passed(mediated)["why_not"]
    assert daemon_io(passing) == (0, 0)


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["passthrough", "mediated"])
def test_a_file_beyond_4_gib(mounts: Mounts, big_store: Path, options: tuple[str, ...]) -> None:
    mount = mounts.start(POLICY, big_store, "--app", "app", *options)
    ends = call_as(APP_UID, write_sparse, mount / "Work/huge.bin")
    assert ends == (b"the far end", b"beyond 4 GiB", SPARSE_BYTES)
    stored = big_store / "Work/huge.bin"
    assert stored.stat().st_size == SPARSE_BYTES
    assert stored.stat().st_blocks * 512 < MIB, "the file is sparse in the store too"
    with stored.open("rb") as file:
        assert os.pread(file.fileno(), 11, SPARSE_BYTES - 11) == b"the far end"
        assert os.pread(file.fileno(), 12, (4 << 30) + 7) == b"beyond 4 GiB"
    if not options:
        assert daemon_io(mount) == (0, 0)


def write_sparse(path: Path) -> tuple[bytes, bytes, int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(fd, b"the far end", SPARSE_BYTES - 11)
        with mmap.mmap(fd, mmap.PAGESIZE, offset=4 << 30) as mapped:
            mapped[7:19] = b"beyond 4 GiB"
        os.fsync(fd)
        return os.pread(fd, 11, SPARSE_BYTES - 11), os.pread(fd, 12, (4 << 30) + 7), os.fstat(fd).st_size
    finally:
        os.close(fd)


def _data_begins(path: Path) -> int:
    path.write_bytes(b"data")
    with path.open("rb") as file:
        return os.lseek(file.fileno(), 0, os.SEEK_DATA)


def test_a_reader_that_hangs_on_the_owner_finds_data(mounts: Mounts, empty_store: Path) -> None:
    """The daemon has no descriptor of what the kernel reads by itself: it finds the owner by name."""
    policy = POLICY.partition("rules:")[0] + "rules:\n  - {id: own, allow: [all], when: {owner: self}}\n"
    policy += "  - {id: ways, allow: [see], when: {type: [inode/directory]}}\n"
    mount = mounts.start(policy, empty_store)
    assert call_as(APP_UID, _data_begins, mount / "new") == 0


def test_truncation_and_growth_are_seen_at_once(start: Start, big_store: Path) -> None:
    """Passthrough keeps no pages of its own: size and bytes are the store's at any time."""
    mount = start()
    assert call_as(APP_UID, shrink_and_grow, mount / "Work/sizes.bin") == [0, 10, 4, 6, 100, 0, 3]
    assert (big_store / "Work/sizes.bin").read_bytes() == b"new"
    assert daemon_io(mount) == (0, 0)


def shrink_and_grow(path: Path) -> list[int]:
    sizes = []
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        steps: list[Callable[[], object]] = [
            lambda: None,
            lambda: os.write(fd, b"0123456789"),
            lambda: os.ftruncate(fd, 4),
            lambda: os.pwrite(fd, b"ab", 4),
            lambda: os.truncate(path, 100),
            lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
            lambda: os.pwrite(fd, b"new", 0),
        ]
        for step in steps:
            step()
            sizes.append(path.stat().st_size)
            assert os.fstat(fd).st_size == sizes[-1]
            assert len(os.pread(fd, 4096, 0)) == sizes[-1]
    finally:
        os.close(fd)
    return sizes


def test_the_kernel_keeps_the_pages_of_a_mediated_copy(mounts: Mounts, big_store: Path) -> None:
    """A redacted copy never changes, so a second reader asks the daemon for nothing but the open."""
    mount = mounts.start(POLICY, big_store, "--no-passthrough")
    photo = mount / "DCIM/Camera/big.jpg"
    first = call_as(APP_UID, digest_by_read, photo)
    reads = [daemon_io(mount)[0]]
    assert reads[0] > 0
    # A kernel that reclaims cold pages ahead of need (DAMON_RECLAIM) takes some of the file's now and then; a
    # mount that keeps no pages is asked for all of them in each try.
    while len(reads) < 2 or reads[-2] < reads[-1]:
        assert len(reads) < 6, f"each look asks the daemon again: {reads}"
        assert call_as(APP_UID, digest_by_read, photo) == first
        assert call_as(APP_UID, digest_by_map, photo) == first
        reads.append(daemon_io(mount)[0])


def read_in_order(path: Path) -> int:
    """Read a file from end to end in pieces of 64 KiB; its size."""
    with path.open("rb", buffering=0) as file:
        return sum(len(piece) for piece in iter(lambda: file.read(1 << 16), b""))


def test_a_mediated_file_is_asked_for_in_large_pieces(mounts: Mounts, big_store: Path) -> None:
    mount = mounts.start(POLICY, big_store, "--no-passthrough")
    size = call_as(APP_UID, read_in_order, mount / "Movies/long.mp4")
    reads, _ = daemon_io(mount)
    assert reads <= size / (1 << 20) * 1.25 + 8, "the kernel asks for 1 MiB at a time once it sees the order"


@pytest.fixture
def overlay_store(arena: Path, big_store: Path) -> Iterator[Path]:
    """An overlay above the usual store: the kernel will not pass its files through."""
    merged = arena / "merged"
    for name in ("upper", "scratch", "merged"):
        (arena / name).mkdir(mode=0o700)
    layers = f"lowerdir={big_store},upperdir={arena}/upper,workdir={arena}/scratch"
    command = ["mount", "-t", "overlay", "overlay", "-o", layers, str(merged)]
    subprocess.run(command, check=True, timeout=30)
    yield merged
    subprocess.run(["umount", str(merged)], check=True, timeout=30)


def test_files_of_an_overlay_are_mediated_and_status_says_why(
    mounts: Mounts, overlay_store: Path, big_store: Path
) -> None:
    mount = mounts.prepare(POLICY, overlay_store)
    mount.expected_mediated = True
    mount.start()
    truth = digest_by_read(big_store / "Movies/long.mp4")
    assert call_as(APP_UID, digest_by_read, mount / "Movies/long.mp4") == truth
    assert call_as(APP_UID, digest_by_map, mount / "Movies/long.mp4") == truth
    written = pattern(3, 2 * MIB)
    call_as(APP_UID, write_whole, mount / "Work/new.bin", written)
    assert (overlay_store / "Work/new.bin").read_bytes() == written
    seen = call_as(APP_UID, Path.read_bytes, mount / "DCIM/Camera/big.jpg")
    assert place_bytes(seen) == []
    reads, writes = daemon_io(mount)
    assert reads > 0
    assert writes > 0
    (why,) = passed(mount)["refused"]
    assert "stacked" in why
    assert not mount.stop(), "before the overlay goes"
