"""Writes of an open file that have not reached the store: a held head or a draft, as passive state.

The code that stores or drops them is in fs/checked: head_writes.py and drafts.py.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from policyfs.domain import RuleMatch
from policyfs.linux.statx import Stat
from policyfs.store import freeing
from policyfs.store.frozen import Version


class Refusal(NamedTuple):
    """The reason of a refusal. quarantine: True if the file must be kept. generation: that of the policy."""

    kind: str | None
    reason: str
    rules: tuple[RuleMatch, ...]
    quarantine: bool
    generation: int


class Head:
    """State of one checked node's head while it is open for writing.

    held: bytes that are not in the store yet; None once they are, or if the file had bytes before.
    created: True if this session created the file, so that it may be removed if refused.
    refused: True if a write was refused: if the file is then empty, its writer did not want an empty file.
    left: the file's version right after our last change, until it is noted in the handles (WriteGuard.wrote).
    """

    __slots__ = ("created", "held", "left", "refused")

    def __init__(self, stored: int, *, created: bool = False, refused: bool = False) -> None:
        """Begin with nothing held if the file is empty. stored: its size in the store, in bytes."""
        self.held: bytes | None = None if stored else b""
        self.created = created
        self.refused = refused
        self.left: Version | None = None

    def size(self, stored: int) -> int:
        """Return the file's size as its writer sees it, held bytes included."""
        return stored if self.held is None else max(stored, len(self.held))


class Draft:
    """The written bytes of a file that are not checked yet, in an unnamed file.

    fd: descriptor of the unnamed file, ours. created: True if this session created the store's file.
    changed: True if it has changes that the store does not have. refused: True if its check failed.
    base: size and mtime of the store's file when the draft began, or after it was last stored; None if
    another writer has changed the file since. refusal: the last refusal of its content, or None.
    unchanged: True if nothing was written into it since that refusal. times_ns: access and modification
    times that were set after the last write. began_empty: True if the file was empty when the draft began: as
    long as it is, it has nothing to lose. cleaned_of: the words whose data was removed from the version
    in the store, but not from the draft. torn: the note for the trail if only a part of it is in the
    store's file, since another program wrote there meanwhile, or the store failed; else empty.
    recorded: path and note of its cleaning, if that is on record and not stored yet; else None.
    """

    __slots__ = (
        "base", "began_empty", "changed", "cleaned_of", "created", "fd", "recorded", "refusal", "refused",
        "times_ns", "torn", "unchanged",
    )  # fmt: skip

    def __init__(self, fd: int, stat: Stat, *, created: bool) -> None:
        self.fd = fd
        self.base: tuple[int, int] | None = base_of(stat)
        self.began_empty = not stat.size
        self.created = created
        self.changed = self.refused = self.unchanged = False
        self.torn = ""
        self.recorded: tuple[bytes, str] | None = None
        self.refusal: Refusal | None = None
        self.times_ns: tuple[int, int] | None = None
        self.cleaned_of: frozenset[str] = frozenset()

    def touch(self) -> None:
        """Note a write into the draft."""
        self.changed, self.unchanged, self.times_ns, self.recorded = True, False, None, None

    def dated(self, before: Stat, now: Stat) -> None:
        """Note new times of the store's file, set through this node. before, now: the file's attributes.

        INVARIANT: the new times do not hide an earlier change by another writer.
        """
        self.base = base_of(now) if base_of(before) == self.base else None
        self.times_ns = now.atime_ns, now.mtime_ns

    @property
    def stored_cleaned(self) -> bool:
        """True if the store has all of the draft's writes, in a cleaned version.

        The two versions have the same size: neutral bytes stand where the removed ones did.
        """
        return bool(self.cleaned_of) and not self.changed

    @property
    def size(self) -> int:
        """The file's size as its writer sees it, in bytes."""
        return os.fstat(self.fd).st_size

    def give(self) -> int:
        """Return the draft's descriptor. The caller closes it from here on."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Discard the draft. A second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            freeing.close(fd)

    async def closed(self) -> None:
        """Discard the draft, and return once its room is free, for a writer that goes on."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            await freeing.closed(fd)


def base_of(stat: Stat) -> tuple[int, int]:
    return stat.size, stat.mtime_ns
