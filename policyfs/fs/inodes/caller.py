"""The process that sends a request."""

from __future__ import annotations

from collections.abc import Callable

from policyfs.domain import Principal
from policyfs.fs.sharing.shares import Holder


class Caller:
    """The process that sends a request. Its principal is looked up at each use, since the policy may change.

    pid: the number of the calling thread (gettid(2)); 0 if the daemon cannot see it. program: the path of the
    executable, for the trail; "" if not known, None before Recorder.program_of() has looked."""

    __slots__ = ("_who", "gid", "pid", "program", "uid", "umask")

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

    @property
    def principal(self) -> Principal:
        """The principal under the policy in force."""
        return self._who(self.uid)

    @property
    def holder(self) -> Holder:
        """The key under which the use of limited resources counts: the app, or a stranger's uid."""
        return self.principal.app or self.uid
