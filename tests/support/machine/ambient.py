"""Capabilities that a process hands on to its children, also to those of other users."""

from __future__ import annotations

import ctypes

from policyfs.linux.libc import LIBC, PRCTL

LOCKED = 0b1100
"""SECBIT_NO_SETUID_FIXUP, and its lock (linux/securebits.h): a change of uid leaves all capabilities."""


def hand_on_everything(bits: int = LOCKED) -> None:
    """Set secure bits, and put each capability of this process into its inheritable and ambient sets."""
    PRCTL(28, bits, 0, 0, 0)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert LIBC.capget(header, sets) == 0
    sets[2], sets[5] = sets[1], sets[4]
    assert LIBC.capset(header, sets) == 0
    for number in range(41):
        PRCTL(47, 2, number, 0, 0)
