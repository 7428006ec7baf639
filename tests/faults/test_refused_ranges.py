"""A refused write: the kernel drops the pages of its range, and no notification waits for other pages."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.faulty import CAMERA, GALLERY
from tests.support.mount.stores import Mounts

PAGE: Final = mmap.PAGESIZE
FILES: Final = 3
NAMED: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: read, allow: [see, read, create], paths: "/***"}}
  - {{id: open, allow: [write], paths: "/open-*"}}
  - {{id: gallery, allow: [all], who: {{app: gallery}}, paths: "/***"}}
"""
PAGES: Final = 64
OLD: Final = (bytes(range(1, 256)) * PAGES * 20)[: PAGES * PAGE - 100]
WRONG: Final = b"plain words\n" * (1 << 15)
Way: TypeAlias = Callable[[int, mmap.mmap, int], str]
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE: it does not wait


def _refused_beside(channel, directory: Path) -> tuple[list[str], list[bytes]]:
    """Write to the second page of files while their first one is written back; what both then hold."""
    files = [os.open(directory / f"open-{number}", os.O_RDWR | os.O_CREAT, 0o666) for number in range(FILES)]
    for fd in files:
        os.write(fd, b"o" * 2 * PAGE)
    mapped = [mmap.mmap(fd, 2 * PAGE) for fd in files]
    for pages, fd in zip(mapped, files, strict=True):
        assert pages[PAGE : PAGE + 1] == b"o"
        pages[:3] = b"new"
        assert _libc.sync_file_range(fd, 0, PAGE, WRITE) == 0
    channel.send("written back")
    channel.recv()
    said = [code_of(os.pwrite, fd, b"refused", PAGE) for fd in files]
    channel.send("refused")
    channel.recv()
    return said, [pages[:3] + pages[PAGE : PAGE + 7] for pages in mapped]


def _close(directory: Path) -> None:
    """Give the files names under which the camera may not write them."""
    for number in range(FILES):
        os.rename(directory / f"open-{number}", directory / f"closed-{number}")


def test_no_notification_waits_for_other_pages_of_the_file(mounts: Mounts, empty_store: Path) -> None:
    """As many threads as send notifications could hang by that: then the kernel would forget nothing more.

    Fault store.21: A write is refused while other pages of its file are written back, and the store is
    slow
    App: The error. Only the pages of the refused write are dropped, and notifications go on
    Store: as usual
    Trail: as usual
    Also: ::test_no_page_of_a_refused_write_stays
    """
    empty_store.chmod(0o777)
    mount = mounts.prepare(NAMED, empty_store, "--no-passthrough")
    mount.program = ("tests.attack.weakened", "pages-take-long")
    mount.expected_mediated = True
    mount.start()
    camera = start_as(CAMERA, _refused_beside, mount.mountpoint)
    assert camera.receive() == "written back"
    call_as(GALLERY, _close, mount.mountpoint)
    before = mount.status()["notifications"]
    camera.send("go on")
    assert camera.receive() == "refused"
    time.sleep(2)
    after = mount.status()["notifications"]
    assert after["hanging"] == 0
    assert after["sent"] >= before["sent"] + FILES
    camera.send("go on")
    assert camera.result() == (["EACCES"] * FILES, [b"new" + b"o" * 7] * FILES)


def _write(fd: int, pages: mmap.mmap, offset: int) -> str:
    return code_of(os.pwrite, fd, WRONG[: 9 * PAGE - 100], offset)


def _write_vectors(fd: int, pages: mmap.mmap, offset: int) -> str:
    return code_of(os.pwritev, fd, [WRONG[: 5 * PAGE], WRONG[: 4 * PAGE]], offset)


def _append(fd: int, pages: mmap.mmap, offset: int) -> str:
    return code_of(os.pwritev, fd, [WRONG[: 9 * PAGE]], 0, os.RWF_APPEND)


def _store(fd: int, pages: mmap.mmap, offset: int) -> str:
    """To two pages that are not neighbours."""
    for at in (offset, offset + 3 * PAGE):
        pages[at : at + 10] = WRONG[:10]
    return code_of(pages.flush)


def _seen(fd: int, pages: mmap.mmap) -> set[bytes]:
    return {pages[:], os.pread(fd, 2 * len(pages), 0)}


def _try_to_write(channel, path: Path, way: Way, offset: int) -> tuple[str, bool]:
    fd = os.open(path, os.O_RDWR)
    pages = mmap.mmap(fd, len(OLD))
    assert _seen(fd, pages) == {OLD}
    channel.send("mapped")
    channel.recv()
    said = way(fd, pages, offset)
    wait_for(lambda: pages[:] == OLD, "no refused byte is shown", 5)  # a read would read the pages anew
    return said, _seen(fd, pages) == {OLD}


def _look(channel, path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    pages = mmap.mmap(fd, len(OLD), prot=mmap.PROT_READ)
    assert _seen(fd, pages) == {OLD}
    channel.send("mapped")
    channel.recv()
    return _seen(fd, pages) == {OLD}


@pytest.mark.parametrize("way", [_write, _write_vectors, _append, _store])
@pytest.mark.parametrize("offset", first(1, [(2 * PAGE + 77,), (0,), ((PAGES - 4) * PAGE,)]))
def test_no_page_of_a_refused_write_stays(mounts: Mounts, empty_store: Path, way: Way, offset: int) -> None:
    """Neither in a mapping that was there before, nor in what a descriptor reads; also of another app."""
    empty_store.chmod(0o777)
    file = empty_store / "open-0"
    file.write_bytes(OLD)
    file.chmod(0o666)
    mount = mounts.prepare(NAMED, empty_store, "--no-passthrough")
    mount.expected_mediated = True
    mount.start()
    camera = start_as(CAMERA, _try_to_write, mount / "open-0", way, offset)
    gallery = start_as(GALLERY, _look, mount / "open-0")
    for each in (camera, gallery):
        assert each.receive() == "mapped"
    call_as(GALLERY, os.rename, mount / "open-0", mount / "closed-0")
    camera.send("go on")
    said, right = camera.result()
    assert said in {"EACCES", "EIO"}
    assert right
    gallery.send("go on")
    assert gallery.result()
    assert (empty_store / "closed-0").read_bytes() == OLD
