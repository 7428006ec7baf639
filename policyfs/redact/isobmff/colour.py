"""Colour descriptions in boxes (``colr``): ISO/IEC 14496-12, 12.1.5; ICC.1, 7.2."""

from __future__ import annotations

from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.colour_profiles import profile_stays


def is_colour(data: bytes, inner: Inner) -> bool:
    """Return True if bytes are the content of a ``colr`` box: numbers, or an ICC profile.

    A profile is empty, or has the size that it states, with at most 4 bytes behind it, and holds nothing else
    (profile_stays). Raises TooMuchError.
    """
    kind, rest = data[:4], data[4:]
    if kind in (b"nclx", b"nclc"):
        return len(rest) <= 7
    if kind in (b"prof", b"rICC") and not rest:
        return True  # some phones write no profile, and decoders refuse pictures without this box
    size = int.from_bytes(rest[:4])
    return kind in (b"prof", b"rICC") and size <= len(rest) <= size + 4 and profile_stays(rest[:size], inner)
