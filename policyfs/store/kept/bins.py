"""The directories of what is kept: STORE/.policyfs-kept/MACHINE/APP/DAY.

A day is the one (UTC) after which all in its directory may go. In it are the kept objects, and the file
RECORDS with one line for each change. Only root may use the directories; those that another user could have
made are refused. Nothing here follows a symlink.
"""

from __future__ import annotations

import calendar
import contextlib
import errno
import os
import re
import secrets
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.errors import PolicyfsError
from policyfs.store.kept.record import Record, records_since
from policyfs.store.names.aside_names import KEPT

UNDO: Final = "+undo"
"""The name, in the place of an app, of what `policyfs undo` itself removes or overwrites. No app has it."""
STRANGERS: Final = "stranger"
RECORDS: Final = "records"
KEPT_NAME: Final = re.compile(r"[0-9a-f]{16}-[0-9a-f]{6}")
"""The name of a kept object: its time in ns in hex, and random digits."""

_DAY_S: Final = 86_400
_DAY: Final = re.compile(r"\d{8}")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN: Final = 32
"""The limit of directories that a daemon has open, unless more were used within _IN_USE_S."""
_IN_USE_S: Final = 600.0


def machine_id() -> str:
    """Return the machine's id (machine-id(5)), by which each machine has a directory of its own."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError), open(path) as file:
            if re.fullmatch(r"[0-9a-f]{32}", found := file.read().strip()):
                return found
    return "no-machine-id"


def day_of(until_s: int) -> str:
    """Return the day (UTC) in which this time is."""
    return time.strftime("%Y%m%d", time.gmtime(until_s))


def new_name(time_ns: int) -> str:
    """Return a new name for a kept object."""
    return f"{time_ns:016x}-{secrets.token_hex(3)}"


def part(name: str) -> str:
    """Return the name of an object that is not whole yet."""
    return f"{name}.part"


def time_of(name: str) -> int:
    """Return the time in a kept object's name, in ns since 1970."""
    return int(name[:16], 16)


class Bin:
    """One open directory of kept objects, with its file of records."""

    __slots__ = ("_is_torn", "_records", "fd", "is_synced", "used_s")

    def __init__(self, fd: int) -> None:
        """Take over the descriptor of the directory."""
        self.fd = fd
        self._records = -1
        self._is_torn = True  # a crash may have cut the last line
        self.is_synced = True
        self.used_s = 0.0

    def append(self, record: Record) -> int:
        """Write a record. Return its bytes. Raise OSError; then no whole line is written."""
        if self._records < 0:
            self._records = os.open(RECORDS, _APPEND, 0o600, dir_fd=self.fd)
        line = record.line()
        line = b"\n" + line if self._is_torn else line
        self._is_torn = True
        if os.write(self._records, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._is_torn = self.is_synced = False
        return len(line)

    def sync(self) -> None:
        """Write the records to the disk. Waits for it."""
        if not self.is_synced:
            self.is_synced = True
            os.fdatasync(self._records)

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self._records, self.fd):
            if fd >= 0:
                os.close(fd)
        self._records = self.fd = -1


class Kept(NamedTuple):
    """A kept object, where it is: the machine, the app and the day."""

    machine: str
    app: str
    day: str
    name: str


class Bins:
    """All directories of what is kept in one store. They are made when first needed. Thread-safe."""

    def __init__(self, root_fd: int, machine: str) -> None:
        """root_fd: of the store, not owned."""
        self._root_fd = root_fd
        self.machine = machine
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, str], Bin] = OrderedDict()

    def of(self, app: str, until_s: int) -> Bin:
        """Return the directory for what an app loses and that is kept until then. Raise OSError."""
        with self._lock:
            found = self._of(app, day_of(until_s))
            found.used_s = time.monotonic()
            return found

    def _of(self, app: str, day: str) -> Bin:
        key = app, day
        found = self._open.get(key)
        if found is not None:
            path = f"{os.fsdecode(KEPT)}/{self.machine}/{app}/{day}"
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(path, dir_fd=self._root_fd), os.fstat(found.fd)):
                    self._open.move_to_end(key)
                    return found
            self._open.pop(key).close()  # somebody has removed it, or moved it away
        with contextlib.ExitStack() as stack:
            at = self._root_fd
            for name in (os.fsdecode(KEPT), self.machine, *key):
                at = _private(at, name)
                stack.callback(os.close, at)
            found = self._open[key] = Bin(os.dup(at))
        oldest = next(iter(self._open.values()))
        if len(self._open) > _OPEN and time.monotonic() - oldest.used_s > _IN_USE_S:
            self._open.popitem(last=False)[1].close()
        return found

    @property
    def is_synced(self) -> bool:
        """True if all records are on the disk."""
        return all(each.is_synced for each in list(self._open.values()))

    def sync(self) -> None:
        """Write all records to the disk. Waits for it."""
        for each in list(self._open.values()):
            with contextlib.suppress(OSError):
                each.sync()

    def close(self) -> None:
        """Close all descriptors."""
        while self._open:
            self._open.popitem()[1].close()

    # -- what is there ------------------------------------------------------------------------------

    def apps(self, machine: str | None = None) -> list[str]:
        """Return the apps of which something is kept, UNDO among them."""
        return self._listed(machine or self.machine)

    def machines(self) -> list[str]:
        """Return the ids of the machines whose daemons have kept something in this store."""
        return self._listed()

    def days(self, app: str, machine: str | None = None) -> list[str]:
        """Return the days of an app's directories, the first to go first."""
        return [day for day in self._listed(machine or self.machine, app) if _DAY.fullmatch(day)]

    def last_until(self, app: str) -> int | None:
        """Return a time in the last day of an app's directories, in seconds since 1970, or None."""
        days = self.days(app)
        return calendar.timegm(time.strptime(days[-1], "%Y%m%d")) if days else None

    def names(self, app: str, day: str, machine: str | None = None) -> list[str]:
        """Return the names of kept objects, the oldest first."""
        found = self._listed(machine or self.machine, app, day)
        return [name for name in found if KEPT_NAME.fullmatch(name)]

    def sizes(self, app: str, day: str) -> Iterator[tuple[str, int]]:
        """Yield the names of this machine's kept objects, in no order, and their bytes on the disk."""
        with contextlib.suppress(FileNotFoundError):
            fd = self.directory(app, day)
            try:
                with os.scandir(fd) as found:
                    for each in found:
                        if KEPT_NAME.fullmatch(each.name):
                            with contextlib.suppress(FileNotFoundError):
                                yield each.name, each.stat(follow_symlinks=False).st_blocks * 512
            finally:
                os.close(fd)

    def directory(self, app: str, day: str, machine: str | None = None) -> int:
        """Open a directory. Raise OSError. The caller closes the descriptor."""
        at = os.open(KEPT, _DIRECTORY, dir_fd=self._root_fd)
        for name in (machine or self.machine, app, day):
            inner = -1
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=at)
            finally:
                os.close(at)
            at = inner
        return at

    def records(
        self, app: str, since_ns: int, until_ns: int = 1 << 63, machine: str | None = None
    ) -> Iterator[tuple[str, Record]]:
        """Yield (day, record) of the records of an app in this time."""
        for day in self.days(app, machine):
            with contextlib.suppress(FileNotFoundError):
                fd = self.directory(app, day, machine)
                try:
                    found = os.open(RECORDS, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                finally:
                    os.close(fd)
                with open(found, "rb") as file:
                    if os.fstat(found).st_mtime_ns >= since_ns:
                        for record in records_since(file, since_ns, until_ns):
                            yield day, record

    def is_there(self, kept: Kept) -> bool:
        """Return True if an object is still kept."""
        if not KEPT_NAME.fullmatch(str(kept.name)):  # a forged record may have anything there
            return False
        with contextlib.suppress(OSError):
            path = os.path.join(os.fsdecode(KEPT), *kept)
            os.stat(path, dir_fd=self._root_fd, follow_symlinks=False)
            return True
        return False

    def _listed(self, *below: str) -> list[str]:
        at = os.dup(self._root_fd)
        try:
            for name in (os.fsdecode(KEPT), *below):
                inner = os.open(name, _DIRECTORY, dir_fd=at)
                os.close(at)
                at = inner
            return sorted(os.listdir(at))
        except (FileNotFoundError, NotADirectoryError):
            return []
        finally:
            os.close(at)


def _private(above: int, name: str) -> int:
    """Open a directory, which is made if there is none, for root only. Raise OSError if it is another's."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=above)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=above)
        fd = os.open(name, _DIRECTORY, dir_fd=above)
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(fd)
        raise PermissionError(errno.EPERM, "others may use the directory of what is kept", name)
    return fd


def find(bins: Bins, name: str) -> tuple[Kept, Record]:
    """Return a kept object by its name, and its record. Raise PolicyfsError if there is none."""
    if KEPT_NAME.fullmatch(name):
        at = time_of(name)
        for machine in bins.machines():
            for app in bins.apps(machine):
                for day, record in bins.records(app, at, at, machine):
                    if record.kept == name and bins.is_there(kept := Kept(machine, app, day, name)):
                        return kept, record
    raise PolicyfsError(f"nothing is kept under the name {name!r}: see `policyfs kept list`")
