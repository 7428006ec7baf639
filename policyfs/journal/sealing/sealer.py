"""The sealer: a thread that reads each line of the trail again, and seals each closed file (segment).

A seal is a signed file about the lines of one segment. The sealer reads the segment from the file system, and
compares its last digest with the writer's: within about a second, it notices a line that another process has
changed. A seal covers only lines whose last digest the writer has, too (segment_reading.py). The sealer works
in slices of less than a millisecond, and takes the journal's lock only to pass on a record. The mount never
waits for a seal; one that cannot be written is tried again. A segment that cannot be read for a minute gets a
``damage`` record instead. INVARIANT: a segment is on the disk before its seal, so that none covers missing
lines.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final

from policyfs.journal.files.compression import COMPRESS_FROM, compress
from policyfs.journal.files.extent import CRASH, DAMAGE, END, Closed, Extent
from policyfs.journal.files.segments import (
    NEW,
    SegmentDirectory,
    is_compressed,
    read_tail,
    seal_name,
    segment_number,
    write_file,
)
from policyfs.journal.sealing.keys import PUBLIC, KeyStore, Signer, is_signed
from policyfs.journal.sealing.segment_reading import BLOCK, Proven, SegmentReading
from policyfs.trail.chain.seal import (
    NO_SEAL,
    Checkpoint,
    Proof,
    Seal,
    body_of,
    digest_of,
    read_keys,
    read_seal,
)
from policyfs.trail.chain.verification import UNREAD
from policyfs.trail.lines.line import iso_time

_EVERY_S: Final = 1.0
_BREATH_S: Final = 0.0005
_UNREADABLE: Final = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG})
"""The errors of a disk or file system that cannot return the bytes of a file."""
_ATTEMPTS: Final = 60
"""The number of attempts, one each second, to read a closed segment. After them, the segment gets no seal."""


class Sealer:
    """The thread that writes a signed file (seal) for each closed file (segment) of one trail."""

    def __init__(
        self,
        directory: str,
        mount_id: str,
        keys: KeyStore,
        *,
        changed: Callable[[str, str], None],
        sealed: Callable[[dict[str, object]], None],
        compress_from: int = COMPRESS_FROM,
        exclusive: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - has no state
    ) -> None:
        """changed, sealed: callbacks on the sealer's thread. changed: with the name of a segment that was
        changed or cannot be read, and a text. sealed: with the fields of the record about a new seal.

        compress_from: the least size, in bytes, at which a sealed segment is compressed. exclusive: a lock
        that the sealer holds while a compressed segment replaces the uncompressed one.
        """
        self._path: Final = directory
        self._mount_id: Final = mount_id
        self._keys: Final = keys
        self._report_change: Final = changed
        self._report_seal: Final = sealed
        self._compress_from: Final = compress_from
        self._exclusive: Final = exclusive
        self._sealed_names: deque[str] = deque()
        self._closed: deque[Closed] = deque()
        self._adopted: dict[str, int] = {}
        self._reading: SegmentReading | None = None
        self._told: set[str] = set()
        self._attempts = 0
        """The number of failed attempts to read the closed segment that is to be sealed next."""
        self._old: dict[str, Proof | None] = {}
        self._current: Callable[[], Extent | None] = lambda: None
        self._work = threading.Event()
        """Set if there may be something to do. The thread waits for it, so it sleeps on an idle mount."""
        self._wake = threading.Event()
        """Set if a segment was closed, or if the sealer ends. Other work is collected for a second."""
        self._ending = False
        self._thread: threading.Thread | None = None
        self._last: tuple[int, str] | None = None
        self._end = b""
        """The checkpoint of the last sealed line, until it is kept beside the keys."""
        self._before: set[str] = set()
        """The digests of the seals before this checkpoint's seal, back to the seal of the kept checkpoint."""
        self.sealed = ""
        """The name of the segment (file of the trail) that was sealed last, or empty."""
        self.error = ""
        """The error of the last attempt to seal, as text; empty if the attempt succeeded."""

    def start(self, resumed: Extent | None, current: Callable[[], Extent | None]) -> None:
        """Start the thread. current: returns the end of the lines of the growing segment. resumed: the end of
        an earlier daemon's lines, if this daemon continues that segment."""
        self._current = current
        if resumed is not None:
            self._adopted[resumed.segment] = resumed.seq
        now = current()
        with SegmentDirectory.at(self._path) as directory:
            _remove_unfinished(directory.fd)
            current_name = now.segment if now else ""
            self._closed.extend(_left_behind(directory, but=current_name))
            sealed = frozenset(directory.seals())
            self._sealed_names.extend(name for name in directory.names() if name in sealed - {current_name})
        self._work.set()
        self._thread = threading.Thread(target=self._run, name="sealer", daemon=True)
        # INVARIANT: no signal comes to this thread, although it starts before the daemon blocks signals.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None  # the system allows no thread: close() seals instead
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close_segment(self, extent: Extent, reason: str) -> None:
        """Make the thread seal a closed segment later. reason: ROTATION, ..."""
        self._closed.append(Closed(extent, reason))
        self._wake.set()
        self._work.set()

    def written(self) -> None:
        """Make the thread check new lines of the segment that is being written, within a second."""
        if not self._work.is_set():
            self._work.set()

    def close(self) -> None:
        """Wait until the thread has sealed all closed segments and has ended."""
        self._ending = True
        self._wake.set()
        self._work.set()
        if self._thread is not None:
            self._thread.join()
        else:
            self._step()
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    # -- the thread

    def _run(self) -> None:
        while not self._ending:
            self._work.wait()
            self._wake.wait(_EVERY_S)
            self._work.clear()
            self._wake.clear()
            self._step()
            if self.error:
                self._work.set()  # try again in a second
        self._step()

    def _step(self) -> None:
        try:
            # Each step opens the path again: if the directory was moved away, the journal has made a new one.
            with SegmentDirectory.at(self._path) as self._directory:
                while self._closed:
                    self._seal(self._closed[0])
                    self._closed.popleft()
                extent = self._current()
                if extent is not None and not self._ending:  # so that its seal later takes little time
                    self._check(self._open(extent.segment), extent)
                while self._sealed_names and not self._ending:
                    name = self._sealed_names.popleft()
                    compress(self._directory.fd, name, self._compress_from, self._exclusive)
                if self._end:
                    self._keys.keep_end(self._path, self._end, self._before)
                    self._end = b""
                    self._before.clear()
        except Exception as exc:  # noqa: BLE001 - a seal can wait; the thread and the trail go on
            self.error = f"{type(exc).__name__}: {exc}"
        else:
            self.error = ""

    def _check(self, reading: SegmentReading, extent: Extent) -> None:
        """Read a segment up to *extent*, and compare it with the writer. Report a wrong line once."""
        self._read_to(reading, extent.size)
        reading.compare(extent)
        if reading.wrong and reading.name not in self._told:
            self._told.add(reading.name)
            self._report_change(reading.name, reading.wrong)

    def _open(self, name: str) -> SegmentReading:
        reading = self._reading
        if reading is None or reading.name != name:
            fd = self._directory.read(name)
            if reading is not None:
                reading.close()
            reading = self._reading = SegmentReading(name, fd)
        return reading

    def _read_to(self, reading: SegmentReading, size: int) -> None:
        """Read and check a segment up to an offset, with pauses, and compare it with an earlier seal."""
        old = self._old_seal(reading.name)
        while True:
            step = BLOCK
            if old is not None and reading.offset < old.seal.size:
                step = min(step, old.seal.size - reading.offset)
            if not reading.advance(size, most=step):
                break
            if old is not None and reading.offset == old.seal.size:
                _compare(reading, old)
            if not self._ending:
                time.sleep(_BREATH_S)
        if not reading.wrong and old is not None and size < old.seal.size:
            reading.wrong = f"the segment is shorter than its seal, which covers {old.seal.lines} lines"

    # -- one segment

    def _seal(self, closed: Closed) -> None:
        extent = closed.extent
        if not extent.size:
            return  # a crash has cut its header, so there is no line to seal
        try:
            reading = self._open(extent.segment)
            self._check(reading, extent)
        except FileNotFoundError:
            return  # the segment is missing: `verify` reports that
        except OSError as exc:
            self._attempts += 1
            if exc.errno not in _UNREADABLE or self._attempts < _ATTEMPTS:
                raise
            # The next seal continues the seal before this segment.
            self._attempts = 0
            self._report_change(extent.segment, f"{UNREAD} ({exc.strerror}), so it gets no seal")
            return
        self._attempts = 0
        old, proven = self._old_seal(extent.segment), reading.proven
        if proven is not None and (old is None or (not reading.wrong and proven.lines > old.seal.lines)):
            os.fsync(reading.fd)
            self._write(closed, reading, proven)
        elif old is not None and (self._last is None or old.seal.number > self._last[0]):
            self._last = (old.seal.number, old.digest)
        self._old.pop(extent.segment, None)
        self._adopted.pop(extent.segment, None)
        if closed.reason != END and not reading.wrong:
            self._sealed_names.append(extent.segment)

    def _write(self, closed: Closed, reading: SegmentReading, proven: Proven) -> None:
        name, number = reading.name, segment_number(reading.name) or 0
        signer = self._keys.signer()
        old = self._old_seal(name)
        adopted = self._adopted.get(name, 0) if closed.reason != CRASH else proven.seq
        if old is not None and adopted <= old.seal.last_seq:
            adopted = old.seal.adopted
        seal = Seal(
            self._mount_id, name, number, reading.first_seq, proven.seq, proven.lines, proven.size,
            reading.opening, proven.head, proven.root.hex(),
            DAMAGE if reading.wrong else closed.reason, adopted, iso_time(time.time_ns()),
            self._previous(number), signer.key.key,
        )  # fmt: skip
        line = signer.sign("seal", body_of("seal", seal))
        self._keep_keys(signer)
        write_file(self._directory.fd, seal_name(name), line)
        if name not in self._directory.names():  # rotation has removed the segment
            with suppress(FileNotFoundError):
                os.unlink(seal_name(name), dir_fd=self._directory.fd)
        digest = digest_of(line)
        self._last, self.sealed = (number, digest), name
        end = Checkpoint(
            self._mount_id, proven.seq, proven.head, name, proven.lines, proven.size, seal.root, digest,
            seal.time, seal.key,
        )  # fmt: skip
        self._end = signer.sign("checkpoint", body_of("checkpoint", end))
        self._before |= {seal.previous, old.digest if old else seal.previous}
        self._report_seal(
            {"segment": name, "last_seq": seal.last_seq, "root": seal.root, "key": seal.key, "seal": digest}
        )

    def _previous(self, number: int) -> str:
        """Return the digest of the newest seal among the segments with a lower number, or NO_SEAL."""
        if self._last is not None and self._last[0] < number:
            return self._last[1]
        for name in reversed(self._directory.seals()):
            if (segment_number(name) or 0) < number:
                return digest_of(self._directory.contents(seal_name(name)))
        return NO_SEAL

    def _keep_keys(self, signer: Signer) -> None:
        """Write the public keys to the trail directory, if the file there is missing or older."""
        with suppress(FileNotFoundError):
            if self._directory.contents(PUBLIC) == signer.lines:
                return
        write_file(self._directory.fd, PUBLIC, signer.lines)

    def _old_seal(self, name: str) -> Proof | None:
        if name not in self._old:
            found = None
            with suppress(FileNotFoundError):
                line = self._directory.contents(seal_name(name))
                keys = read_keys(self._keys.public().splitlines(keepends=True), is_signed)
                found = read_seal(line, keys, is_signed)
            self._old[name] = found
        return self._old[name]


def _remove_unfinished(place: int) -> None:
    """Remove unfinished files of a killed daemon. No other process writes in this trail directory now."""
    for name in os.listdir(place):
        if name.startswith(NEW):
            with suppress(OSError):
                os.unlink(name, dir_fd=place)


def _left_behind(directory: SegmentDirectory, *, but: str) -> list[Closed]:
    """Return the segments except *but* that earlier daemons have left without a seal. Those that cannot be
    read are left out, and do not prevent a mount: `verify` names them."""
    sealed = directory.seals()
    newest = segment_number(sealed[-1]) or 0 if sealed else 0
    found = []
    for name in directory.names():
        if name == but or (segment_number(name) or 0) < newest or is_compressed(name):
            continue  # a compressed segment has a seal
        with suppress(OSError), open(directory.read(name), "rb") as file:
            size = read_tail(file.fileno()).offset
            found.append(Closed(Extent(name, size, 0, ""), CRASH))
    return found


def _compare(reading: SegmentReading, old: Proof) -> None:
    seal = old.seal
    same = (reading.tree.size, reading.seq, reading.head, reading.tree.root().hex()) == (
        seal.lines, seal.last_seq, seal.head, seal.root,
    )  # fmt: skip
    if old.distrust:
        reading.wrong = f"the seal proves nothing: {old.distrust}"
    elif not same:
        reading.wrong = "the lines differ from the seal"
