"""The filter ASCII85Decode of PDF streams (ISO 32000-2, 7.4.3): five characters stand for four bytes."""

from __future__ import annotations

import struct
from typing import Final

_BLANKS: Final = b"\0\t\n\x0c\r "
_END: Final = b"~>"
_FIRST: Final = 33
_BASE: Final = 85
_DIGITS: Final = bytes(range(_FIRST, _FIRST + _BASE))
_VALUES: Final = bytes.maketrans(_DIGITS, bytes(range(_BASE)))
_PAIRS: Final = [bytes((_FIRST + n // _BASE, _FIRST + n % _BASE)) for n in range(_BASE**2)]
_ONES: Final = [bytes((digit,)) for digit in _DIGITS]
_TO_BLANKS: Final = bytes(char if char in _BLANKS else ord(" ") for char in range(256))
_ZEROS: Final = b"z"
"""This character stands for four zero bytes."""


def decoded(text: bytes) -> bytes | None:
    """Return the bytes that a text encodes, up to its end mark; None if the text is malformed."""
    body, mark, _ = text.partition(_END)
    parts = body.translate(None, _BLANKS).split(_ZEROS)
    digits = b"!!!!!".join(parts)
    missing = -len(digits) % 5
    if not mark or missing == 4 or any(len(part) % 5 for part in parts[:-1]):
        return None
    if digits.translate(None, _DIGITS):
        return None
    values = (digits + _DIGITS[-1:] * missing).translate(_VALUES)
    five = zip(*(values[at::5] for at in range(5)), strict=True)
    words = [(((a * 85 + b) * 85 + c) * 85 + d) * 85 + e for a, b, c, d, e in five]
    try:
        data = struct.pack(f">{len(words)}I", *words)
    except struct.error:  # a group above the largest number of four bytes
        return None
    return data[: len(data) - missing]


def encoded(data: bytes, size: int) -> bytes | None:
    """Return a text of exactly `size` characters that encodes the data; None if it needs more. Blanks before
    the end mark fill the size.
    """
    missing = -len(data) % 4
    words = struct.unpack(f">{(len(data) + missing) // 4}I", data + bytes(missing))
    groups = [_PAIRS[n // 614125] + _PAIRS[n // 85 % 7225] + _ONES[n % 85] if n else _ZEROS for n in words]
    if missing:
        groups[-1] = (groups[-1] if words[-1] else b"!!!!!")[: 5 - missing]
    text = b"".join(groups)
    return text.ljust(size - len(_END)) + _END if len(text) + len(_END) <= size else None


def tidied(text: bytes) -> bytes:
    """Return the text with blanks in place of all bytes behind its end mark."""
    end = text.index(_END) + len(_END)
    return text[:end] + text[end:].translate(_TO_BLANKS)
