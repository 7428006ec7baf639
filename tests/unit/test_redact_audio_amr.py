"""AMR: frames of speech stay, nothing else does."""

from __future__ import annotations

from tests.support.samples.sound_checks import (
    redact,
)
from tests.support.samples.sounds import CITY


def test_bytes_behind_the_frames_go():
    speech = b"#!AMR\n" + (b"\x3c" + b"x" * 31) * 3
    assert redact("audio/amr", speech + CITY) == speech + bytes(len(CITY))
