"""Photos too large to copy on a store without reflink: read under a lease, or not at all."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs

GALLERY, MAPS = 10011, 10012
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  gallery: {{uid: {GALLERY}}}
  maps: {{uid: {MAPS}, grants: [media.location]}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/**"}}
  - {{id: hide, require: {{redact: location}}, who: {{not: {{grant: media.location}}}}, paths: "/**"}}
"""
DENIED = POLICY + '  - {id: no, deny: [read], who: {app: gallery}, paths: "/**"}\n'
PHOTO = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
OTHER = jpegs.with_segments(jpegs.plain(2, 64), jpegs.exif_segment(jpegs.exif("MM")))


@pytest.fixture
def mount(mounts, empty_store: Path) -> Mount:
    (empty_store / "a.jpg").write_bytes(PHOTO)
    (empty_store / "a.jpg").chmod(0o666)
    mount = mounts.start(POLICY, empty_store, "--copy-max", "1K")
    mount.expected_mediated = True
    return mount


def read(path: Path) -> bytes:
    return path.read_bytes()


def reader(channel, path: Path) -> str:
    """Read the whole file at each message, by read and by a mapping; say what it was or the error."""
    fd = os.open(path, os.O_RDONLY)
    channel.send("open")
    try:
        while channel.recv() == "read":
            try:
                data = os.pread(fd, 1 << 20, 0)
                with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
                    assert mapped[:] == data
            except OSError as error:
                channel.send(errno.errorcode[error.errno or 0])
            else:
                channel.send(data)
    finally:
        os.close(fd)
    return "done"


def test_a_leased_file_is_shown_without_places_and_gives_everything_back(mount: Mount) -> None:
    got = call_as(GALLERY, read, mount / "a.jpg")
    assert len(got) == len(PHOTO)
    assert not jpegs.leaks(got)
    first, second = (start_as(GALLERY, reader, mount / "a.jpg") for _ in range(2))
    for child in (first, second):
        assert child.receive() == "open"
    # One for both.
    wait_for(lambda: mount.status()["leases"]["held"] == 1, "one lease is held for both", 5.0)
    first.send("end")
    assert first.result() == "done"
    second.send("read")
    assert second.receive() == got
    second.send("end")
    assert second.result() == "done"
    wait_for(lambda: mount.status()["leases"]["held"] == 0, "no lease is held", 5.0)


def test_while_it_is_written_nobody_under_redaction_reads_and_then_the_new_bytes(mount: Mount) -> None:
    child = start_as(GALLERY, reader, mount / "a.jpg")
    assert child.receive() == "open"
    child.send("read")
    before = child.receive()
    assert not jpegs.leaks(before)

    def writer(channel, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_TRUNC)
        os.write(fd, OTHER)
        channel.send("written")
        channel.recv()
        os.close(fd)

    other = start_as(MAPS, writer, mount / "a.jpg")
    assert other.receive() == "written"
    assert call_as(GALLERY, code_of, read, mount / "a.jpg") == "EBUSY"
    child.send("read")
    while_written = child.receive()
    assert while_written in ("EBUSY", "EIO"), while_written  # a page that cannot be read is EIO
    other.send("close")
    other.result()
    # The kernel's close of the backing file comes a moment after the app's.
    wait_for(lambda: call_as(GALLERY, code_of, read, mount / "a.jpg") == "", "readable again", 5.0)
    child.send("read")
    after = child.receive()
    assert len(after) == len(OTHER)
    assert not jpegs.leaks(after)
    child.send("end")
    child.result()


def test_a_policy_that_denies_ends_an_open_leased_handle_on_record(mount: Mount) -> None:
    child = start_as(GALLERY, reader, mount / "a.jpg")
    assert child.receive() == "open"
    child.send("read")
    assert not jpegs.leaks(child.receive())
    mount.policy.write_text(DENIED)
    assert mount.reload().returncode == 0
    child.send("read")
    assert child.receive() in ("EACCES", "EIO")
    child.send("end")
    child.result()
    assert mount.events(operation="read", decision="deny", app="gallery")


def test_a_leased_file_outlives_its_name(mount: Mount, empty_store: Path) -> None:
    child = start_as(GALLERY, reader, mount / "a.jpg")
    assert child.receive() == "open"
    call_as(MAPS, os.unlink, mount / "a.jpg")
    child.send("read")
    got = child.receive()
    assert len(got) == len(PHOTO)
    assert not jpegs.leaks(got)
    child.send("end")
    child.result()
    assert os.listdir(empty_store) == []


def test_a_large_file_shown_as_it_is_is_not_read_on_when_a_reload_hides_something(
    mount: Mount,
) -> None:
    strict = mount.policy.read_text()
    who = "who: {not: {grant: media.location}},"
    shown = strict.replace(who, "who: {app: gallery}, unless: {type: image/jpeg},")
    assert shown != strict
    mount.policy.write_text(shown)
    assert mount.reload().returncode == 0
    child = start_as(GALLERY, reader, mount / "a.jpg")
    assert child.receive() == "open"
    child.send("read")
    assert child.receive() == PHOTO
    mount.policy.write_text(strict)
    assert mount.reload().returncode == 0
    child.send("read")
    got = child.receive()
    assert got in ("EACCES", "EIO", "EBUSY", "ESTALE") or not jpegs.leaks(got), got
    assert not jpegs.leaks(call_as(GALLERY, read, mount / "a.jpg"))
    child.send("end")
    child.result()
