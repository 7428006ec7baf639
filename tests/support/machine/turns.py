"""A thread's turns at the processor."""

from __future__ import annotations

import ctypes
import platform
import struct
from typing import Final

_SCHED_GETATTR: Final = {"x86_64": 315, "aarch64": 275}
SLICES: Final = tuple(int(part) for part in platform.release().split(".")[:2]) >= (6, 12)
"""Slices can be chosen here."""


def turns_of(thread: int) -> tuple[int, int]:
    """Nice value and slice in ns, 0 without one of its own (sched_getattr(2)). thread: 0 is the caller."""
    attributes = ctypes.create_string_buffer(48)
    number = _SCHED_GETATTR[platform.machine()]
    assert ctypes.CDLL(None).syscall(number, thread, attributes, len(attributes), 0) == 0
    _, _, _, nice, _, slice_ns, _, _ = struct.unpack("=IIQiIQQQ", attributes.raw)
    return nice, slice_ns
