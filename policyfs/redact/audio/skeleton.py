"""Skeleton: the stream of an Ogg file that describes its other streams (dates, texts, key points)."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.tag_names import told

_HEAD_BYTES: Final = 80
_INDEX_HEAD_BYTES: Final = 42
_TIME: Final = slice(44, 64)
_BONE_HEAD_BYTES: Final = 52
_PLAIN: Final = frozenset(
    {b"", b"content-type", b"role", b"language", b"altitude", b"display-hint", b"trackorder"}
    | {b"trackdependencies"}
)
"""Headers that describe how to play a stream. (The altitude is the order of overlaid pictures.)"""
_NAMING: Final = frozenset({b"title", b"name"})


def clean_skeleton(data: bytes, hide: Tells) -> bytes:
    """Return the new bytes of a Skeleton packet, as many as before. hide: the categories to remove."""
    new = bytearray(data)
    if data.startswith(b"fishead\0"):
        new[_HEAD_BYTES:] = bytes(len(data[_HEAD_BYTES:]))
        if hide & Tells.TIME:
            new[_TIME] = bytes(len(data[_TIME]))
        if told(hide, NOTHING, bytes(new[8:])):
            new[8:] = bytes(len(new) - 8)
    elif data.startswith(b"fisbone\0"):
        words = data[_BONE_HEAD_BYTES:]
        if told(hide, NOTHING, data[8:_BONE_HEAD_BYTES]):
            new[:] = bytes(len(data))
        elif told(hide, _tells(words), words):
            new[_BONE_HEAD_BYTES:] = bytes(len(words))
    elif data and not (data.startswith(b"index\0") and _is_index(data, hide)):
        new[:] = bytes(len(data))
    return bytes(new)


def _tells(words: bytes) -> Tells:
    names = {line.partition(b":")[0].strip().lower() for line in re.split(rb"[\r\n]+", words)}
    names -= _PLAIN
    return NOTHING if not names else Tells.PEOPLE if names <= _NAMING else UNKNOWN


def _is_index(data: bytes, hide: Tells) -> bool:
    """Return True if a packet holds only key points: pairs of numbers with 7 bits in each byte."""
    points = data[_INDEX_HEAD_BYTES:]
    ends = [at for at, byte in enumerate(points) if byte & 0x80]
    longest = max((after - at for at, after in pairwise([-1, *ends])), default=0)
    paired = len(ends) == 2 * int.from_bytes(data[10:18], "little")
    whole = not points or (bool(ends) and ends[-1] == len(points) - 1)
    return paired and whole and longest <= 9 and not told(hide, NOTHING, data[6:_INDEX_HEAD_BYTES])
