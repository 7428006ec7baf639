"""Decide which unreferenced bytes of a structure may stay; the others become zeros."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.redact.core.filler import says_nothing

_CLAIMED: Final = 0xFF


class Leftover(NamedTuple):
    """Unreferenced bytes [start, end) of a block; stays: they say nothing."""

    start: int
    end: int
    stays: bool


def leftovers(block: bytes, claimed: bytes, gone: bytes | bytearray) -> Iterator[Leftover]:
    """Yield the stretches of a block that are not claimed and not all zero.

    claimed and gone: as long as the block, 0xff for referenced bytes, and for removed ones among them.
    A stretch beside removed bytes may be their end, and is removed, too.
    """
    start = claimed.find(0)
    while start >= 0:
        end = claimed.find(_CLAIMED, start)
        end = len(block) if end < 0 else end
        data = block[start:end]
        if data.count(0) < len(data):
            beside = gone[max(0, start - 1) : start] + gone[end : end + 1]
            yield Leftover(start, end, _CLAIMED not in beside and says_nothing(data))
        start = claimed.find(0, end)


def either(*masks: bytes | bytearray) -> bytes:
    """Return the bytewise or of equally long strings, at C speed."""
    whole = 0
    for each in masks:
        whole |= int.from_bytes(each, "big")
    return whole.to_bytes(len(masks[0]), "big")
