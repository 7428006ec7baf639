"""Callers of a mount, as the kernel tells of them, and the ones that a mount admits."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Context(Protocol):
    """Who sent a request, as the kernel says it."""

    @property
    def uid(self) -> int:
        """The uid for the file system."""

    @property
    def gid(self) -> int:
        """The gid for the file system."""

    @property
    def pid(self) -> int:
        """The thread group, 0 where the daemon cannot see it."""

    @property
    def umask(self) -> int:
        """Of requests that create something, else 0."""


class Admitted(NamedTuple):
    """The callers of an app mount with several groups: one uid, with any of these primary groups.

    The kernel admits one group to a mount, or everybody: here the daemon refuses the others.
    """

    uid: int
    gids: frozenset[int]
