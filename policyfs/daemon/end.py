"""The end of a mount, for trail and exit code: its cause, and the process that caused the end, if known."""

from __future__ import annotations

import io
import os
import select
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from policyfs.journal.writing.programs import executable
from policyfs.linux import libc
from policyfs.linux.mountinfo import MOUNTINFO, Mount, parse_mounts_at

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_RECORD: Final = 128  # struct signalfd_siginfo (signalfd(2))
_FIELDS: Final = struct.Struct("=IiiII")  # signo, errno, code, pid, uid

UNMOUNTED: Final = "unmounted"
ABORTED: Final = "aborted"
DETACHED: Final = "detached"
_ANNOUNCED_S: Final = 60.0
"""The time for which an announced end counts. The unmount follows at once. But the client may be killed
before the unmount, or may give up while the daemon does not answer."""
CIRCLE: Final = "the daemon and a read or write in passthrough waited for each other"


@dataclass(frozen=True, slots=True)
class MountEnd:
    """The end of a mount, or the cause of a reload.

    cause: ``signal``; ``command`` (policyfs umount); ``outside``: a process that the kernel does not name has
    removed the mount or its connection (umount, fusermount3, fusectl); ``error``: the daemon failed; of a
    reload only: ``watch`` (the policy's files changed), ``exception`` (a rule for a limited time ended). how:
    the signal, the command, one of UNMOUNTED, ABORTED, DETACHED and CIRCLE, or another text. pid, uid, exe:
    of the process that ended the mount, or ran the command, if known. login: the uid with which its user has
    logged in."""

    cause: str
    how: str
    pid: int | None = None
    uid: int | None = None
    exe: str = ""
    login: int | None = None

    @property
    def ordered(self) -> bool:
        """True if somebody told the daemon to end. Then the mount need not be made again."""
        return self.cause in {"signal", "command"}

    def fields(self) -> dict[str, object]:
        """Return the fields for a record of the trail."""
        found: dict[str, object] = {"cause": self.cause, "how": self.how}
        if self.pid is not None:
            found |= {"pid": self.pid, "uid": self.uid, "exe": self.exe}
        if self.login is not None:
            found["login"] = self.login
        return found


class EndOfMount:
    """A register that keeps the end of one mount. If several ends are recorded, the first one is kept."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """now_s: a clock (seconds) that never goes back."""
        self._now_s = now_s
        self._announced: MountEnd | None = None
        self._until_s = 0.0
        self._end: MountEnd | None = None

    def announce(self, end: MountEnd) -> None:
        """Note that a client, the cause in *end*, is about to unmount. INVARIANT: it counts for a minute
        only: a later end by another process (such as the app's fusermount3) is not the client's order, or
        nobody would mount again."""
        self._announced, self._until_s = end, self._now_s() + _ANNOUNCED_S

    def withdraw(self) -> None:
        """Forget that a client was about to unmount, because the unmount did not happen."""
        self._announced = None

    def by(self, end: MountEnd) -> MountEnd:
        """Record the end of the mount if none is on record yet: the announced one, which is more precise,
        else *end*. Return the one on record."""
        if self._end is None:
            announced = self._announced if self._now_s() < self._until_s else None
            self._end = announced or end
        return self._end

    @property
    def end(self) -> MountEnd:
        """The end on record; if there is none, an error of the daemon."""
        return self._end or MountEnd("error", "the daemon failed")


class SignalReader:
    """A descriptor (signalfd(2)) that gives signals with their senders. INVARIANT: made on the main thread,
    while all other threads block the signals, as later ones do. The signals stay blocked."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._fd = libc.signalfd({int(number) for number in SIGNALS})

    async def receive(self) -> MountEnd:
        """Wait for a signal; return it with its sender. The kernel's own signals (Ctrl-C) have no sender."""
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            try:
                number, _, _, pid, uid = _FIELDS.unpack_from(os.read(self._fd, _RECORD))
            except BlockingIOError:
                continue
            name = signal.Signals(number).name
            return MountEnd("signal", name, pid, uid, executable(pid)) if pid else MountEnd("signal", name)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


class MountTable:
    """A watch that reports changes of this mount namespace's mount table (proc(5), mountinfo)."""

    def __init__(self) -> None:
        self._file = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
        # The file itself is always readable. A change is an exceptional condition, which trio does not
        # wait for. An epoll that contains the file becomes readable at a change.
        self._changes = select.epoll()
        self._changes.register(self._file, select.EPOLLPRI)

    async def changed(self) -> None:
        """Wait until the table has changed since the last call."""
        await trio.lowlevel.wait_readable(self._changes.fileno())
        self._changes.poll(0)  # clears the condition: fs/proc_namespace.c, mounts_poll

    def at(self, path: str) -> list[Mount]:
        """Return the mounts on exactly this absolute path without symlinks, the topmost last. INVARIANT: it
        opens no file, also none of a codec (so it reads bytes): a process may have used up all
        descriptors."""
        os.lseek(self._file, 0, os.SEEK_SET)
        with io.FileIO(self._file, closefd=False) as table:
            return parse_mounts_at(path, table.readall().decode("latin-1").split("\n")[:-1])

    def close(self) -> None:
        """Close the descriptors."""
        self._changes.close()
        os.close(self._file)
