"""What a file system keeps in reserve for root is not spent by apps, whichever way their bytes go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

APP = 10060
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{app: {{uid: {APP}}}}}
rules:
  - {{id: all, allow: [all], who: {{app: app}}, paths: ["/***"], audit: best_effort}}
  - {{id: photos, require: {{content: [image/jpeg]}}, paths: ["/Checked/**"], audit: best_effort}}
  - {{id: clean, require: {{no: [location]}}, paths: ["/Drafts/**"], audit: best_effort}}
"""
LEFT = 6 << 20
"""Bytes that are there for everybody; besides them only the reserve."""
SLACK = 1 << 20
PIECE = bytes(256 << 10)
PHOTO = jpegs.plain()


def fill(path: Path) -> tuple[int, str]:
    """Write until there is no room: how many bytes there was room for, and what was said."""
    fd, done, said = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), len(PHOTO), ""
    os.pwrite(fd, PHOTO, 0)
    while not said and done < 4 * LEFT:
        said = code_of(os.pwrite, fd, PIECE, done)
        done += 0 if said else len(PIECE)
    ends = code_of(os.fsync, fd), code_of(os.close, fd)
    return done, said or "".join(ends)[:6]


def reserve_blocks(path: Path) -> tuple[int, str]:
    """The same by fallocate(2)."""
    fd, done, said = os.open(path, os.O_RDWR | os.O_CREAT, 0o644), 0, ""
    while not said and done < 4 * LEFT:
        said = code_of(os.posix_fallocate, fd, done, len(PIECE))
        done += 0 if said else len(PIECE)
    os.close(fd)
    return done, said


def free_blocks(store: Path) -> int:
    """Bytes that are free, those in reserve with them."""
    found = os.statvfs(store)
    return found.f_bfree * found.f_frsize


@pytest.fixture(scope="module")
def disk(module_arena: Path) -> Iterator[Path]:
    """A store on an ext4 with a fifth of it in reserve, and filled up to LEFT before that."""
    with file_system("ext4", module_arena, "-m", "20") as root:
        root.chmod(0o755)
        store, native = root / "store", root / "native"
        for directory in (store, native, store / "Plain", store / "Checked", store / "Drafts"):
            directory.mkdir(mode=0o700)
            os.chown(directory, APP, APP)
        os.chown(store, 0, 0)
        free = os.statvfs(root)
        with (root / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, free.f_bavail * free.f_frsize - LEFT)
        yield store


def as_natively(disk: Path, mount: Mount, name: str, how: Callable[[Path], tuple[int, str]]) -> bool:
    """Is it refused where it is natively, with no less in reserve. Leaves nothing behind."""
    beside = disk.parent / "native/file"
    native, said = call_as(APP, how, beside)
    reserve = free_blocks(disk)
    beside.unlink()
    assert (said, native <= LEFT + SLACK) == ("ENOSPC", True)
    got, said = call_as(APP, how, mount / name)
    left = free_blocks(disk)
    assert call_as(APP, code_of, os.unlink, mount / name) in {"", "ENOENT"}  # a refused draft leaves nothing
    wait_for(lambda: free_blocks(disk) >= reserve + LEFT - SLACK, "the room is there again")
    return said == "ENOSPC" and got <= native + SLACK and left >= reserve - SLACK


@pytest.fixture
def mount_of(disk: Path, mounts: Mounts) -> Callable[..., Mount]:
    return lambda *options: mounts.start(POLICY, disk, *options)


PLACES = ((fill, "Plain/a"), (fill, "Checked/a.jpg"), (reserve_blocks, "Plain/b"), (fill, "Drafts/a.jpg"))


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["passthrough", "mediated"])
def test_an_app_has_as_much_room_as_natively(disk: Path, mount_of, options: tuple[str, ...]) -> None:
    """Fault store.3: No room except the blocks that the file system keeps for root (`mkfs.ext4 -m`)
    App: ENOSPC, whenever a process with the app's uid would get it natively; root gets it, too. A call
    that makes or moves a name may take a reserved block
    Store: accepted bytes
    Trail: as above
    Also: ::test_it_has_the_reserve_where_root_writes
    """
    mount = mount_of(*options)
    for how, name in PLACES:
        assert as_natively(disk, mount, name, how), name


def test_it_has_the_reserve_where_root_writes(disk: Path, mounts: Mounts) -> None:
    mount = mounts.prepare(POLICY, disk)
    mount.program = ("tests.attack.weakened", "roots-reserve")
    mount.start()
    assert [as_natively(disk, mount, name, how) for how, name in PLACES] == [False] * len(PLACES)


def _draft(channel, path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, PHOTO)
    channel.send("written")
    channel.recv()
    os.close(fd)


def test_a_draft_is_its_writers_and_so_is_its_quota(mount_of) -> None:
    mount = mount_of()
    child = start_as(APP, _draft, mount / "Drafts/b.jpg")
    assert child.receive() == "written"
    store = os.stat(mount.store).st_dev
    held = [os.stat(f"/proc/{mount.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{mount.pid}/fd")]
    unnamed = [found for found in held if found.st_dev == store and not found.st_nlink]
    assert [(found.st_uid, found.st_gid, found.st_size) for found in unnamed] == [(APP, APP, len(PHOTO))]
    child.send("close")
    child.result()
    call_as(APP, os.unlink, mount / "Drafts/b.jpg")
