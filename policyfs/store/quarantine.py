"""The quarantine: refused files, kept for the administrator in the mount's state directory, for root only.

Each entry DIRECTORY/APP/ID has the files ``bytes`` and ``about.json``. An entry is created as ``.ID.part`` (a
part), locked by flock(2) while it is written, and renamed once all of it is on the disk. So an entry with its
final name is complete. A part is either being written, or a crash has left it. The next daemon removes parts
that a crash has left.

All functions wait for the disk: call them on worker threads or in commands. They follow no symlinks."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from policyfs.linux import libc
from policyfs.linux.private_files import make_private
from policyfs.linux.statx import fstatx
from policyfs.store.tree import Tree

NAME: Final = "quarantine"
"""The name of the quarantine's directory, which is in the mount's directory below the trail root."""
STRANGERS: Final = "stranger"
"""The name under which the refused files of all strangers are kept. No app has this name."""

_ID: Final = re.compile(r"[0-9a-f]{8}")
_PART: Final = re.compile(r"\.([0-9a-f]{8})\.part")
_BYTES, _ABOUT = "bytes", "about.json"
_FORMAT: Final = 1
_PIECE: Final = 1 << 20
_ABOUT_BYTES: Final = 1 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FREE: Final = 20
"""1/20 of the disk stays free, because the trail is on the same disk."""
_TRIES: Final = 100


class FullError(Exception):
    """Error: the quarantine (the directory of refused files) has no room. The message names the limit."""


class WrongEntryError(Exception):
    """Error for an entry of the quarantine that is not as policyfs made it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of each app in the quarantine: bytes, and number of files."""

    bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class About:
    """The record of a refused file. app: the app's name, or STRANGERS. path: within the mount.

    mode, uid, gid: the permission bits and the owner that the file would have in the store. size: in bytes.
    sha256: in hex. reason: the reason of the refusal. time_ns: the time of the refusal, since 1970. root: the
    Tree.identity() of the store, or empty in an entry of an old version of policyfs."""

    time_ns: int
    mount: str
    store: str
    app: str
    uid: int
    gid: int
    pid: int
    path: bytes
    mode: int
    kind: str | None
    reason: str
    rules: tuple[str, ...]
    size: int = 0
    sha256: str = ""
    root: str = ""

    def packed(self) -> bytes:
        """Return the record as JSON."""
        fields = asdict(self) | {"format": _FORMAT, "path": self.path.decode("utf-8", "backslashreplace")}
        fields["path_b64"] = base64.b64encode(self.path).decode()
        return json.dumps(fields, indent=1).encode() + b"\n"

    @classmethod
    def unpacked(cls, data: bytes) -> About:
        """Parse a record. Raises WrongEntryError if *data* is no record of this version of policyfs."""
        try:
            fields = json.loads(data)
            if fields.pop("format") != _FORMAT:
                raise WrongEntryError("another version of policyfs wrote this file")
            fields["path"] = base64.b64decode(fields.pop("path_b64"), validate=True)
            fields["rules"] = tuple(map(str, fields["rules"]))
            about = cls(**fields)
            for name, wanted in cls.__annotations__.items():
                if wanted in {"int", "str"} and type(getattr(about, name)).__name__ != wanted:
                    raise WrongEntryError(f"{name} is not of the type {wanted}")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WrongEntryError(f"{_ABOUT} cannot be read: {error}"[:200]) from error
        return about


@dataclass(frozen=True, slots=True)
class Entry:
    """One refused file in the quarantine.

    about: the record of the refusal; None if the entry is damaged, being written, or left by a crash. why: if
    *about* is None, a text that says why there is no record."""

    id: str
    app: str
    directory: Path
    about: About | None
    why: str = ""


class Quarantine:
    """A directory that keeps the refused files of one mount for the administrator."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    # -- new entries --------------------------------------------------------------------------------

    def keep(self, fd: int, about: About, limits: Limits) -> Entry:
        """Copy the file behind *fd* into the quarantine. Return the entry once it is on the disk.

        INVARIANT: no process writes the file any more. Raises FullError, or OSError of the disk. After an
        error no part of the entry is left."""
        size = os.fstat(fd).st_size
        with _opened(self._make(self.directory)) as top:
            self._check_free(top, size)
            with contextlib.suppress(FileExistsError):
                os.mkdir(about.app, 0o700, dir_fd=top)
            with _opened(os.open(about.app, _DIRECTORY, dir_fd=top)) as mine:
                files, used = _usage(mine)
                but = "in the quarantine, and may have at most"
                if files >= limits.files:
                    raise FullError(f"{about.app} has {files} files {but} {limits.files}")
                if used + size > limits.bytes:
                    raise FullError(
                        f"{about.app} has {used} bytes {but} {limits.bytes}: no room for {size} bytes more"
                    )
                name, part = _new_part(mine)
                with _opened(part):
                    try:
                        whole = self._fill(part, fd, replace(about, size=size))
                        os.rename(_part_of(name), name, src_dir_fd=mine, dst_dir_fd=mine)
                        os.fsync(mine)
                    except BaseException:
                        _remove(mine, _part_of(name))
                        raise
            os.fsync(top)
        return Entry(name, about.app, self.directory / about.app / name, whole)

    @staticmethod
    def _make(directory: Path) -> int:
        """Return a descriptor of the directory, which is created if missing. Only root may use it."""
        make_private(directory.parent)
        make_private(directory)
        fd = os.open(directory, _DIRECTORY)
        try:
            status = os.fstat(fd)
            if status.st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "the quarantine belongs to another user", str(directory))
            if stat.S_IMODE(status.st_mode) != 0o700:
                os.fchmod(fd, 0o700)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @staticmethod
    def _check_free(top: int, size: int) -> None:
        disk = os.fstatvfs(top)
        left = disk.f_bavail * disk.f_frsize - size
        if left < disk.f_blocks * disk.f_frsize // _FREE:
            raise FullError(
                f"with {size} bytes more, under {100 // _FREE} % of the trail's disk would be free"
            )

    @staticmethod
    def _fill(part: int, source: int, about: About) -> About:
        with _opened(os.open(_BYTES, _NEW, 0o400, dir_fd=part)) as target:
            digest = copy(source, target, about.size)
            os.fsync(target)
        whole = replace(about, sha256=digest)
        with open(os.open(_ABOUT, _NEW, 0o400, dir_fd=part), "wb") as file:
            file.write(whole.packed())
            file.flush()
            os.fsync(file.fileno())
        os.fsync(part)
        return whole

    def clean(self) -> int:
        """Remove unfinished entries that a crash has left. Return their number."""
        removed = 0
        for app in self._apps():
            with contextlib.suppress(OSError), _opened(os.open(self.directory / app, _DIRECTORY)) as mine:
                for name in os.listdir(mine):
                    if _PART.fullmatch(name) and _is_left(mine, name, remove=True):
                        removed += 1
        return removed

    # -- list ---------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Return all entries, the oldest first. Incomplete entries come at the end."""
        found = [entry for app in self._apps() for entry in self._of(app)]
        return sorted(
            found, key=lambda one: (one.about is None, one.about.time_ns if one.about else 0, one.id)
        )

    def _apps(self) -> list[str]:
        try:
            with os.scandir(self.directory) as below:
                return sorted(one.name for one in below if one.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def _of(self, app: str) -> Iterator[Entry]:
        with (
            contextlib.suppress(FileNotFoundError),
            _opened(os.open(self.directory / app, _DIRECTORY)) as mine,
        ):
            for name in os.listdir(mine):
                where = self.directory / app / name
                if part := _PART.fullmatch(name):
                    left = _is_left(mine, name)
                    why = "a crash interrupted the copy" if left else "the file is still being copied"
                    yield Entry(part[1], app, where, None, why)
                elif _ID.fullmatch(name):
                    with contextlib.suppress(FileNotFoundError):  # dropped meanwhile
                        yield self._read(app, name, where)

    @staticmethod
    def _read(app: str, name: str, where: Path) -> Entry:
        with _opened(os.open(where, _DIRECTORY)) as inside:
            try:
                with _opened(os.open(_ABOUT, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=inside)) as fd:
                    about = About.unpacked(os.read(fd, _ABOUT_BYTES))
                if os.stat(_BYTES, dir_fd=inside, follow_symlinks=False).st_size != about.size:
                    raise WrongEntryError("the length of the kept file has changed")
            except (WrongEntryError, OSError) as error:
                os.stat(where)  # FileNotFoundError: dropped meanwhile, since drop() renames it first
                lost = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
                return Entry(name, app, where, None, lost)
        return Entry(name, app, where, about)

    # -- reading and removing -----------------------------------------------------------------------

    def open(self, entry: Entry) -> int:
        """Return a descriptor for reading an entry's bytes. The caller closes it."""
        with _opened(os.open(entry.directory, _DIRECTORY)) as inside:
            return os.open(_BYTES, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)

    def drop(self, entry: Entry) -> None:
        """Remove an entry for ever. Raises BlockingIOError if a process is still writing the entry."""
        with _opened(os.open(self.directory / entry.app, _DIRECTORY)) as mine:
            name = entry.directory.name
            if _ID.fullmatch(name):  # the rename ends the entry, even if a crash follows
                os.rename(name, _part_of(name), src_dir_fd=mine, dst_dir_fd=mine)
                name = _part_of(name)
            elif not _is_left(mine, name, remove=True):
                raise BlockingIOError(errno.EBUSY, "the file is still being copied")
            _remove(mine, name)
            os.fsync(mine)


def copy(source: int, target: int, size: int) -> str:
    """Copy *size* bytes of a file into an empty file, holes as holes. Return their SHA-256 in hex."""
    digest, at, zeros = hashlib.sha256(), 0, bytes(_PIECE)
    while at < size:
        data = os.pread(source, min(_PIECE, size - at), at)
        if not data:
            raise OSError(errno.EIO, "the file is shorter than it was")
        digest.update(data)
        if data != zeros[: len(data)]:
            view = memoryview(data)
            done = 0
            while done < len(data):
                done += os.pwrite(target, view[done:], at + done)
        at += len(data)
    os.ftruncate(target, size)
    return digest.hexdigest()


def release(entry: Entry, source: int, dirfd: int, name: bytes, *, as_was: bool) -> None:
    """Copy a refused file from the quarantine to a free name. as_was: True to set the owner and mode of the
    entry's record.

    Otherwise only root may use the copy. Raises FileExistsError if the name is taken, WrongEntryError if the
    kept bytes have changed. After an error nothing is left under the name."""
    about = entry.about
    if about is None:
        raise WrongEntryError(entry.why)
    target, named = _new_file(dirfd, libc.check_name(name))
    try:
        if copy(source, target, about.size) != about.sha256:
            raise WrongEntryError(f"the bytes of the kept file {entry.id} have changed")
        if as_was:
            os.fchown(target, about.uid, about.gid)
            os.fchmod(target, about.mode & 0o777)
        os.fsync(target)
        if not named:
            libc.link_fd(target, dirfd, name)
    except BaseException:
        if named:
            with contextlib.suppress(FileNotFoundError):  # if another file has taken the name, it stays
                Tree(dirfd).remove_same(dirfd, name, fstatx(target))
        raise
    finally:
        os.close(target)
    with _opened(os.open(b".", _DIRECTORY, dir_fd=dirfd)) as above:
        os.fsync(above)


def _new_file(dirfd: int, name: bytes) -> tuple[int, bool]:
    """Create a file. Return its descriptor, and True if it already has its name (a store without unnamed
    files)."""
    try:
        return os.open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=dirfd), False
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
            raise
    return os.open(name, _NEW, 0o600, dir_fd=dirfd), True


@contextlib.contextmanager
def _opened(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _part_of(name: str) -> str:
    return f".{name}.part"


def _new_part(mine: int) -> tuple[str, int]:
    """Create an unfinished entry, locked. Return the entry's final name, and its directory's descriptor."""
    for _ in range(_TRIES):
        name = secrets.token_hex(4)
        if name in os.listdir(mine):
            continue
        with contextlib.suppress(FileExistsError, FileNotFoundError), contextlib.ExitStack() as stack:
            os.mkdir(_part_of(name), 0o700, dir_fd=mine)
            fd = os.open(_part_of(name), _DIRECTORY, dir_fd=mine)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.stat(_part_of(name), dir_fd=mine)  # another process may have removed it before the lock
            stack.pop_all()
            return name, fd
    raise FileExistsError(errno.EEXIST, "no id is free")


def _is_left(mine: int, name: str, *, remove: bool = False) -> bool:
    """Return True if a crash has left the unfinished entry *name*: it is there, and no process is writing it.
    remove: True to remove such an entry. INVARIANT: it is locked meanwhile, so that no process writes it."""
    try:
        with _opened(os.open(name, _DIRECTORY, dir_fd=mine)) as part:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if remove:
                _remove(mine, name)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _usage(mine: int) -> tuple[int, int]:
    files = used = 0
    for name in os.listdir(mine):
        files += 1
        with contextlib.suppress(FileNotFoundError):
            used += os.stat(f"{name}/{_BYTES}", dir_fd=mine, follow_symlinks=False).st_size
    return files, used


def _remove(mine: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        with _opened(os.open(name, _DIRECTORY, dir_fd=mine)) as inside:
            for each in os.listdir(inside):
                os.unlink(each, dir_fd=inside)
        os.rmdir(name, dir_fd=mine)
