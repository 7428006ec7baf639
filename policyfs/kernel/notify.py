"""The queue of notifications to the kernel, and the threads that write them to the FUSE device."""

from __future__ import annotations

import array
import collections
import contextlib
import errno
import itertools
import os
import select
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from policyfs.errors import errno_name
from policyfs.kernel import messages
from policyfs.kernel.bridge import write_notifications
from policyfs.kernel.messages import EXPIRE_ONLY, Call, Then
from policyfs.kernel.protocol import MINOR_EXPIRE_ONLY, MINOR_INC_EPOCH, MINOR_PRUNE

_PRUNE_CHUNK: Final = 4096  # node ids in one notification
_AT_ONCE: Final = 256  # messages that are built together and then written
_HANGS_S: Final = 1.0  # after a write has taken this long, another thread goes on with the queue
_HANGS_TOO_S: Final = 0.1  # used instead of _HANGS_S if writes of other threads hang already
_HANGING: Final = 256  # the limit of threads whose write hangs
_IN_DIRECTORIES: Final = 128  # the limit of threads whose write hangs because it waits for a directory

_GONE: Final = frozenset({errno.ENODEV, errno.ENOTCONN, errno.EPERM, errno.ECONNABORTED})
"""Errnos of a write to an aborted, unmounted or never mounted connection."""


_Key: TypeAlias = bytes | int
"""The message itself, so that it is queued only once, or a number for many messages."""
_ALL: Final = -1  # the key of the messages about all nodes


@dataclass(frozen=True, slots=True)
class NotifierStats:
    """Counts of notifications: sent (taken by the kernel), absent (unknown node or name: normal), failed
    (other errors, see last_errors), refused (no room), queued (waiting calls), hanging (writes that hang
    while another thread goes on)."""

    sent: int
    absent: int
    failed: int
    refused: int
    queued: int
    hanging: int
    last_errors: tuple[str, ...]


class Notifier:
    """A queue of notifications. A thread of the notifier writes them.

    INVARIANT: the event loop writes no notification, except in methods that say so. For INVAL_INODE the
    kernel waits until a READ of the same inode is answered, and only the loop can answer it.

    For INVAL_ENTRY the kernel waits for the directory's lock, which an app can hold for as long as it likes
    (it removes a file, and writes this file by splice(2) from an empty pipe). INVAL_INODE waits for pages
    that are being written back, as long as the store hangs. So while one message hangs, another thread goes
    on with the queue (tend()), and further messages for that directory, or for the pages of that file, wait
    for the first.

    An app can lock any number of directories. If _IN_DIRECTORIES threads wait for directories, the kernel
    gets INC_EPOCH instead of a message about a name: it expires all names, and waits for nothing. (Before
    protocol 7.44, such messages wait in the daemon until a directory is free.)

    Methods return at once, unless their docstrings say that they wait. True: the notification is in the queue
    (never twice at a time). False: the queue is full (drain() makes room), the notifier is closed, or the
    kernel is too old. Then the kernel is not told to forget anything.
    """

    def __init__(self, device_fd: int, *, minor: int, capacity: int = 65536) -> None:
        """Start the first thread. minor: the kernel's FUSE protocol (session.negotiated().minor). capacity:
        the limit of waiting notifications. The caller closes device_fd."""
        self._fd = os.dup(device_fd)
        self._minor = minor
        self._gentle = EXPIRE_ONLY if minor >= MINOR_EXPIRE_ONLY else 0
        self._capacity = capacity
        self._queue: collections.OrderedDict[_Key, Iterable[bytes]] = collections.OrderedDict()
        self._batches = itertools.count()
        self._changed = threading.Condition()
        self._busy = False
        self._closed = False
        self._hanging = self._in_directories = 0
        self._living = 1
        self._of_batch: Iterator[bytes] = iter(())
        self._expired: Iterator[bytes] | None = None  # the batch whose names have all expired by INC_EPOCH
        self._done: Call | None = None  # the function to call after the batch that is being written
        self._writing = b""
        self._written_since: float | None = None
        self._waiting = WaitingMessages(capacity)
        self._sent = self._absent = self._failed = self._refused = 0
        self._last_errors: collections.deque[str] = collections.deque(maxlen=16)
        with self._changed:
            self._thread = self._started()

    def is_over(self) -> bool:
        """Return True if the connection has ended: no caller waits for an answer any more."""
        if self._closed:
            return True
        poll = select.poll()
        poll.register(self._fd, 0)  # the kernel adds POLLERR
        return bool(poll.poll(0))

    def inval_inode(self, nodeid: int, offset: int = -1, length: int = 0) -> bool:
        """Make the kernel forget a node's attributes, and *length* bytes of its pages (0: to the end) from
        *offset* (negative: no pages). If the queue is long: all pages, so that one notification is enough."""
        if length and len(self._queue) > self._capacity // 2:
            offset = length = 0
        return self._put_one(messages.inode(nodeid, offset, length))

    def inval_then(self, nodeid: int, done: Call, *, pages: bool) -> bool:
        """Make the kernel forget a node's attributes and, with *pages*, its pages. Then the writing thread
        calls *done*."""
        return self._put(next(self._batches), Then(messages.inode(nodeid, 0 if pages else -1, 0), done))

    def inval_inodes(self, nodeids: Iterable[int]) -> bool:
        """Make the kernel forget attributes and pages of these nodes (all that it knows). Even a full queue
        takes this entry, and that of inc_epoch(). If the entry of an earlier call still waits, replace it."""
        return self._put(_ALL, messages.all_pages(array.array("Q", nodeids)))

    def inval_entry(self, parent: int, name: bytes, expire_only: bool) -> bool:
        """Make the kernel forget a name's node in a directory, or that the name is absent. expire_only: True
        to only look it up again at its next use. If False (and before 7.38), open files show "(deleted)", and
        mounts below are unmounted."""
        return self._put_one(messages.entry(parent, name, self._gentle if expire_only else 0))

    def expire_entries(self, entries: Iterable[tuple[int, bytes]]) -> bool:
        """Make the kernel look up each of these names again at its next use. All names together take one
        entry of the queue. entries: tuples (directory node, name)."""
        known = list(entries)
        expired = (messages.entry(parent, name, self._gentle) for parent, name in known)
        return not known or self._put(next(self._batches), expired)

    def inval_entries_now(self, entries: Iterable[tuple[int, bytes, bool]]) -> bool:
        """Make the kernel forget many names: tuples (directory node, name, expire_only). Return once they are
        written.

        Return False if the kernel did not take all. This blocks until no request changes each directory or
        looks up a new name in it: call it on a thread of its own.
        """
        fd = -1
        with contextlib.suppress(OSError), self._changed:  # close() closes the descriptor
            fd = -1 if self._closed else os.dup(self._fd)
        if fd < 0:
            return False
        try:
            names = iter(entries)
            while part := b"".join(
                messages.entry(parent, name, self._gentle * expire)
                for parent, name, expire in itertools.islice(names, _AT_ONCE)
            ):
                sent, absent, error = write_notifications(fd, part)
                with self._changed:
                    self._sent, self._absent = self._sent + sent, self._absent + absent
                    if error:
                        self._failed += 1
                        self._last_errors.append(f"{messages.name_of(part)}: {errno_name(error)}")
                if error:
                    return False
            return True
        finally:
            os.close(fd)

    def inc_epoch(self) -> bool:
        """Make the kernel look up every name again at its next use (FUSE 7.44). Attributes and pages stay."""
        return self._minor >= MINOR_INC_EPOCH and self._put_one(messages.epoch())

    def inc_epoch_now(self) -> bool:
        """As inc_epoch(), but return once it is written; False: not taken. The event loop may call this: the
        kernel waits for nothing (fs/fuse/dev.c, fuse_notify_inc_epoch)."""
        if self._minor < MINOR_INC_EPOCH:
            return False
        with self._changed:  # close() closes the descriptor
            return not self._closed and self._written(messages.epoch()) == 0

    def inval_attributes_now(self, nodeid: int) -> bool:
        """Make the kernel forget an open node's attributes. Return once it is written; False: not taken. The
        event loop may call this: the kernel waits for nothing, as no pages are dropped (fs/fuse/inode.c,
        fuse_reverse_inval_inode)."""
        with self._changed:  # close() closes the descriptor
            return not self._closed and self._written(messages.inode(nodeid, -1, 0)) == 0

    def prune(self, nodeids: Sequence[int]) -> bool:
        """Make the kernel forget each of these nodes that is not in use, and send FORGETs (protocol 7.45)."""
        if self._minor < MINOR_PRUNE:
            return False
        queued = True
        for start in range(0, len(nodeids), _PRUNE_CHUNK):
            queued = self._put_one(messages.prune(nodeids[start : start + _PRUNE_CHUNK])) and queued
        return queued

    def tend(self) -> bool:
        """If a write hangs, let another thread go on with the queue. Return True if messages wait."""
        with self._changed:
            since, most_s = self._written_since, _HANGS_TOO_S if self._hanging else _HANGS_S
            hangs = since is not None and time.monotonic() - since > most_s
            if hangs and not self._closed and self._hanging < _HANGING:
                with contextlib.suppress(RuntimeError):  # no thread can be started: try again later
                    self._thread = self._started()
                    self._written_since = None
                    self._waiting.begin(self._writing)
                    self._in_directories += messages.needs_directory(self._writing)
                    self._living, self._hanging = self._living + 1, self._hanging + 1
            return self._busy or bool(self._queue)

    def drain(self, timeout_s: float) -> bool:
        """Wait until all notifications are written, also later ones; False at the timeout. Never on the event
        loop."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._queue or self._busy or self._hanging:
                if not self._changed.wait(deadline - time.monotonic()):
                    return not (self._queue or self._busy or self._hanging)
            return True

    def stats(self) -> NotifierStats:
        """Return the counts so far."""
        with self._changed:
            return NotifierStats(
                sent=self._sent,
                absent=self._absent,
                failed=self._failed,
                refused=self._refused,
                queued=len(self._queue),
                hanging=self._hanging,
                last_errors=tuple(self._last_errors),
            )

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write all queued notifications, then end. Return False if a write still hangs after *timeout_s* (it
        ends with the connection)."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            return not self._living

    def _put_one(self, message: bytes) -> bool:
        return self._put(message, (message,))

    def _put(self, key: _Key, batch: Iterable[bytes]) -> bool:
        with self._changed:
            if self._closed:
                return False
            if key in self._queue and key != _ALL:
                return True
            if len(self._queue) >= self._capacity and key not in {_ALL, messages.epoch()}:
                self._refused += 1
                return False
            self._queue[key] = batch
            self._changed.notify_all()
            return True

    def _put_back(self, messages: Iterable[Message]) -> None:
        """Queue messages again, after they had to wait because another message hung in the kernel."""
        plain = [message for message, done in messages if done is None]
        if plain:
            self._queue[next(self._batches)] = plain
        for message, done in messages:
            if done is not None:
                self._queue[next(self._batches)] = Then(message, done)

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="policyfs-notify", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while (found := self._next()) is not None:
                message, done = found
                goes_on = self._send(message)
                if done is not None:
                    done()
                if not goes_on:
                    break
        finally:
            with self._changed:
                self._living -= 1
                if not self._living:
                    os.close(self._fd)

    def _next(self) -> Message | None:
        """Return the next message, and the function to call after it; None at the end.

        INVARIANT: only the thread that writes calls this. No other thread takes over during the call
        (tend()). But another thread may take over as soon as the start time of the message is set. From then
        on *_done* (the function to call after a message) may belong to another message."""
        while True:
            while (message := next(self._of_batch, None)) is None:
                with self._changed:
                    self._busy = False
                    if not self._queue:
                        self._changed.notify_all()
                    while not self._queue:
                        if self._closed:
                            return None
                        self._changed.wait()
                    self._busy = True
                    batch = self._queue.popitem(last=False)[1]
                    self._of_batch = iter(batch)
                    self._done = batch.done if isinstance(batch, Then) else None
            with self._changed:
                if self._waiting.add(message, self._done):  # it waits: in the kernel, it would hang, too
                    continue
                if self._in_directories >= _IN_DIRECTORIES and messages.needs_directory(message):
                    if self._minor < MINOR_INC_EPOCH:
                        if self._waiting.add_to_any_directory(message):
                            continue
                    elif self._may_expire():
                        message = messages.epoch()
                    else:
                        continue
                self._writing, self._written_since = message, time.monotonic()
                return message, self._done

    def _may_expire(self) -> bool:
        """Return True if INC_EPOCH must be sent in place of a message about a name; False if this batch has
        already sent one. It stands for all messages about names in the batch, and for the single ones in the
        queue. Called under the lock."""
        if self._expired is self._of_batch:
            return False
        self._expired = self._of_batch
        for key in [key for key in self._queue if isinstance(key, bytes) and messages.needs_directory(key)]:
            del self._queue[key]
        return True

    def _written(self, message: bytes) -> int:
        try:
            os.write(self._fd, message)
        except OSError as exc:
            return exc.errno or errno.EIO
        return 0

    def _send(self, message: bytes) -> bool:
        """Write one message. Return False if another thread has taken over the queue meanwhile."""
        error = self._written(message)
        with self._changed:
            if error == 0:
                self._sent += 1
            elif error == errno.ENOENT:
                self._absent += 1
            else:
                self._failed += 1
                self._last_errors.append(f"{messages.name_of(message)}: {errno_name(error)}")
            if error in _GONE:
                self._closed = True
                self._queue.clear()
            if self._thread is not threading.current_thread():
                self._hanging -= 1
                self._in_directories -= messages.needs_directory(message)
                if not self._closed:
                    self._put_back(self._waiting.end(message))
                self._changed.notify_all()
                return False
            self._written_since = None
            if error in _GONE:  # no further messages are sent
                self._of_batch = iter(())
            return True


Message: TypeAlias = tuple[bytes, Call | None]
"""A notification, and the function to call after it was written (None: no function)."""


class WaitingMessages:
    """Waiting messages, by the directory's lock or the file's pages that they wait for (messages.awaited): at
    most *capacity*, because an app decides how many directories it locks, and how many names change there."""

    def __init__(self, capacity: int) -> None:
        self._capacity: Final = capacity
        self._by_what: Final[dict[bytes, dict[Message, None]]] = {}

    def begin(self, hanging: bytes) -> None:
        """Make further messages for the same directory or pages wait for the message *hanging*."""
        if (what := messages.awaited(hanging)) is not None:
            self._by_what.setdefault(what, {})

    def add(self, message: bytes, done: Call | None) -> bool:
        """Keep a message if another one hangs for the same directory or pages, and there is room. True: it
        was kept."""
        kept = self._by_what.get(messages.awaited(message) or b"") if self._by_what else None
        return kept is not None and self._keep(kept, (message, done))

    def add_to_any_directory(self, message: bytes) -> bool:
        """Keep a message until one of the locked directories is free. Return False if none is, or there is no
        room."""
        directories = (kept for what, kept in self._by_what.items() if messages.is_directory(what))
        kept = next(directories, None)
        return kept is not None and self._keep(kept, (message, None))

    def end(self, written: bytes) -> list[Message]:
        """Return, in order, the messages that waited for the message *written*, which is now written."""
        return list(self._by_what.pop(messages.awaited(written) or b"", ()))

    def _keep(self, kept: dict[Message, None], message: Message) -> bool:
        has_room = sum(map(len, self._by_what.values())) < self._capacity
        if has_room:
            kept[message] = None
        return has_room
