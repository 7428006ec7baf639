"""AMR speech files (RFC 4867, 5): a signature, then frames of speech. The format has no metadata."""

from __future__ import annotations

from typing import Final

from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource

MAX_FRAMES: Final = 1_000_000
_NARROW: Final = (b"#!AMR\n", (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1))
_WIDE: Final = (b"#!AMR-WB\n", (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1))
"""AMR and AMR-WB: the signature, and the length in bytes of each type of frame (0: no such type)."""


def locate_amr(source: ByteSource, inner: Inner) -> Found:
    """Locate the bytes behind the frames of an AMR, except filler. Raises NotThisKindError, TooMuchError."""
    edits = Edits(source, inner, "AMR")
    for mark, sizes in (_NARROW, _WIDE):
        if source.read(0, len(mark)) == mark:
            end = _frames(source, len(mark), sizes)
            if end == len(mark):
                raise NotThisKindError("there is no sound in it")
            edits.trailer(end, source.size)
            return edits.found
    raise NotThisKindError("it does not start like an AMR")


def _frames(source: ByteSource, at: int, sizes: tuple[int, ...]) -> int:
    """Return the offset behind the last whole frame. sizes: by type. Raises TooMuchError."""
    count = 0
    while at < source.size:
        data, index = source.read(at, CHUNK_BYTES), 0
        while index < len(data):
            size = 0 if data[index] & 0x83 else sizes[data[index] >> 3 & 15]
            if not size or at + index + size > source.size:
                return at + index
            index += size
            count += 1
        if count > MAX_FRAMES:
            raise TooMuchError("too many frames of sound")
        at += index
    return at
