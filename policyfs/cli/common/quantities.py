"""The numbers, sizes and ages that options of `policyfs mount` and site files accept."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from typing import Final

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_LEAST_SEGMENT: Final = 4 << 10
"""The smallest size in bytes for a segment. With smaller segments, each event gets a file of its own."""


def size(text: str) -> int:
    """Return a size in bytes, written with K, M or G or without a unit. Raises ArgumentTypeError."""
    match = re.fullmatch(r"([0-9]{1,15})([KMG]?)", text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is not a size; write a size such as 500K, 32M or 2G")
    return int(match[1]) * _UNITS[match[2]]


def segment_size(text: str) -> int:
    """Return the size in bytes of a segment (a file of the trail). Raises ArgumentTypeError."""
    found = size(text)
    if found < _LEAST_SEGMENT:
        raise ArgumentTypeError(f"{text!r} is too small for a segment; write 4K or more")
    return found


def age(text: str) -> int:
    """Return an age in seconds, written in hours, days or weeks. Raises ArgumentTypeError."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([hdw])", text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is not an age; write an age such as 36h, 90d or 52w")
    return int(match[1]) * {"h": 3600, "d": 86400, "w": 604800}[match[2]]


def count(text: str) -> int:
    """Return a whole number of at least 1. Raises ArgumentTypeError."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise ArgumentTypeError(f"{text[:20]!r} is not a whole number of at least 1; write one such as 9")
    return int(text)


def number(text: str) -> int:
    """Return a whole number of at least 0. Raises ArgumentTypeError."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 0; write a number such as 100")
    return int(text)


def identity(text: str) -> int:
    """Return the number of a user or group (uid or gid). Raises ArgumentTypeError."""
    from policyfs.policy.text.values import MAX_UID  # imports pydantic, which `audit search` does not need

    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > MAX_UID:
        raise ArgumentTypeError(f"{text!r} is not a uid or gid; write a number between 0 and {MAX_UID}")
    return int(text)
