"""Categories of ID3v2 frames that only their content tells."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.tags.id3_frames import FRAMES, TOLD, is_itunes_comment, may_be_shown, of_private


def test_each_frame_has_one_row():
    listed = [name for names in FRAMES.values() for name in names.split()]
    assert len(listed) == len(set(listed))
    assert all(tells != UNKNOWN for tells in TOLD.values())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"\0engiTunNORM\0 000002F7 0000031A", True),
        (b"\0engiTunPGAP\x000\0", True),
        (b"\0engiTunes_CDDB_1\0009F0A1B0C+180000+12+150", True),
        (b"\0engiTunNORM\0 Salzburg", False),
        (b"\0engiTunNORM\0 1\0 Salzburg", False),
        (b"\0engiTunes_CDDB_Anna\0001", False),
        (b"\0engiTunx\0001", False),
        (b"", False),
    ],
)
def test_a_comment_of_itunes_holds_numbers(text, found):
    assert is_itunes_comment(text) is found


@pytest.mark.parametrize(
    ("name", "flags", "content", "shown"),
    [
        ("TXXX", 0, b"", True),
        ("GEOB", 0, b"a", True),
        ("TQ9Z", 0, b"a", True),
        ("Txyz", 0, b"\3a", True),
        ("TXX\0", 0, b"\0a", True),
        ("Txyz", 1, b"abcd\1a", True),
        ("Txyz", 8, b"x\x9c", True),
        ("Txyz", 9, b"abcd\x58\x9c", True),
        ("Txyz", 0, b"abcd\1a", False),
        ("Txyz", 0, b"x\x9c", False),
        ("Txyz", 9, b"", False),
        ("Txyz", 0, b"\4a", False),
        ("IHDR", 0, b"\0a", False),
        ("love", 0, b"\0a", False),
    ],
)
def test_readers_show_frames_that_they_know(name, flags, content, shown):
    assert may_be_shown(name, flags, content) is shown


def test_a_private_frame_of_windows_media():
    assert of_private(b"AverageLevel\0\1\2\3\4") == (Tells.OTHER, b"")
    assert of_private(b"AverageLevel\0\1\2\3\4\5") == (UNKNOWN, b"")
    assert of_private(b"WM/Provider\0AMG")[1] == b"AMG"
    assert of_private(b"WM/Provider\0" + bytes(257)) == (UNKNOWN, b"")
    assert of_private(b"XMP\0a") == (UNKNOWN, b"")
