"""The process that sends a request, and the callers that a mount admits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from policyfs.domain import Principal
from policyfs.fs.sharing.shares import Holder
from policyfs.linux.statx import Stat


class Context(Protocol):
    """The sender of a request, as the kernel describes it."""

    @property
    def uid(self) -> int:
        """The sender's file-system uid (setfsuid(2)); usually its effective uid."""

    @property
    def gid(self) -> int:
        """The sender's file-system gid (setfsgid(2)); usually its effective gid."""

    @property
    def pid(self) -> int:
        """The sender's thread, not process (fs/fuse/dev.c, task_pid); 0 outside the daemon's view."""

    @property
    def umask(self) -> int:
        """The caller's umask if the request has one (CREATE, MKDIR, MKNOD), else 0."""


class Admitted(NamedTuple):
    """The callers that an app mount with several groups admits: one uid, with any of these primary groups.
    The kernel can admit one group or everybody, so the daemon refuses the others."""

    uid: int
    gids: frozenset[int]


NO_ID: Final = 0xFFFFFFFF
"""The uid and gid of a caller on an idmapped mount, except in requests that create (fs/fuse/dev.c,
fuse_get_req)."""


class Caller:
    """The process that sends a request. Its principal is looked up at each use, since the policy may change.

    pid: the number of the calling thread (gettid(2)); 0 if the daemon cannot see it. program: the path of the
    executable, for the trail; "" if not known, None before Recorder.program_of() has looked."""

    __slots__ = ("_who", "gid", "pid", "program", "uid", "umask", "unique")

    def __init__(
        self,
        who: Callable[[int], Principal],
        uid: int,
        gid: int,
        pid: int,
        umask: int,
        program: str | None = None,
    ) -> None:
        self._who = who
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.umask = umask
        self.program = program
        self.unique = 0
        """The number of the request, if it opens a file or a directory. If it comes again, because the daemon
        was killed before its answer, it has the same number."""

    @property
    def principal(self) -> Principal:
        """The principal under the policy in force."""
        return self._who(self.uid)

    @property
    def holder(self) -> Holder:
        """The key under which the use of limited resources counts: the app, or a stranger's uid."""
        return self.principal.app or self.uid

    def owner_like(self, stat: Stat) -> tuple[int, int]:
        """Return the caller's uid and gid, or if these are not known those in *stat*."""
        return (self.uid, self.gid) if self.uid != NO_ID else (stat.uid, stat.gid)
