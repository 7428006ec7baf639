"""The store is full: every call says so, and what the store then holds is what apps were told."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.store.owner import OWNER_XATTR
from tests.support.machine.processes import call_as, wait_for
from tests.support.models.twins import attempt
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY, LARGE, PHOTO, errors, fill, written

SMALL_BLOCKS = ("-b", "1024", "-m", "0")
Full = tuple[Mount, Path, Path]


@pytest.fixture(scope="module")
def ext4(module_on_disk) -> tuple[Mount, Path]:
    return module_on_disk("ext4", *SMALL_BLOCKS)


@pytest.fixture(scope="module")
def tmpfs(module_on_disk) -> tuple[Mount, Path]:
    return module_on_disk("tmpfs")


def _freed_later(mount: Mount) -> list[str]:
    """Removed files that the daemon still has open (policyfs/store/freeing.py)."""
    found = []
    for link in Path(f"/proc/{mount.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(link))
    return [path for path in found if path.endswith(" (deleted)") and path.startswith(str(mount.store))]


def filled(disk: tuple[Mount, Path]) -> Iterator[Full]:
    """A mount of a store without a free block, its store, and the file that takes the space."""
    mount, root = disk
    # What is unlinked has its room until nobody has it open.
    wait_for(lambda: not mount.status()["handles"]["files"], "all files of the test before are closed")
    wait_for(lambda: not _freed_later(mount), "a thread has freed the large ones")
    ballast = fill(root)
    yield mount, root / "store", ballast
    ballast.unlink()
    for name in ("DCIM", "Checked"):
        for path in (root / "store" / name).iterdir():
            if path.name != "a.jpg":
                path.rmdir() if path.is_dir() else path.unlink()
        (root / "store" / name / "a.jpg").write_bytes(PHOTO)
    assert mount.status()["bugs"] == 0


@pytest.fixture
def full(ext4) -> Iterator[Full]:
    yield from filled(ext4)


@pytest.fixture(params=["ext4", "tmpfs"])
def full_disk(request) -> Iterator[Full]:
    yield from filled(request.getfixturevalue(request.param))


def room(ballast: Path, size: int) -> None:
    """Give some space back."""
    os.truncate(ballast, ballast.stat().st_size - size)


def test_names_find_no_room(full) -> None:
    """Fault store.1: No room for a name (create, mkdir, symlink, link, rename)
    App: ENOSPC. Calls that need no room continue
    Store: unchanged
    Trail: the call as allowed (records are of decisions, not results); nothing for a create
    Also: ::test_what_the_policy_allowed_and_the_disk_did_not_is_on_the_trail
    """
    mount, store, ballast = full
    for number in range(3):  # a block of the directory holds three such names
        os.mknod(store / "DCIM" / (f"{number}" + "n" * 254), 0o644)
    before = sorted(os.listdir(store / "DCIM"))

    def calls(place: Path):
        long = "x" * 250
        return errors({
            "create": lambda: os.open(place / f"1{long}", os.O_WRONLY | os.O_CREAT),
            "mkdir": lambda: os.mkdir(place / "new-directory"),
            "symlink": lambda: os.symlink("t" * 200, place / f"2{long}"),
            "link": lambda: os.link(place / "a.jpg", place / f"3{long}"),
            "rename": lambda: os.rename(place / "a.jpg", place / f"4{long}"),
        })  # fmt: skip

    assert set(call_as(CAMERA, calls, mount / "DCIM").values()) == {"ENOSPC"}
    assert sorted(os.listdir(store / "DCIM")) == before
    assert (store / "DCIM/a.jpg").read_bytes() == PHOTO
    # What needs no room goes on, and so does all else once there is some.
    assert call_as(CAMERA, lambda: errors({"read": (mount / "DCIM/a.jpg").read_bytes,
                                           "unlink": (mount / f"DCIM/0{'n' * 254}").unlink})) == {
        "read": "", "unlink": ""}  # fmt: skip
    room(ballast, 1 << 20)
    assert call_as(CAMERA, lambda: attempt(lambda: os.mkdir(mount / "DCIM/new-directory")).error) == ""


@pytest.mark.parametrize("place", ["DCIM", "Checked"])
def test_what_write_took_is_in_the_store(full_disk: Full, place: str) -> None:
    """Written in passthrough, and checked, with room for some of it: what write(2) says it took is there.

    Fault store.2: No room for bytes, in passthrough and in checked writes
    App: a short write, then ENOSPC
    Store: exactly the accepted bytes
    Trail: `release` with the number of accepted bytes
    """
    mount, store, ballast = full_disk
    for step in (5000, 65536, len(LARGE)):
        for name, flags in (("new.jpg", 0), ("a.jpg", os.O_TRUNC)):
            room(ballast, 200 << 10)
            new = mount / place / name
            took, error = call_as(CAMERA, lambda: written(new, LARGE, flags, step=step, sync=True))  # noqa: B023
            assert error == "ENOSPC", (step, name)
            assert (store / place / name).read_bytes() == LARGE[:took], (step, name, took)
            os.truncate(store / place / name, 0)
            fill(ballast.parent)


@pytest.mark.parametrize("free", [0, 2 << 10, 5 << 10])
def test_a_held_head_that_finds_no_room_leaves_nothing_half(full, free: int) -> None:
    """It is held until its kind is known: then all of it goes to the store, or nothing, with ENOSPC.

    Fault store.5: No room for the first bytes of a checked file
    App: ENOSPC from the write that completes an allowed kind. Earlier bytes stay held, and close and
    fsync check them again
    Store: the whole head, or nothing of it
    Trail: `release`
    """
    mount, store, ballast = full
    room(ballast, free)

    def in_one(path: Path) -> tuple[str, str, int]:
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        wrote = attempt(lambda: os.write(fd, LARGE[:20_000]))
        size = os.fstat(fd).st_size
        return wrote.error, attempt(lambda: os.close(fd)).error, size

    wrote, closed, size = call_as(CAMERA, in_one, mount / "Checked/new.jpg")
    assert (wrote, closed, size) == ("ENOSPC", "", 0)
    assert (store / "Checked/new.jpg").read_bytes() == b""
    # By steps: what was taken before is held still, or the kernel wrote the first page alone and that fits.

    def in_steps(path: Path) -> tuple[int, bytes, str]:
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(fd, LARGE[:2])  # no photo yet
        took = attempt(lambda: os.write(fd, LARGE[2:20_000])).value or 0
        return took, os.pread(fd, 100_000, 0), attempt(lambda: os.fsync(fd)).error

    other = store / "Checked/other.jpg"
    took, seen, synced = call_as(CAMERA, in_steps, mount / "Checked/other.jpg")
    assert seen == LARGE[: 2 + took]
    assert (took, synced) in {(0, "EPERM"), (4094, "")}
    if took:
        assert other.read_bytes() == seen
    else:  # two bytes are no photo, and leave nothing behind
        wait_for(lambda: not other.exists(), "what was refused is gone")
    room(ballast, 1 << 20)
    assert call_as(CAMERA, written, mount / "Checked/other.jpg", LARGE) == (len(LARGE), "")
    assert (store / "Checked/other.jpg").read_bytes() == LARGE
    assert mount.status()["bugs"] == 0


def test_stores_to_a_mapping_that_find_no_room_are_told_by_msync(full_disk: Full) -> None:
    """The kernel writes many pages back at once, and room is there for some of them only.

    Fault store.4: No room for bytes that an app changes through a mapping of a checked file
    App: ENOSPC or EIO from msync
    Store: some of the pages
    Trail: `release`
    Also:
    tests/faults/test_full_drafts.py::test_stores_to_a_mapping_of_a_draft_that_find_no_room_are_told
    """
    mount, store, ballast = full_disk
    room(ballast, 100 << 10)
    size, at = 1 << 20, 300 << 10

    def store_into(path: Path) -> str:
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(fd, LARGE[:9000])
        os.ftruncate(fd, size)  # a hole
        with mmap.mmap(fd, size) as pages:
            pages[at : at + (300 << 10)] = b"x" * (300 << 10)
            said = attempt(pages.flush).error
        os.close(fd)
        return said

    assert call_as(CAMERA, store_into, mount / "Checked/mapped.jpg") in {"ENOSPC", "EIO"}
    data = (store / "Checked/mapped.jpg").read_bytes()
    assert (len(data), data[:9000]) == (size, LARGE[:9000])
    assert data[at:].strip(b"x").strip(b"\0") == b""


def test_where_its_owner_cannot_be_kept_nothing_is_made(on_disk) -> None:
    """Inodes without room for xattrs: the owner's takes a block of its own.

    Fault store.8: No room for the owner's attribute
    App: ENOSPC from each call that creates an object
    Store: nothing new: the daemon removes the new object before it answers
    Trail: no event, since nothing was opened
    """
    mount, root = on_disk("ext4", *SMALL_BLOCKS, "-I", "128")
    ballast = fill(root)
    place, store = mount / "DCIM", root / "store"
    assert call_as(CAMERA, lambda: errors({
        "create": lambda: os.open(place / "new", os.O_WRONLY | os.O_CREAT),
        "mkdir": lambda: os.mkdir(place / "new"),
        "symlink": lambda: os.symlink("x", place / "new"),
    })) == dict.fromkeys(("create", "mkdir", "symlink"), "ENOSPC")  # fmt: skip
    assert os.listdir(store / "DCIM") == ["a.jpg"]
    room(ballast, 1 << 20)
    assert call_as(CAMERA, written, place / "new", b"x") == (1, "")
    assert os.getxattr(store / "DCIM/new", OWNER_XATTR).endswith(b":camera")
    assert mount.status()["bugs"] == 0


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_copies_for_redacted_readers_need_no_room_in_the_store(on_disk, kind: str) -> None:
    """A clone shares its source's blocks; where it cannot even be begun the copy is in memory.

    Fault store.9: No room for a redacted copy's own blocks, where files can share blocks (btrfs, xfs)
    App: no error. For two seconds this app's photos are served as large files are
    Store: unchanged
    Trail: the open, with its ranges
    """
    mount, root = on_disk(kind)
    fill(root)
    shown = call_as(GALLERY, (mount / "DCIM/a.jpg").read_bytes)
    assert len(shown) == len(PHOTO)
    assert b"GPS" not in shown or shown != PHOTO
    assert (root / "store/DCIM/a.jpg").read_bytes() == PHOTO
    assert mount.status()["bugs"] == 0


def test_what_the_policy_allowed_and_the_disk_did_not_is_on_the_trail(full) -> None:
    """The trail tells decisions: a mkdir that was allowed and then found no room stands as allowed; a file
    that was not made stands nowhere, for it was never opened."""
    mount, _, _ = full
    assert call_as(CAMERA, lambda: attempt(lambda: os.mkdir(mount / "DCIM/on-record")).error) == "ENOSPC"
    assert call_as(CAMERA, written, mount / "Checked/on-record", LARGE[:9000]) == (0, "ENOSPC")
    (release,) = wait_for(lambda: mount.events(operation="release", path="/Checked/on-record"), "its release")
    assert release["bytes_written"] == 0
    assert [e["decision"] for e in mount.events(path="/DCIM/on-record")] == ["allow"]
