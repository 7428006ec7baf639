"""The boundary to pyfuse3 turns each exception of a handler into an errno. So no exception ends the loop."""

from __future__ import annotations

import contextlib
import errno
import functools
from collections.abc import Callable, Coroutine
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from policyfs.fs.access.ledger import Ledger, PolicyRecord
from policyfs.fs.inodes.resolver import DirectoryMovedError
from policyfs.kernel.bridge import KEPT_REQUEST, pyfuse3, raw_request
from policyfs.kernel.operations import BugLog
from policyfs.kernel.protocol import errno_of_reply

P = ParamSpec("P")
R = TypeVar("R")

_OUR_FAULT: Final = frozenset({errno.EBADF, errno.EFAULT, errno.ENOTSOCK, errno.EBADRQC})
"""Errors that only a bug of policyfs can cause: EIO for the app. EBADRQC: the daemon's own seccomp filter."""
_UNDECIDED: Final = frozenset({"flush", "forget", "fsync", "release", "releasedir"})
"""The handlers that decide nothing, and must not fail because the trail's disk hangs."""
_CHANGES_NOTHING: Final = frozenset(
    {"access", "getattr", "getxattr", "listxattr", "lookup", "opendir", "readdir", "readlink", "statx"}
)
"""The handlers that can begin again. (If another request gets ESTALE, the kernel sends it once more.)"""
_MOVES: Final = 3
"""The number of times that a directory may be moved while one request is answered."""


class HasBugLog(Protocol):
    """A handler object that can report bugs."""

    @property
    def bugs(self) -> BugLog:
        """The bug log of this object."""

    @property
    def policy_record(self) -> PolicyRecord:
        """The record about the policy in force."""


S = TypeVar("S", bound=HasBugLog)


def _refusal(bugs: BugLog, where: str, error: Exception) -> pyfuse3.FUSEError:
    """Return an OSError's errno for the app (errno_of_reply), or EIO for a bug, which is logged."""
    if isinstance(error, OSError) and error.errno is not None and error.errno not in _OUR_FAULT:
        return pyfuse3.FUSEError(errno_of_reply(error.errno))
    bugs.bug(where, error)
    return pyfuse3.FUSEError(errno.EIO)


def guarded(
    handler: Callable[Concatenate[S, P], Coroutine[object, object, R]],
) -> Callable[Concatenate[S, P], Coroutine[object, object, R]]:
    """Wrap a handler. A FUSEError passes, an OSError becomes its errno, any other exception and _OUR_FAULT
    become EIO, logged as a bug. After DirectoryMovedError a handler that changes nothing begins again.

    Requests wait for the record of a new policy, then get EIO (PolicyRecord). The reply waits for the
    handler's ledger (access/ledger.py): EIO if a record cannot be written. INVARIANT: every coroutine that
    pyfuse3 calls is wrapped: an exception but FUSEError would end the event loop, and the mount."""

    decides = handler.__name__ not in _UNDECIDED
    tries = _MOVES if handler.__name__ in _CHANGES_NOTHING else 0

    async def once(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with Ledger() as own:
            try:
                return await handler(self, *args, **kwargs)
            finally:
                await own.settle()

    @functools.wraps(handler)
    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        kept = None
        try:
            if decides and self.policy_record.is_missing:
                kept = KEPT_REQUEST.set(raw_request())
                await self.policy_record.wait()
            for _ in range(tries):
                with contextlib.suppress(DirectoryMovedError):
                    return await once(self, *args, **kwargs)
            return await once(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: see INVARIANT
            raise _refusal(self.bugs, handler.__name__, error) from None
        finally:
            if kept is not None:
                KEPT_REQUEST.reset(kept)

    return wrapper


def guarded_now(handler: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Wrap a handler as `guarded` does. Only for handlers that never wait and need no ledger."""

    @functools.wraps(handler)
    def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: see guarded
            raise _refusal(self.bugs, handler.__name__, error) from None

    return wrapper
