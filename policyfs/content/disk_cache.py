"""A database (SQLite) of content kinds and redaction plans, which are kept over restarts.

All mounts of a machine that keep their trails in one directory share the database. Without it, policyfs is
only slower. So a new database replaces a damaged one, and answers that cannot be written are lost. The event
loop never waits for the disk of the database: a thread reads, and a late answer counts as missing.

INVARIANT: an answer is valid only for the lane and the file's version in the answer's key. Another lane never
gets it: an attacker that has taken over the lane's worker can make it false. Another policy can use an app's
name for other uids, so the key has the name and the uids. The caller must know that the file has the bytes of
this version: while a program can write the file, stat proves nothing. So callers store and read plans and
kinds only with a read lease on the file (fs/redacted/copies.py and leased.py, fs/access/facts.py). Callers do
this only on a store where stat shows every finished write (StoreFacts.times_tell).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

import trio

from policyfs.content.cache import KindKey
from policyfs.content.detector_version import DATABASE_VERSION, DETECTOR_VERSION
from policyfs.content.kinds import is_kind
from policyfs.content.libmagic import magic
from policyfs.content.plan_threads import unpacked_on_thread
from policyfs.content.plans import LARGE_PLAN, pack_plan, unpack_plan
from policyfs.content.workers.protocol import WireError
from policyfs.redact.core.values import Plan

MAX_ROWS: Final = 1_000_000
"""The limit of rows. When a database with more rows is opened, all its rows are deleted.

This number of rows takes about 200 MB. Each app has a row for each file that it read. Most users have about a
tenth of this number of files.
"""
MAX_ANSWER_BYTES: Final = 1 << 20
"""The size of the largest packed plan that is stored. Larger plans are made again each time."""
_MAX_PENDING: Final = 4096
MAX_PENDING_BYTES: Final = 64 << 20
"""The limit of the memory of all answers that wait for flush(), or that flush() is writing.

Further answers are lost.
"""
_FINDING_MEMORY: Final = 1024
"""The memory of a finding of a plan (rounded up, in bytes)."""
_DIGEST_BYTES: Final = 16
_BUSY_S: Final = 1.0
_PATIENCE_S: Final = 0.25
"""The time that a request waits for an answer from the disk. After this time a worker finds the answer."""
_KIND: Final = "kind"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS found (
    fs INTEGER NOT NULL, ino INTEGER NOT NULL, what TEXT NOT NULL, detector TEXT NOT NULL,
    btime_ns INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    answer BLOB NOT NULL, PRIMARY KEY (fs, ino, what)
) WITHOUT ROWID
"""
_GET: Final = (
    "SELECT answer FROM found WHERE fs = ? AND ino = ? AND what = ? AND detector = ?"
    " AND btime_ns = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?"
)
_PUT: Final = "INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

_Key = tuple[int, int, str, str, int, int, int, int]
_Answer = bytes | tuple[str, Plan]
"""An answer as it is in a row, or a kind and a plan that flush() must pack."""


@dataclass(frozen=True, slots=True)
class RememberedStats:
    """Counters of the database since the daemon's start. lost: number of answers that could not be written,
    or that were stored in a damaged form. begun_anew: how often a new database replaced a damaged one."""

    hits: int
    misses: int
    written: int
    lost: int
    begun_anew: int


_DAMAGE: Final = (sqlite3.DatabaseError, UnicodeDecodeError)
"""Errors of a damaged database. Its bytes may be in SQLite's message, which sqlite3 then cannot decode."""


class Remembered:
    """A database of workers' answers (kinds and plans), by versions of files. path: the path of its file.

    file_system: the id (statvfs f_fsid) of the file system that has the files. detector: a text that changes
    whenever old answers become invalid. warn: a function that takes messages for the administrator. identify:
    returns a text that no lane of another policy has (by default, policies name no app alike). Only one
    thread at a time calls flush(); only the event loop's thread calls the methods that read and store.

    Locks: `_swap` protects `_pending` and `_pending_bytes`, and is never held during input or output.
    `_reading` protects `_reader`, and is held by the thread that reads. The event loop takes only `_swap`.
    """

    def __init__(
        self,
        path: str,
        *,
        file_system: int,
        detector: str,
        warn: Callable[[str], None],
        clock_ns: Callable[[], int] = time.time_ns,
        identify: Callable[[Hashable], str] = repr,
    ) -> None:
        self._path = path
        self._fs = _signed(file_system)
        self._detector = detector
        self._warn = warn
        self._clock_ns = clock_ns
        self._identify = identify
        self._swap, self._reading = threading.Lock(), threading.Lock()
        self._one_read = trio.CapacityLimiter(1)
        self._is_late = False  # True if a request gave up, and its read may still be under way
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._pending: dict[_Key, _Answer] = {}
        self._pending_bytes = 0  # with the answers that flush() is writing
        self._hits = self._misses = self._written = self._lost = self._begun_anew = 0
        self._damaged = False
        self._open()

    async def kind(self, key: KindKey, lane: Hashable) -> str | None:
        """Return the content kind found for a lane in this version of a file, or None."""
        answer = await self._get(self._key(key, lane, _KIND))
        if not isinstance(answer, bytes):
            return None
        kind = answer.decode("ascii", "replace")
        return kind if is_kind(kind) else None

    def put_kind(self, key: KindKey, lane: Hashable, kind: str) -> None:
        """Store the kind that a worker of this lane found in this version of a file, unless the version is
        racy (KindKey.is_racy) or has no birth time."""
        self._put(key, lane, _KIND, kind.encode("ascii"))

    async def plan(self, key: KindKey, lane: Hashable, what: frozenset[str]) -> tuple[str, Plan] | None:
        """Return the kind of this version of a file, and the plan that hides the words *what*, as found for a
        lane; None if no plan is stored. A thread unpacks a large plan."""
        answer = await self._get(self._key(key, lane, _words(what)))
        if not isinstance(answer, bytes):
            return answer
        try:
            if len(answer) <= LARGE_PLAN:
                return unpack_plan(answer, key.size)
            return await unpacked_on_thread(answer, key.size)
        except WireError:
            self._lost += 1
            return None

    def put_plan(self, key: KindKey, lane: Hashable, what: frozenset[str], kind: str, plan: Plan) -> None:
        """Store a plan that hides the words *what*, and the file's kind, as put_kind() does."""
        self._put(key, lane, _words(what), (kind, plan))

    @property
    def is_waiting(self) -> bool:
        """True if answers wait in memory for flush(), which writes them to the database."""
        return bool(self._pending) or self._damaged

    def flush(self) -> None:
        """Write the answers that wait in memory to the database. Never raises: answers that cannot be written
        are lost."""
        with self._swap:
            pending, self._pending = self._pending, {}
            size = self._pending_bytes
        try:
            self._write(pending)
        finally:
            with self._swap:
                self._pending_bytes -= size

    def _write(self, pending: dict[_Key, _Answer]) -> None:
        if self._damaged:
            self._begin_anew()
        if not pending or self._writer is None:
            return
        packed = ((key, _packed(answer)) for key, answer in pending.items())
        rows = [(*key, _sealed(key, answer)) for key, answer in packed if len(answer) <= MAX_ANSWER_BYTES]
        try:
            with self._writer:
                self._writer.execute("BEGIN IMMEDIATE")
                self._writer.executemany(_PUT, rows)
            self._written += len(rows)
        except sqlite3.OperationalError:  # the database is busy, or the disk is full: only speed is lost
            self._lost += len(rows)
        except _DAMAGE:
            self._damaged = True
            self._lost += len(rows)

    def stats(self) -> RememberedStats:
        """Return the present counters, for ``policyfs status``."""
        return RememberedStats(self._hits, self._misses, self._written, self._lost, self._begun_anew)

    def close(self) -> None:
        """Write the answers that wait in memory, and close the database. A second call does nothing."""
        self.flush()
        self._shut()
        self._damaged = False  # if the last write found damage, the next start replaces the database

    def _key(self, key: KindKey, lane: Hashable, what: str) -> _Key | None:
        """Return the key of a row. Return None for a file with a time before 1677 or after 2262: SQLite
        cannot store the number. Apps can set such times if the store keeps them."""
        version = (key.btime_ns, key.size, key.mtime_ns, key.ctime_ns)
        if not all(-(1 << 63) <= number < 1 << 63 for number in version):
            return None
        return (self._fs, _signed(key.ino), f"{self._identify(lane)}\n{what}", self._detector, *version)

    async def _get(self, key: _Key | None) -> _Answer | None:
        answer: _Answer | None = None
        if key is not None:
            with self._swap:
                answer = self._pending.get(key)
            if answer is None:
                answer = await self._read(key)
        self._hits += answer is not None
        self._misses += answer is None
        return answer

    async def _read(self, key: _Key) -> bytes | None:
        """Return an answer of the database, or None after _PATIENCE_S. While a late read goes on, return None
        at once."""
        self._is_late = self._is_late and self._one_read.borrowed_tokens > 0
        if self._reader is None or self._damaged or self._is_late:
            return None
        with trio.move_on_after(_PATIENCE_S) as patience:
            return await trio.to_thread.run_sync(
                self._row, key, abandon_on_cancel=True, limiter=self._one_read
            )
        self._is_late = patience.cancelled_caught
        return None

    def _row(self, key: _Key) -> bytes | None:
        """Read an answer of the database. A thread calls this method, since it may wait for a disk.

        INVARIANT: each answer has a digest. SQLite does not notice a changed byte in an answer, and a plan
        with a changed position would show the bytes that it must hide.
        """
        with self._reading:
            if self._reader is None or self._damaged:
                return None
            try:
                row: tuple[object] | None = self._reader.execute(_GET, key).fetchone()
            except sqlite3.OperationalError:
                return None
            except _DAMAGE:
                self._damaged = True
                return None
            if row is None:
                return None
            answer = row[0][_DIGEST_BYTES:] if isinstance(row[0], bytes) else b""
            self._damaged = row[0] != _sealed(key, answer)
            return None if self._damaged else answer

    def _put(self, key: KindKey, lane: Hashable, what: str, answer: _Answer) -> None:
        row = self._key(key, lane, what)
        if row is None or not key.btime_ns or key.is_racy(self._clock_ns()):
            return
        with self._swap:
            size = _memory_of(answer) - _memory_of(self._pending.get(row, b""))
            if len(self._pending) < _MAX_PENDING and self._pending_bytes + size <= MAX_PENDING_BYTES:
                self._pending[row] = answer
                self._pending_bytes += size
            else:
                self._lost += 1

    # ------------------------------------------------------------- the database

    def _open(self) -> None:
        """Open the database, or replace a damaged database by a new one. If the new database cannot be made,
        warn the administrator and work without a database."""
        try:
            self._connect()
        except (OSError, sqlite3.OperationalError) as error:
            self._do_without(error)
        except _DAMAGE:
            self._begin_anew()

    def _do_without(self, error: Exception) -> None:
        self._warn(f"no kinds and redaction plans are kept for the next start in {self._path}: {error}")
        self._shut()

    def _begin_anew(self) -> None:
        self._shut()
        self._damaged = False
        self._begun_anew += 1
        self._warn(f"{self._path} was damaged and is created again; all files are read again")
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(self._path + suffix)
        try:
            self._connect()
        except (OSError, sqlite3.Error) as error:
            self._do_without(error)

    def _connect(self) -> None:
        """Open the database twice: one connection writes, the other reads. Raises OSError, sqlite3.Error
        (DatabaseError itself if the file is damaged)."""
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self._writer = _connection(self._path)
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute(_SCHEMA)
        self._writer.execute("DELETE FROM found WHERE detector != ?", (self._detector,))
        [rows] = self._writer.execute("SELECT count(*) FROM found").fetchone()
        if rows > MAX_ROWS:
            self._writer.execute("DELETE FROM found")
        self._reader = _connection(self._path)

    def _shut(self) -> None:
        with self._reading:
            _close(self._reader)
            self._reader = None
        _close(self._writer)
        self._writer = None


def remembered_for(
    path: str, root_fd: int, warn: Callable[[str], None], identify: Callable[[Hashable], str] = repr
) -> Remembered:
    """Open the database at *path* for the store with this root directory. identify: as for Remembered."""
    version: int = magic.version()  # type: ignore[no-untyped-call]
    detector = f"{DETECTOR_VERSION}/{version}/{DATABASE_VERSION}"
    file_system = os.fstatvfs(root_fd).f_fsid
    return Remembered(path, file_system=file_system, detector=detector, warn=warn, identify=identify)


def _connection(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        database.close()
        raise
    return database


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(sqlite3.Error):
            connection.close()


def _packed(answer: _Answer) -> bytes:
    return answer if isinstance(answer, bytes) else pack_plan(*answer)


def _sealed(key: _Key, answer: bytes) -> bytes:
    """Return an answer as it is in a row: with a digest, so that damage to the answer or the key shows."""
    return hashlib.sha256(repr(key).encode() + answer).digest()[:_DIGEST_BYTES] + answer


def _memory_of(answer: _Answer) -> int:
    if isinstance(answer, bytes):
        return len(answer)
    return answer[1].plan_size.memory_bytes + _FINDING_MEMORY * len(answer[1].findings)


def _words(what: frozenset[str]) -> str:
    return "\n".join(sorted(what))


def _signed(number: int) -> int:
    """Return an inode number as a signed number of 64 bits, because SQLite has no unsigned integers."""
    return number - (1 << 64) if number >> 63 else number
