"""Files too large to copy, on a store without reflink: read under a lease, or not at all (EBUSY)."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import time
from pathlib import Path
from typing import Final

import pytest

from tests.attack.test_remembered import EDITOR, GALLERY, POLICY
from tests.support.machine.counts import first
from tests.support.machine.processes import Child, call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples.jpegs import leaks, pixels

GIVES_WAY_S = 2.0
"""A writer waits for the daemon's lease no longer than this; the kernel would take 45 s."""


@pytest.fixture
def large(store_on, mounts_on, media) -> tuple[Mount, Path, bytes]:
    """A mount on ext4 that copies 1 MiB at most; the photo of 8 MB in the store; its bytes."""
    store = store_on("ext4")
    (store / "DCIM").mkdir()
    (store / "DCIM").chmod(0o777)
    photo = store / "DCIM/big.jpg"
    photo.write_bytes(media["photo_8mb.jpg"].read_bytes())
    photo.chmod(0o666)
    return mounts_on.start(POLICY, store, "--copy-max", "1M"), photo, photo.read_bytes()


def _writer(channel, path: Path, mapped: bool) -> None:
    """Has the file open for writing, or only mapped, until told to go."""
    fd = os.open(path, os.O_RDWR)
    memory = mmap.mmap(fd, 0) if mapped else None
    if mapped:
        os.close(fd)
    channel.send("writing")
    while (order := channel.recv()) != "go":
        offset, data = order
        if memory is not None:
            memory[offset : offset + len(data)] = data
        else:
            os.pwrite(fd, data, offset)
        channel.send("written")


def _reader(channel, path: Path) -> None:
    """Keeps the file open and reads it in the way it is told to; errors by name."""
    fd = os.open(path, os.O_RDONLY)
    channel.send("open")
    while (order := channel.recv()) != "go":
        try:
            channel.send(os.pread(fd, *order) if order != "all" else path.read_bytes())
        except OSError as error:
            channel.send(errno.errorcode[error.errno or 0])


def ask(child: Child, order: object) -> object:
    child.send(order)
    return child.receive()


def end(*children: Child) -> None:
    for child in children:
        child.send("go")
        child.result()


def test_without_a_writer_the_bytes_are_right(large) -> None:
    mount, _, original = large
    shown = call_as(GALLERY, (mount / "DCIM/big.jpg").read_bytes)
    assert len(shown) == len(original)
    assert leaks(original)
    assert not leaks(shown)
    assert pixels(shown) == pixels(original)
    assert call_as(EDITOR, (mount / "DCIM/big.jpg").read_bytes) == original

    def mapped() -> bytes:
        with (
            (mount / "DCIM/big.jpg").open("rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory,
        ):
            return memory[:]

    assert call_as(GALLERY, mapped) == shown
    status = mount.status()
    assert status["copies"]["count"] == 0
    assert status["leases"]["held"] == 0
    opens = mount.events(app="gallery", operation="open")
    assert {event["io"] for event in opens} == {"mediated"}


WRITERS: Final = [("mount", False), ("store", True), ("mount", True), ("store", False)]
"""Where they write; by a descriptor, or by a mapping alone."""


@pytest.mark.parametrize(("where", "mapped"), first(2, WRITERS))
def test_while_there_is_a_writer_it_cannot_be_opened(large, where, mapped) -> None:
    mount, photo, _ = large
    path = mount / "DCIM/big.jpg"
    uid, through = (EDITOR, path) if where == "mount" else (0, photo)
    writer = start_as(uid, _writer, through, mapped)
    writer.receive()
    assert call_as(GALLERY, code_of, os.open, path, os.O_RDONLY) == "EBUSY"
    assert leaks(call_as(EDITOR, path.read_bytes)), "the raw view is nobody's business"
    end(writer)
    wait_for(lambda: call_as(GALLERY, code_of, os.open, path, os.O_RDONLY) == "", "it can be opened again")
    assert not leaks(call_as(GALLERY, path.read_bytes))
    denied = mount.events(app="gallery", operation="open", decision="deny")
    assert denied
    assert {event["errno"] for event in denied} <= {errno.EBUSY, "EBUSY"}


@pytest.mark.parametrize(("where", "mapped"), first(2, WRITERS))
def test_a_writer_that_comes_is_let_in_and_nothing_it_writes_is_read(large, where, mapped) -> None:
    mount, photo, original = large
    path = mount / "DCIM/big.jpg"
    uid, through = (EDITOR, path) if where == "mount" else (0, photo)
    reader = start_as(GALLERY, _reader, path)
    reader.receive()
    head = ask(reader, (65536, 0))
    assert isinstance(head, bytes)
    assert not leaks(head)
    wait_for(lambda: mount.status()["leases"]["held"] == 1, "one lease for all")
    start = time.monotonic()
    writer = start_as(uid, _writer, through, mapped)
    writer.receive()
    assert time.monotonic() - start < GIVES_WAY_S
    secret = original[: 64 * 1024]
    assert leaks(secret)
    for offset in (1 << 20, 4 << 20):  # where no metadata was
        assert ask(writer, (offset, secret)) == "written"
        for said in (
            ask(reader, (len(secret), offset)),
            ask(reader, (1 << 20, offset - 4096)),
            ask(reader, "all"),
        ):
            assert said == "EBUSY" or not leaks(said)
    assert ask(reader, (4096, 6 << 20)) == "EBUSY", "nothing may be read while there is a writer"
    assert ask(writer, (1 << 20, original[1 << 20 : (1 << 20) + len(secret)])) == "written"
    assert ask(writer, (4 << 20, original[4 << 20 : (4 << 20) + len(secret)])) == "written"
    end(writer)

    def readable() -> bool:
        return isinstance(ask(reader, (4096, 0)), bytes)

    wait_for(readable, "the reader that stayed can read on")
    shown = ask(reader, "all")
    assert isinstance(shown, bytes)
    assert not leaks(shown)
    assert pixels(shown) == pixels(original)
    end(reader)


def test_a_writer_that_does_not_wait_is_let_in_too(large) -> None:
    """O_NONBLOCK, as truncate(1) and dd open: no EIO, no EAGAIN, and no wait."""
    mount, photo, original = large
    path = mount / "DCIM/big.jpg"
    reader = start_as(GALLERY, _reader, path)
    reader.receive()
    for turn in range(5):
        assert isinstance(ask(reader, (65536, 0)), bytes)
        start = time.monotonic()

        def touch() -> str:
            fd = -1

            def attempt() -> None:
                nonlocal fd
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                os.pwrite(fd, original[:10], 0)

            said = code_of(attempt)
            with contextlib.suppress(OSError):
                os.close(fd)
            return said

        assert call_as(EDITOR, touch) == "", f"turn {turn}"
        assert time.monotonic() - start < GIVES_WAY_S
        wait_for(lambda: isinstance(ask(reader, (65536, 0)), bytes), "readable again")
    call_as(EDITOR, os.truncate, path, len(original))
    end(reader)
    assert photo.read_bytes() == original


def test_leases_are_given_back(large) -> None:
    mount, _, _ = large
    readers = [start_as(GALLERY, _reader, mount / "DCIM/big.jpg") for _ in range(3)]
    for reader in readers:
        reader.receive()
    wait_for(lambda: mount.status()["leases"]["held"] == 1, "one lease for all")
    end(*readers[:2])
    readers[2].kill()
    wait_for(lambda: mount.status()["leases"]["held"] == 0, "no lease is left")
