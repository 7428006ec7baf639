"""The bytes that a LEASED node shows, as one value."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from policyfs.domain import Patch, Ranges
    from policyfs.store.locking.leases import Lease


class FilmReader(Protocol):
    """A reader of a film whose frames are looked at as they are read (fs/redacted/windows.py)."""

    async def read(self, fd: int, offset: int, size: int, lane: Hashable) -> tuple[memoryview, str]:
        """Return bytes for an app of this lane, hidden data in frames replaced, and the reason why they
        cannot be shown ("" if they can).
        """


class LeasedBytes(NamedTuple):
    """The bytes that a LEASED node shows: the file's bytes with *patches* instead of the hidden data.

    INVARIANT: *patches* fit the file only while *lease* holds. generation: the generation of the policy by
    which *patches* were computed. kind: the file's kind; None if sniffing failed. hidden: the words for the
    hidden data. ranges: the ranges of *patches*, for the trail. film: the reader of a film whose frames are
    not in *patches*, because each read looks at its own; None for any other file.
    """

    lease: Lease
    generation: int
    patches: tuple[Patch, ...]
    kind: str | None
    hidden: frozenset[str]
    ranges: Ranges
    film: FilmReader | None = None
