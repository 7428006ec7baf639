"""Held bytes that are dropped at the last release: the kernel must not show them any longer."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from tests.mount.test_drafts import CAMERA, PLACED, POLICY
from tests.support.machine.processes import code_of, start_as, wait_for
from tests.support.mount.stores import Mounts, open_handles, wait_until_heard


def _dropped(channel, path: Path, data: bytes, reads: bool) -> tuple[str, int, bytes]:
    """Write bytes that are refused. What close() says; size and bytes of the file after the release."""
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, data, 0)
    other = os.open(path, os.O_RDONLY) if reads else -1
    with mmap.mmap(fd, len(data), mmap.MAP_SHARED, mmap.PROT_READ) as pages:
        said = code_of(os.close, fd)
        assert pages[:] == data
        assert path.stat().st_size == len(data)
    channel.send("closed")
    channel.recv()
    if not reads:
        return said, path.stat().st_size, path.read_bytes()
    return said, os.fstat(other).st_size, os.pread(other, len(data), 0)


@pytest.mark.parametrize("reads", [False, True], ids=["alone", "while it is read"])
@pytest.mark.parametrize(("where", "data"), [("Share", PLACED), ("Typed", b"\xff\xd8")])
def test_dropped_bytes_of_an_older_file_are_shown_no_longer(
    mounts: Mounts, store: Path, where: str, data: bytes, reads: bool
) -> None:
    """Neither their size nor, where they were, zeros: also where the kernel keeps attributes."""
    file = store / "top" / where / "a.jpg"
    file.parent.mkdir(parents=True)
    file.touch()
    file.chmod(0o666)
    mount = mounts.start(POLICY, store, "--app", "camera", "--any-uid")
    app = start_as(CAMERA, _dropped, mount / "top" / where / "a.jpg", data, reads)
    assert app.receive() == "closed"
    wait_for(lambda: open_handles(mount.status()) == reads, "the release of the writer")
    wait_until_heard(mount)
    app.send("go on")
    assert app.result() == ("EPERM", 0, b"")
    assert file.read_bytes() == b""
