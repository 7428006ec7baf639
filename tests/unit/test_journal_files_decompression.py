"""Compressed segments are unpacked in memory, up to a damage."""

from __future__ import annotations

import os
import tempfile

import pytest
import zstandard

from policyfs.journal.files.decompression import decompressed

PLAIN = os.urandom(3000)
FRAMES = b"".join(zstandard.ZstdCompressor().compress(PLAIN[at : at + 1000]) for at in (0, 1000, 2000))


def unpacked(data: bytes) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        fd = decompressed(file.fileno())
        assert os.pread(file.fileno(), 1, 0) == data[:1]  # it stays open
    with os.fdopen(fd, "rb") as found:
        return found.read()


def test_all_frames_are_unpacked() -> None:
    assert unpacked(FRAMES) == PLAIN


@pytest.mark.parametrize("cut", [1, 500, 1500])
def test_the_bytes_end_at_the_damage(cut: int) -> None:
    found = unpacked(FRAMES[:-cut])
    assert len(PLAIN) // 3 <= len(found) < len(PLAIN)
    assert PLAIN.startswith(found)
