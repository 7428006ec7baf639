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
        """Return bytes for an app of this lane, hidden data in frames replaced, and why they cannot be shown,
        or ""."""


class LeasedBytes(NamedTuple):
    """The bytes that a LEASED node shows: the file's, with *patches* instead of the hidden data.

    INVARIANT: *patches* fit only while *lease* holds. generation: of the policy by which they were computed.
    kind: None if sniffing failed. hidden: the words. ranges: for the trail. film: reads frames that are not
    in *patches*, or None."""

    lease: Lease
    generation: int
    patches: tuple[Patch, ...]
    kind: str | None
    hidden: frozenset[str]
    ranges: Ranges
    film: FilmReader | None = None
