"""Callers of a mount, as the kernel describes them, and the callers that a mount admits."""

from __future__ import annotations

from typing import NamedTuple, Protocol


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
        """The number of the sender's thread, not process (fs/fuse/dev.c, task_pid); 0 outside the daemon's
        view."""

    @property
    def umask(self) -> int:
        """The caller's umask if the request has one (CREATE, MKDIR, MKNOD), else 0."""


class Admitted(NamedTuple):
    """The callers that an app mount with several groups admits: one uid, with any of these primary groups.
    The kernel can admit one group or everybody, so the daemon refuses the others."""

    uid: int
    gids: frozenset[int]
