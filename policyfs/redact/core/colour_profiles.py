"""ICC profiles (ICC.1:2022): their form, and the search for other data in them.

A profile describes colours, so it stays. Its texts and the bytes between its tables are searched for blocks
of metadata and places. In its tables of colours (as large as pictures) only longer texts are found.
"""

from __future__ import annotations

from typing import Final

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.kept_values import told_in_kept

_HEADER_BYTES: Final = 128
_TAGS_AT: Final = 132
_TAG_BYTES: Final = 12
_MAX_TAGS: Final = 256
_TABLES: Final = frozenset({b"mft1", b"mft2", b"mAB ", b"mBA ", b"curv"})
"""Types of tags that hold tables of numbers (10.6, 10.10 to 10.13)."""


def is_profile(data: bytes) -> bool:
    """Return True if these bytes are an ICC profile (7.2), with nothing but padding behind."""
    size = int.from_bytes(data[:4])
    return (
        data[36:40] == b"acsp"
        and _HEADER_BYTES <= size <= len(data) <= size + 4
        and not data[size:].strip(b"\0")
    )


def profile_stays(data: bytes, inner: Inner) -> bool:
    """Return True for an ICC profile without metadata and without a hidden place. Raises TooMuchError."""
    if not is_profile(data):
        return False
    asked, rest = inner.hide & Tells.LOCATION, bytearray(data)
    count = min(int.from_bytes(data[_HEADER_BYTES:_TAGS_AT]), _MAX_TAGS)
    first = _TAGS_AT + _TAG_BYTES * count
    for at in range(_TAGS_AT, first, _TAG_BYTES):
        start, size = (int.from_bytes(data[at + field : at + field + 4]) for field in (4, 8))
        end = start + size
        if first <= start and end <= len(data) and data[start : start + 4] in _TABLES:
            rest[start:end] = bytes(size)
    among = told_in_kept(data, asked, inner.budget, numbers=True)
    return not (among or told_in_kept(bytes(rest), asked, inner.budget))


def is_colour(data: bytes, inner: Inner) -> bool:
    """Return True if bytes are the content of a ``colr`` box (ISO/IEC 14496-12, 12.1.5).

    It holds numbers or a profile, which is empty, or has the size that it states, with at most 4 bytes behind
    it, and holds nothing else (profile_stays). Raises TooMuchError.
    """
    kind, rest = data[:4], data[4:]
    if kind in (b"nclx", b"nclc"):
        return len(rest) <= 7
    if kind in (b"prof", b"rICC") and not rest:
        return True  # some phones write no profile, and decoders refuse pictures without this box
    size = int.from_bytes(rest[:4])
    return kind in (b"prof", b"rICC") and size <= len(rest) <= size + 4 and profile_stays(rest[:size], inner)
