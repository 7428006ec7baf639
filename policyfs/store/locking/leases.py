"""Read leases: the kernel's proof that nobody writes a file while the daemon reads it (fcntl(2)).

A lease is granted only while the file has no writer and no writable shared mapping, in any mount or in the
store. A writer that comes later waits in open(2) or truncate(2) until the lease is released, and a signal
tells the daemon. After /proc/sys/fs/lease-break-time seconds the kernel takes the lease by force. So bytes
count only if ``holds()`` is True *after* the read. unlink, rename, chmod and similar calls break no lease.
StoreFacts.leases is True for file systems on which leases work as described here. Another file system can be
mounted within the store, so LeaseKeeper.grant() looks at the file system of each file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

from policyfs.linux import libc
from policyfs.linux.leases import release
from policyfs.store.facts import leases_mean, times_are_silent

_RECORD: Final = 128  # struct signalfd_siginfo
_FIELDS: Final = struct.Struct("=IiiIIi")  # signo, errno, code, pid, uid, fd
_RECORDS_PER_READ: Final = 64
_VOID_S: Final = 10.0
"""The time for which the keeper remembers that leases prove nothing on a device. After that time another file
system may have the device's number."""

DEFAULT_SIGNAL: Final = int(signal.SIGRTMIN) + 5


class Lease:
    """A read lease that the kernel has granted on descriptor *fd*. The caller closes *fd*.

    INVARIANT: call release() before the descriptor is closed. A later call would release the lease of
    another file that has got the same descriptor number.
    """

    __slots__ = ("_keeper", "_on_break", "fd", "released", "told")

    def __init__(self, keeper: LeaseKeeper, fd: int, on_break: Callable[[Lease], None] | None) -> None:
        self._keeper = keeper
        self._on_break = on_break
        self.fd: Final = fd
        self.released = False
        self.told: Hashable = None
        """The answer of the store's server about the file after grant(); None if no server was asked."""

    def holds(self) -> bool:
        """Return True if no writer could change the file since grant(). Call holds() *after* each read,
        before the bytes are used. The answer is False once a writer waits."""
        return not self.released and fcntl.fcntl(self.fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK

    def release(self) -> None:
        """Release the lease, so that a waiting writer goes on. A second call does nothing."""
        if self.released:
            return
        self.released = True
        self._keeper._forget(self)  # noqa: SLF001 - Lease and LeaseKeeper are one unit
        release(self.fd)

    def _broken(self) -> None:
        if self._on_break is None:
            self.release()
        else:
            self._on_break(self)


class LeaseKeeper:
    """The one object that keeps all leases of the process. fileno() is readable when a lease is being broken.

    INVARIANT: create the keeper on the main thread before any other thread starts. All threads must block the
    signal: in a thread that does not block it, the signal ends the process. New threads and children inherit
    the blocked signal. Raises RuntimeError if a thread exists that does not block the signal.

    Used on the event-loop thread only: wait until fileno() is readable, then call on_signal().

    root_dev: the device of the store's root, or -1. grant() is called only if leases work there
    (StoreFacts.leases, StoreFacts.delegates).
    """

    __slots__ = ("_early", "_fd", "_leases", "_silent", "_void", "root_dev", "signal")

    def __init__(self) -> None:
        self.signal: Final = DEFAULT_SIGNAL
        # If the kernel's queue of signals is full, SIGIO comes instead, without a descriptor.
        signals = {DEFAULT_SIGNAL, int(signal.SIGIO)}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        _demand_blocked(signals)
        self._fd = libc.signalfd(signals)
        self._leases: dict[int, Lease] = {}
        self._void: dict[int, float] = {}  # by device: the time (monotonic) until which it counts as void
        self._silent: set[int] = set()  # devices, except the root's
        self.root_dev = -1
        self._early: _EarlyRelease | None = None

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a lease is being broken."""
        return self._fd if self._early is None else self._early.told_fd

    def release_early(self) -> None:
        """Let a thread release each lease when it is being broken. on_signal() calls on_break later.

        INVARIANT: in a pool, no lease waits for the event loop. The pool's server waits for the lease, and
        the loop may wait for that server.
        """
        self._early = _EarlyRelease(self._fd, self._release_signalled)

    def _release_signalled(self) -> None:
        for lease in self._signalled():
            with contextlib.suppress(OSError):  # released meanwhile
                if fcntl.fcntl(lease.fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
                    release(lease.fd)

    def __len__(self) -> int:
        return len(self._leases)

    def grant(self, fd: int, on_break: Callable[[Lease], None] | None = None) -> Lease | None:
        """Take a lease on the regular file behind *fd*, which is open for reading only.

        Return None if the file has a writer, or if a lease proves nothing on the file's file system.

        on_signal() calls on_break when a writer waits. on_break must stop serving bytes, and release()
        must follow within lease-break-time. Without on_break the keeper releases the lease at once.
        Raises OSError (EBADF, ENOLCK), ValueError if *fd* has a lease already.
        """
        if fd in self._leases:
            raise ValueError(f"descriptor {fd} has a lease already")
        if not self._means(fd):
            return None
        lease = Lease(self, fd, on_break)
        # INVARIANT: a lease is known before it can be broken. The thread of release_early() drops a signal
        # for an unknown descriptor, and the writer would wait until the kernel takes the lease.
        self._leases[fd] = lease
        taken = False
        try:
            taken = _take(fd, self.signal)
        finally:
            if not taken:
                del self._leases[fd]
        return lease if taken else None

    def is_void(self, dev: int) -> bool:
        """Return True if grant() has found that leases prove nothing on this device (st_dev)."""
        return time.monotonic() < self._void.get(dev, 0.0)

    def is_silent(self, dev: int) -> bool:
        """Return True if the last grant() on this device has found that times do not show every write there
        (as on tmpfs). Return False for the device of the store's root."""
        return dev in self._silent

    def _means(self, fd: int) -> bool:
        """Return True if a lease on the file behind *fd* proves that nobody writes the file.

        INVARIANT: only the root's device, which stays mounted, needs no look at the file system. Another
        device may be unmounted, and its number may then be that of a FUSE file system.
        """
        dev = os.fstat(fd).st_dev
        if dev == self.root_dev:
            return True
        if self.is_void(dev):  # statfs(2) may ask a slow server
            return False
        try:
            (self._silent.add if times_are_silent(fd) else self._silent.discard)(dev)
            means = leases_mean(fd)
        except OSError:  # a FUSE server need not answer statfs(2)
            means = False
        if not means:
            self._void[dev] = time.monotonic() + _VOID_S
        return means

    def on_signal(self) -> int:
        """Call on_break for every lease that is being broken. Return the number of these leases.

        Never blocks. If a callback raises an error, that callback's lease is released, because the writer
        must not wait for a bug of policyfs. The other callbacks are still called. Then all errors are raised
        as one ExceptionGroup.
        """
        signalled = self._signalled() if self._early is None else self._early.told(self._leases)
        broken = [lease for lease in signalled if not lease.released and not lease.holds()]
        errors: list[Exception] = []
        for lease in broken:
            try:
                lease._broken()  # noqa: SLF001 - one unit
            except Exception as error:  # noqa: BLE001 - collected, and raised below
                errors.append(error)
                lease.release()
        if errors:
            raise ExceptionGroup("lease callbacks failed", errors)
        return len(broken)

    def close(self) -> None:
        """Release every lease and close fileno(). The signal stays blocked. A second call does nothing."""
        early, self._early = self._early, None
        if early is not None:
            early.close()
        for lease in list(self._leases.values()):
            lease.release()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _signalled(self) -> list[Lease]:
        """Return the leases that the queued signals name. If the queue overflowed, return all leases."""
        fds: set[int] = set()
        everything = False
        with contextlib.suppress(BlockingIOError):
            while records := os.read(self._fd, _RECORD * _RECORDS_PER_READ):
                for at in range(0, len(records), _RECORD):
                    number, _, _, _, _, fd = _FIELDS.unpack_from(records, at)
                    everything |= number != self.signal
                    fds.add(fd)
        if everything:
            return list(self._leases.values())
        # A signal may be for a descriptor that is closed by now. Another lease may have got the same
        # descriptor number, and the signal does not mean that lease. So on_signal() calls holds().
        return [self._leases[fd] for fd in fds if fd in self._leases]

    def _forget(self, lease: Lease) -> None:
        if self._leases.get(lease.fd) is lease:
            del self._leases[lease.fd]


class _EarlyRelease:
    """The thread that releases broken leases. told_fd becomes readable after it has released some."""

    def __init__(self, signal_fd: int, release_signalled: Callable[[], None]) -> None:
        self._release_signalled = release_signalled
        self.told_fd, self._tell_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stopped_fd, self._stop_fd = os.pipe2(os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(signal_fd, select.POLLIN)
        self._poll.register(self._stopped_fd, select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()  # and blocks all signals, which are for the main thread
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _run(self) -> None:
        while all(fd != self._stopped_fd for fd, _ in self._poll.poll()):
            self._release_signalled()
            with contextlib.suppress(BlockingIOError):  # full: the loop has not come yet
                os.write(self._tell_fd, b"!")

    def told(self, leases: dict[int, Lease]) -> list[Lease]:
        """Return all leases, of which some may be released now."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.told_fd, 65536)
        return list(leases.values())

    def close(self) -> None:
        os.write(self._stop_fd, b"!")  # closed, it would tell nothing while a forked process has it, too
        self._thread.join()
        for fd in (self._stopped_fd, self._stop_fd, self.told_fd, self._tell_fd):
            os.close(fd)


def break_foreign(fd: int) -> int | None:
    """Break leases of other processes on the file behind *fd* (O_PATH is enough), without waiting.

    Return an O_WRONLY descriptor if no such lease is left. Keep this descriptor open until the writer's own
    open is done, because the descriptor prevents new leases. Return None if a break has begun: try again
    soon. Before the call, release the daemon's own leases on the file. Raises OSError (EROFS, ETXTBSY,
    EISDIR, ...).
    """
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # also of chattr +a
        return os.open(libc.proc_fd(fd), flags)
    except BlockingIOError:
        return None


def _take(fd: int, signal_number: int) -> bool:
    # The signal is set before the lease is taken, so that no break is missed. F_SETLEASE makes this process
    # the receiver of the signal.
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal_number)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EINVAL}:  # a writer; a file system without leases
            return False
        raise
    return True


def _demand_blocked(signals: set[int]) -> None:
    wanted = sum(1 << (number - 1) for number in signals)
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            with open(f"/proc/self/task/{task}/status", encoding="ascii", errors="replace") as lines:
                blocked = next(int(line.split()[1], 16) for line in lines if line.startswith("SigBlk:"))
            if wanted & ~blocked:
                raise RuntimeError(f"thread {task} was started before the lease keeper")
