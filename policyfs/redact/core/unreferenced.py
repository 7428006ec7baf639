"""Tell which bytes of a structure that nothing refers to may stay, and which become zeros."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.redact.core.filler import says_nothing

_CLAIMED: Final = 0xFF


class Leftover(NamedTuple):
    """Bytes [start, end) of a block that nothing refers to; stays: they say nothing."""

    start: int
    end: int
    stays: bool


def leftovers(block: bytes, claimed: bytes, gone: bytes | bytearray) -> Iterator[Leftover]:
    """The stretches of a block that are not claimed and not zero.

    claimed and gone: as long as the block, 0xff for bytes that something refers to, and for those of
    them that go. What lies beside bytes that go may be their end, and goes, too.
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
    """Bytewise or of equally long strings, at C speed."""
    whole = 0
    for each in masks:
        whole |= int.from_bytes(each, "big")
    return whole.to_bytes(len(masks[0]), "big")
