"""A store that says at close(2) what it could not write: NFS, and FUSE file systems that upload then."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.kernel.bridge import pyfuse3
from tests.support.machine.processes import call_as, code_of
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA
from tests.support.mount.stores import Mounts, wait_until_closed
from tests.support.mount.tinyfs import Options, Tiny, TinyFs


class WritesAtClose(TinyFs):
    """What was written has no room, which each close of that open file says."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.written: set[int] = set()
        self.full = True

    def make_room(self) -> None:
        self.full = False

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self.written.add(fh)
        return await super().write(fh, off, buf)

    async def flush(self, fh: int) -> None:
        if self.full and fh in self.written:
            raise pyfuse3.FUSEError(errno.ENOSPC)


@pytest.fixture(params=["passthrough", "mediated"])
def full(request, arena: Path, mounts: Mounts) -> Iterator[tuple[Mount, Tiny]]:
    """A mount whose store is such a file system."""
    store, backing = arena / "fuse-store", arena / "tiny-backing" / "file"
    store.mkdir()
    backing.parent.mkdir(mode=0o700)
    backing.write_bytes(b"what was there")
    tiny = Tiny(store, backing, Options(kind=WritesAtClose, passthrough=False))
    mount = mounts.prepare(faulty.POLICY, store, *["--no-passthrough"] * (request.param == "mediated"))
    mount.expected_mediated = True
    mount.start()
    try:
        yield mount, tiny
    finally:
        wrong = mount.stop()
        tiny.stop()
    assert wrong == []


def _save(path: Path) -> tuple[str, str]:
    fd = os.open(path, os.O_WRONLY)
    return code_of(os.write, fd, b"HELLO"), code_of(os.close, fd)


def test_what_the_store_says_at_close_is_told_at_close(full) -> None:
    """Fault store.18: A network or FUSE store accepts written bytes, and reports at close that it has no
    room or has lost the bytes
    App: the same error from close. Files of a FUSE store never get passthrough, since the daemon could
    not see errors
    Store: what the store kept
    Trail: `release` with the number of accepted bytes
    """
    mount, tiny = full
    for _ in range(3):
        assert call_as(CAMERA, _save, mount / "m") == ("", "ENOSPC")
    wait_until_closed(mount)
    tiny.call("make_room")
    assert call_as(CAMERA, _save, mount / "m") == ("", "")
    wait_until_closed(mount)
    assert mount.status()["bugs"] == 0
