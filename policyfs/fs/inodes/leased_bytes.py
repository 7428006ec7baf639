"""The bytes that a LEASED node shows, as one value."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from policyfs.domain import Patch, Ranges
    from policyfs.store.leases import Lease


class LeasedBytes(NamedTuple):
    """The bytes that a LEASED node shows: the file's bytes with *patches* instead of the hidden data.

    INVARIANT: *patches* fit the file only while *lease* holds. generation: the generation of the policy by
    which *patches* were computed. kind: the file's kind; None if sniffing failed. hidden: the words for the
    hidden data. ranges: the ranges of *patches*, for the trail.
    """

    lease: Lease
    generation: int
    patches: tuple[Patch, ...]
    kind: str | None
    hidden: frozenset[str]
    ranges: Ranges
