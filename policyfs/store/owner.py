"""Owners of files, in the xattr ``trusted.policyfs.owner`` of the inode or in a database beside the trail.

The value contains the number and birth time of its inode. So if a program in the store copies the file with
all xattrs (``cp -a``, ``rsync -X``, ``tar``), the copy has no owner. Only root reads or writes trusted
xattrs, and no request through a mount reaches them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from typing import Final

from policyfs.domain import OWNER_NONE, FileType
from policyfs.linux.libc import get_xattr, proc_fd
from policyfs.linux.statx import Stat

OWNER_XATTR: Final = b"trusted.policyfs.owner"
_FORMAT: Final = b"1"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS owners (
    dev INTEGER NOT NULL, ino INTEGER NOT NULL, btime_ns INTEGER NOT NULL, app TEXT NOT NULL,
    PRIMARY KEY (dev, ino, btime_ns)
) WITHOUT ROWID
"""


class Owners:
    """A register of the apps that own a store's files. trusted: True if the store has trusted xattrs
    (StoreFacts.trusted_xattr).

    database: path of an SQLite file, used if the store has no trusted xattrs. Without trusted xattrs and
    without a database, no file has an owner. busy_timeout_s: the longest wait while another mount writes to
    the database. Thread-safe. set() may wait for the disk or for another mount. get() waits for no other
    mount.
    """

    __slots__ = ("_database", "_lock", "_reader", "_reading", "_trusted")

    def __init__(self, trusted: bool, database: str | None = None, busy_timeout_s: float = 5.0) -> None:
        self._trusted = trusted
        self._lock = threading.Lock()
        self._database = None if trusted or database is None else _connect(database, busy_timeout_s)
        # get() has its own connection, because under WAL no reader waits for a writer.
        self._reader, self._reading = self._database, self._lock
        if self._database is not None and database is not None:
            self._reader, self._reading = _connect_reader(database, self._database), threading.Lock()

    @property
    def how(self) -> str:
        """Return the place where owners are kept: ``xattr``, ``database`` or ``nowhere``."""
        if self._trusted:
            return "xattr"
        return "database" if self._database is not None else "nowhere"

    def get(self, fd: int, stat: Stat) -> str:
        """Return the app that owns the file behind *fd* (O_PATH is enough), or OWNER_NONE.

        stat: the file's attributes, for inode number and birth time. Raises OSError if the owner cannot be
        read: the owner is then unknown, which is not the same as none.
        """
        if self._trusted:
            value = get_xattr(fd, OWNER_XATTR)
            return OWNER_NONE if value is None else decode(value, stat)
        if self._reader is not None and stat.btime_ns:
            return self._get_row(self._reader, stat)
        return OWNER_NONE

    def set(self, fd: int, stat: Stat, app: str) -> None:
        """Make *app* (or OWNER_NONE) the owner of the file behind *fd*, and return once the owner is stored.

        Raises OSError if the owner cannot be stored. Does nothing if owners are kept nowhere, if they are in
        the database and the inode has no birth time, or if it is a symlink on a store whose symlinks have no
        xattrs (gocryptfs). The file then stays without an owner.
        """
        if self._trusted:
            try:
                _set_xattr(fd, stat, app)
            except PermissionError:
                if stat.ftype is not FileType.SYMLINK:
                    raise
        elif self._database is not None and stat.btime_ns:
            self._set_row(self._database, stat, app)

    def close(self) -> None:
        """Close the database. A second call does nothing."""
        with self._reading:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()
        with self._lock:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    def _get_row(self, database: sqlite3.Connection, stat: Stat) -> str:
        with self._reading, _as_oserror():
            rows: list[tuple[str]] = database.execute(
                "SELECT app FROM owners WHERE dev = ? AND ino = ? AND btime_ns = ?", _row_key(stat)
            ).fetchall()
        return rows[0][0] if rows else OWNER_NONE

    def _set_row(self, database: sqlite3.Connection, stat: Stat, app: str) -> None:
        with self._lock, _as_oserror():
            if app == OWNER_NONE:
                database.execute(
                    "DELETE FROM owners WHERE dev = ? AND ino = ? AND btime_ns = ?", _row_key(stat)
                )
            else:
                database.execute("INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?)", (*_row_key(stat), app))


def _connect(path: str, busy_timeout_s: float) -> sqlite3.Connection:
    """Open the database, which only root may read. All mounts of a store share the database (WAL).

    ``synchronous`` is FULL. Before a new writer writes, the owner becomes "none". If the writer's bytes are
    on the disk after a power cut, this change of the owner must be there, too.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    database = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    try:
        with _as_oserror():
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(_SCHEMA)
    except BaseException:
        database.close()
        raise
    return database


def _connect_reader(path: str, writer: sqlite3.Connection) -> sqlite3.Connection:
    """Open the database once more, only for reading. Closes *writer* if that fails."""
    try:
        with _as_oserror():
            # INVARIANT: no wait. A reader is refused only while the database is recovered or closed for good,
            # and *writer* keeps the database open.
            reader = sqlite3.connect(path, timeout=0.1, isolation_level=None, check_same_thread=False)
            reader.execute("PRAGMA query_only = ON")
            reader.execute("SELECT app FROM owners LIMIT 1").fetchall()  # opens all files of the database
            return reader
    except BaseException:
        writer.close()
        raise


@contextlib.contextmanager
def _as_oserror() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(errno.EIO, f"owner database: {error}") from error


def _row_key(stat: Stat) -> tuple[int, int, int]:
    """Return the key of a row. Device and inode numbers are unsigned, but SQLite has only signed numbers."""
    return _signed(stat.dev), _signed(stat.ino), stat.btime_ns


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def decode(value: bytes, stat: Stat) -> str:
    """Return the owner in an xattr of the object with these attributes, or OWNER_NONE."""
    parts = value.split(b":", 3)
    if len(parts) != 4 or parts[:3] != [_FORMAT, b"%d" % stat.ino, b"%d" % stat.btime_ns]:
        return OWNER_NONE
    try:
        return parts[3].decode("utf-8") or OWNER_NONE
    except UnicodeDecodeError:
        return OWNER_NONE


def _set_xattr(fd: int, stat: Stat, app: str) -> None:
    if app != OWNER_NONE:
        value = b":".join((_FORMAT, b"%d" % stat.ino, b"%d" % stat.btime_ns, app.encode("utf-8")))
        os.setxattr(proc_fd(fd), OWNER_XATTR, value)
    elif get_xattr(fd, OWNER_XATTR) is not None:
        try:
            os.removexattr(proc_fd(fd), OWNER_XATTR)
        except OSError as error:
            if error.errno != errno.ENODATA:  # ENODATA: another thread or daemon has removed it already
                raise
