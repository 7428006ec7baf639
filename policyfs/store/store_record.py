"""The record of each store: the file system that was last mounted from its path.

If the disk of a store is missing, an empty directory is at its path, or another disk. A mount of it would
look like a library whose files were all deleted, and programs would delete them elsewhere, too. So a mount
compares the store with its record first.

A file system is known by a number that it keeps over a remount:

- ext4, btrfs, zfs, tmpfs: f_fsid of statfs(2), which they make from their UUID. (The UUID of a tmpfs ends
  with the mount, as its files do.)
- the rest (xfs, NFS, SMB, FUSE, mergerfs, overlay): f_fsid changes with the device number, or is 0. So they
  get a file with a number, MARKER, which no app sees.

An empty store is refused only if it is another directory than the one that had files, such as the mountpoint
of a bind mount that is missing. Otherwise what emptied it was a program, maybe an app in a mount: an inbox or
a spool is empty each time its files were taken.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.errors import PolicyfsError
from policyfs.linux.libc import file_system_type
from policyfs.linux.mountinfo import FSTYPE, mounts_below
from policyfs.linux.private_files import make_private
from policyfs.linux.statx import fstatx
from policyfs.store.pool import Pool
from policyfs.store.tree import Tree

MARKER: Final = "policyfs-aside-store-"
"""The beginning of the name of the file that marks a store; a number follows. No app gets such a name."""

_DIRECTORY: Final = "/var/lib/policyfs/stores"
_KEEPS_FSID: Final = frozenset({0xEF53, 0x9123683E, 0x2FC12FC1, 0x01021994})  # linux/magic.h
_NO_DIRECTORY: Final = frozenset({errno.ENOTDIR, errno.EACCES})  # the mount of a file, or another user's


class StoreAbsentError(PolicyfsError):
    """Error: a store is not there, or is not the one that was mounted last."""


class StoreRecord(NamedTuple):
    """The identity of a store. own: the number of its file system; empty if none can be had.

    has_files: True if it has files. parts: the numbers of the file systems mounted below the store, and of
    the branches of a mergerfs pool, by their absolute paths. root: the number of its top directory, which a
    remount keeps; empty if none can be had, and in records of older versions.
    """

    own: str
    has_files: bool
    parts: dict[str, str]
    root: str = ""


def check_store(store: str, *, writes: bool = True) -> None:
    """Compare a store with its record; a store without a record gets one, unless *writes* is False. store:
    absolute, without symlinks.

    Raises StoreAbsentError with the difference and the remedy; PolicyfsError for errors of the record.
    """
    if not os.path.isdir(store):
        wrong = "is not a directory" if os.path.exists(store) else "does not exist"
        raise StoreAbsentError(f"the store {store} {wrong}; mount its file system, or correct the path")
    before = _read(store)
    # The record counts the marker only if it is there: a new one would make an absent store look present.
    now = _examined(store, marks=writes and before is None)
    if before is not None and (wrong := "; ".join(_differences(before, now))):
        raise StoreAbsentError(
            f"the store {store} is not as it was: {wrong}. Mount its file system; if all is as it should be,"
            f" `policyfs accept {store}` makes this the store"
        )
    if writes and now != before:
        _write(store, now)


def accept_store(store: str) -> list[str]:
    """Make what is at a path the store, whatever its record says. Return the differences, as texts. Raises
    PolicyfsError if the store cannot be examined, or the record cannot be written."""
    now = _examined(store, marks=True)
    before = None
    with contextlib.suppress(PolicyfsError):
        before = _read(store)
    _write(store, now)
    return ["no readable record of an earlier mount"] if before is None else list(_differences(before, now))


def parts_of(store: str) -> list[str]:
    """Return the paths of the parts of a record, but of FUSE, which may not answer. Raises PolicyfsError."""
    before = _read(store)
    return [] if before is None else [path for path, number in before.parts.items() if number]


def absent_parts(store: str) -> list[str]:
    """Return a text for each part of a store's record that is absent now, or is another file system. Raises
    StoreAbsentError if the store cannot be read, PolicyfsError if the record cannot."""
    before = _read(store)
    return [] if before is None else list(_different_parts(before, _examined(store, marks=False)))


def _differences(before: StoreRecord, now: StoreRecord) -> Iterator[str]:
    if before.own != now.own:
        yield "another file system is there"
    if before.has_files and not now.has_files and not (now.root and now.root == before.root):
        yield "an empty directory is there, and it was another, with files"
    yield from _different_parts(before, now)


def _different_parts(before: StoreRecord, now: StoreRecord) -> Iterator[str]:
    for path, number in before.parts.items():
        if path not in now.parts:
            yield f"nothing is mounted on {path}"
        elif number != now.parts[path]:
            yield f"another file system is on {path}"


def _examined(store: str, *, marks: bool) -> StoreRecord:
    """Return what is at a store's path now. marks: make a marker if a file system needs one and has none."""
    try:
        with os.scandir(store) as entries:
            names = (entry.name for entry in entries)
            has_files = any(name != "lost+found" and not name.startswith(MARKER) for name in names)
        found = {path: _number_of_part(path, marks=marks) if asks else "" for path, asks in _parts(store)}
        parts = {path: number for path, number in found.items() if number is not None}
        own = _number(store, marks=marks)
        return StoreRecord(own, has_files, parts, _root(store, own))
    except OSError as error:
        raise StoreAbsentError(f"the store {store} cannot be read: {error.strerror}") from error


def _parts(store: str) -> Iterator[tuple[str, bool]]:
    """Yield the paths of the file systems mounted below a store, and of the branches of a mergerfs pool. With
    each path: False if its file system may not answer (FUSE), so that only its mount counts.

    Mounts of policyfs are left out, and mounts that come and go by themselves.
    """
    below = [one for one in mounts_below(store) if "/.zfs/" not in one.path]
    passing = {one.path for one in below if one.fstype == "autofs" or one.fstype.startswith(FSTYPE)}
    for path, fstype in {one.path: one.fstype for one in below}.items():
        if path not in passing:
            yield path, not fstype.startswith("fuse")
    with Tree.open(store) as tree:
        pool = Pool.of(tree.root_fd)
    if pool is not None:
        with contextlib.closing(pool):
            for branch in pool.branches():
                yield os.fsdecode(branch), True


def _number_of_part(path: str, *, marks: bool) -> str | None:
    try:
        return _number(path, marks=marks)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in _NO_DIRECTORY:
            raise StoreAbsentError(f"a part of the store cannot be read: {path}: {error.strerror}") from error
        return ""


def _number(path: str, *, marks: bool) -> str:
    """Return the number of the file system at a path; empty if it has none. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if file_system_type(fd) in _KEEPS_FSID:
            return f"{os.fstatvfs(fd).f_fsid:x}"
        return _marker(fd, marks=marks)
    finally:
        os.close(fd)


def _root(store: str, own: str) -> str:
    """Return the number of a store's top directory; empty if it has none. own: that of its file system."""
    with Tree.open(store) as tree:
        if file_system_type(tree.root_fd) in _KEEPS_FSID or fstatx(tree.root_fd).btime_ns:
            return tree.identity()
    return own  # of the marker in this very directory


def _marker(fd: int, *, marks: bool) -> str:
    """Return the number in the name of a directory's marker. On NFS two machines may each make one: the
    older counts."""
    found = sorted(name for name in os.listdir(fd) if name.startswith(MARKER))
    if found or not marks:
        return found[0].removeprefix(MARKER) if found else ""
    text = f"{time.time_ns():016x}{os.urandom(8).hex()}"
    try:
        os.close(os.open(MARKER + text, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd))
    except OSError:  # read-only or full: no number until a store without a record is mounted again
        return ""
    return _marker(fd, marks=False)


def marker_file(store: str) -> str | None:
    """Return the path of a store's marker, which all machines find by the same name; None without one. (A
    daemon locks bytes of it for the names that it changes.) Raises OSError if the store cannot be read."""
    found = sorted(name for name in os.listdir(store) if name.startswith(MARKER))
    return os.path.join(store, found[0]) if found else None


def _file(store: str) -> Path:
    name = hashlib.sha256(os.fsencode(store)).hexdigest()[:16]
    return Path(os.environ.get("POLICYFS_STATE_DIR") or _DIRECTORY) / f"{name}.json"


def _read(store: str) -> StoreRecord | None:
    path = _file(store)
    try:
        found = json.loads(path.read_bytes())
        return StoreRecord(found["own"], found["has_files"], found["parts"], found.get("root", ""))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PolicyfsError(
            f"the record of the store {store} cannot be read ({path}: {error}); remove this file, or run"
            f" `policyfs accept {store}`"
        ) from error


def _write(store: str, record: StoreRecord) -> None:
    path = _file(store)
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        make_private(path.parent)
        new.write_text(json.dumps({"store": store, **record._asdict()}), encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise PolicyfsError(
            f"the record of the store {store} cannot be written: {path}: {error.strerror}"
        ) from error
