"""Writes of an open file that have not reached the store: a held head or a draft, as passive state.

What becomes of them is decided in fs/checked: head_writes.py and drafts.py.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from policyfs.domain import RuleMatch
from policyfs.linux.statx import Stat
from policyfs.store.frozen import Version


class Refusal(NamedTuple):
    """Why a file was refused. quarantine: it is to be kept. generation: of the policy that judged it."""

    kind: str | None
    reason: str
    rules: tuple[RuleMatch, ...]
    quarantine: bool
    generation: int


class Head:
    """State of one checked node's head while it is open for writing.

    held: bytes that are not in the store yet, None once they are (or the file had some).
    created: the file was created by this session and may be removed if refused.
    refused: a write was refused, so an empty remainder is no honest empty file.
    left: what the file was right after the last change of ours, until somebody asks.
    """

    __slots__ = ("created", "held", "left", "refused")

    def __init__(self, *, empty: bool, created: bool) -> None:
        self.held: bytes | None = b"" if empty else None
        self.created = created
        self.refused = False
        self.left: Version | None = None

    def size(self, stored: int) -> int:
        """The file's size as its writer sees it, with held bytes."""
        return stored if self.held is None else max(stored, len(self.held))


class Draft:
    """fd: of the unnamed file, ours. created: the store's file was created by this session. changed:
    there is something that the store does not have. refused: it was looked through in vain. base: the
    size and mtime of the store's file that it began with, or left there last; None if it is known that
    somebody else has changed the file since. refusal: why it was refused last, None if its content never
    was; unchanged: nothing was written into it since. times_ns: access and modification times that were set
    after the last write. cleaned_of: words that the store's version of it was cleaned of, while this one was
    not.
    """

    __slots__ = (
        "base", "changed", "cleaned_of", "created", "fd", "refusal", "refused", "times_ns", "unchanged",
    )  # fmt: skip

    def __init__(self, fd: int, stat: Stat, *, created: bool) -> None:
        self.fd = fd
        self.base: tuple[int, int] | None = base_of(stat)
        self.created = created
        self.changed = self.refused = self.unchanged = False
        self.refusal: Refusal | None = None
        self.times_ns: tuple[int, int] | None = None
        self.cleaned_of: frozenset[str] = frozenset()

    def touch(self) -> None:
        """Something is written into it."""
        self.changed, self.unchanged, self.times_ns = True, False, None

    def dated(self, before: Stat, now: Stat) -> None:
        """Somebody set the times of the store's file, through this node: what it was right before, and is.

        INVARIANT: that somebody else changed the file before is not covered up by its new times.
        """
        self.base = base_of(now) if base_of(before) == self.base else None
        self.times_ns = now.atime_ns, now.mtime_ns

    @property
    def size(self) -> int:
        """The file's size as its writer sees it, in bytes."""
        return os.fstat(self.fd).st_size

    def give(self) -> int:
        """Its descriptor, which is the caller's to close from here on."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Give it up. A second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def base_of(stat: Stat) -> tuple[int, int]:
    return stat.size, stat.mtime_ns
