"""The high-water mark of a trail root: the latest end of all exceptions that have ended in its mounts.

(An exception is a rule of the policy for a limited time.) The mark never goes back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.policy.exceptions import ended
from policyfs.policy.model import Policy

NAME: Final = "exceptions-ended"
"""The file's name in the trail root: one number, in ns since 1970."""

_FIRST_RELEASE_NS: Final = 1_793_491_200_000_000_000
"""2026-11-01: no clock that is set shows a time before it."""
_DIGITS: Final = 20
_NEVER: Final = 10**_DIGITS - 1
_PATIENCE_S: Final = 2.0
"""The longest wait for another daemon that has locked the file. A daemon that is frozen (SIGSTOP, docker
pause) may have the lock for hours."""
_LOOK_S: Final = 0.01


class HighWaterMark:
    """A file with the high-water mark of all daemons of a trail root. Thread-safe. INVARIANT: an exception (a
    rule for a limited time) that has ended never begins again, after a restart and with a clock put back."""

    def __init__(self, root: Path, clock_ns: Callable[[], int] | None = None) -> None:
        """Open the file in the directory *root*, or make it. Raises PolicyfsError."""
        self._clock_ns = time.time_ns if clock_ns is None else clock_ns
        self._path = root / NAME
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise PolicyfsError(
                f"cannot open {self._path}, the file of the ended exceptions: {error.strerror}"
            ) from error
        self._raising, self._saving = threading.Lock(), threading.Lock()
        self._mark_ns = 0
        self._saved_ns = 0
        """The number that is in the file for certain. It is below the mark if a write has failed."""
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self.close()
            raise PolicyfsError(f"{self._path} is not a regular file; remove it, and mount again")
        try:
            self._mark_ns = self._saved_ns = self._raised(0)
        except OSError as error:
            self.close()
            raise PolicyfsError(f"cannot write {self._path}: {error.strerror}") from error

    @property
    def clock_is_unset(self) -> bool:
        """True if the clock shows a time before there was policyfs, as after a boot without a battery.
        Then nobody knows which exceptions have ended."""
        return self._clock_ns() < _FIRST_RELEASE_NS

    @property
    def damaged(self) -> bool:
        """True if the file has no readable number: all exceptions (rules for a limited time) have ended."""
        return self._mark_ns == _NEVER

    def now_ns(self) -> int:
        """Return the present time for exceptions (rules for a limited time): the clock's time, or the mark if
        the mark is later. In ns since 1970."""
        return max(self._clock_ns(), self._mark_ns)

    def pass_ends(self, policy: Policy) -> None:
        """Raise the mark to the latest end of the policy's exceptions (rules for a limited time) that have
        ended. Never waits; save() writes the file."""
        self._raise(max((one.until_ns for one in ended(policy)), default=0))

    def save(self) -> None:
        """Write the mark into the file. Blocks. Raises OSError; the next call tries again."""
        with self._saving:
            if self._mark_ns > self._saved_ns:
                self._saved_ns = self._raised(self._mark_ns)
                self._raise(self._saved_ns)

    def _raise(self, at_ns: int) -> None:
        with self._raising:
            self._mark_ns = max(self._mark_ns, at_ns)

    def _raised(self, at_ns: int) -> int:
        """Raise the number in the file to *at_ns*, and return it, perhaps a later one. Raises OSError."""
        self._lock()
        try:
            text = os.pread(self._fd, 64, 0)
            known = 0 if not text else int(text) if text.strip().isdigit() else _NEVER
            if at_ns > known or not text:
                # The text always has the same length and place: so a full disk cannot stop a later write.
                os.pwrite(self._fd, b"%0*d\n" % (_DIGITS, at_ns), 0)
                os.fsync(self._fd)
            return max(at_ns, min(known, _NEVER))
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _lock(self) -> None:
        until_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until_s:
                    text = (
                        "another policyfs daemon has locked the file; if that daemon is stopped (SIGSTOP,"
                        " docker pause), continue it"
                    )
                    raise TimeoutError(errno.ETIMEDOUT, text) from None
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
