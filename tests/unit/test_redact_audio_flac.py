"""FLAC: what goes from where, and what stays as it was."""

from __future__ import annotations

import pytest

from policyfs.redact.audio.flac import seeks_only, sheet_is_sound
from policyfs.redact.core.categories import Tells
from tests.support.samples import sounds
from tests.support.samples.sound_checks import assert_refused, redact
from tests.support.samples.sounds import CITY, FLAC, PLACE, PLAIN


@pytest.mark.parametrize(
    "data",
    [b"", PLAIN["FLAC"][1][:14], sounds.flac(behind=CITY), (sounds.flac() + sounds.flac_frame())[:-1] + CITY],
)
def test_what_is_no_such_file_is_refused(data):
    assert_refused(FLAC, data)


def test_comments_that_stay_are_followed_by_padding():
    data = sounds.flac((4, sounds.comments(sounds.LOCATION, b"TITLE=a")))
    out = redact(FLAC, data)
    kept = sounds.comments(b"TITLE=a")
    assert out[42:46] == b"\4" + len(kept).to_bytes(3)
    assert out[46 : 46 + len(kept)] == kept
    assert out[46 + len(kept)] == 0x81


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_last_frame_that_the_files_end_cuts(cut):
    for data in (sounds.flac(), sounds.flac() + sounds.flac_frame() * 3):
        assert redact(FLAC, data[:-cut]) == data[:-cut]


def point(sample: int, offset: int = 0, samples: int = 16) -> bytes:
    return sample.to_bytes(8) + offset.to_bytes(8) + samples.to_bytes(2)


TABLES = {
    "none": (b"", True),
    "one": (point(0), True),
    "in order": (point(0) + point(4096, 60), True),
    "twice the same": (point(5) + point(5), True),
    "placeholders": (point(3) + b"\xff" * 8 + bytes(10), True),
    "at the end": (point((1 << 36) - 1, 100), True),
    "behind the end": (point(0, 101), False),
    "more samples than any file": (point(1 << 36), False),
    "backwards": (point(4096) + point(0), False),
    "backwards behind a placeholder": (point(4096) + b"\xff" * 8 + bytes(10) + point(0), False),
    "a placeholder with a text": (b"\xff" * 8 + b"47.8, 13.1", False),
    "cut": (point(0)[:-1], False),
    "a place": (PLACE, False),
}


@pytest.mark.parametrize("name", TABLES)
def test_seek_tables(name):
    assert len(PLACE) == len(point(0))
    table, seeks = TABLES[name]
    assert seeks_only(table, 100) is seeks


def test_a_place_as_a_seek_table_goes():
    data = sounds.flac((3, PLACE), (3, point(0)))
    out = redact(FLAC, data)
    assert PLACE not in out
    assert b"\x83\0\0\x12" + point(0) in out


def framed(head: bytes) -> bytes:
    """A frame of this header, with both checksums."""
    body = head + bytes([sounds.crc(head, 0x107, 8)]) + b"\0\x12\x34"
    return body + sounds.crc(body, 0x18005, 16).to_bytes(2)


HEADERS = {
    "16 samples": (b"\xff\xf8\x69\x08\0\x0f", True),
    "a block size of two bytes": (b"\xff\xf8\x79\x08\0\0\x0f", True),
    "a sample rate of one byte": (b"\xff\xf8\x6c\x08\0\x0f\x2c", True),
    "a sample rate of two bytes": (b"\xff\xf8\x6d\x08\0\x0f\x2c\x2c", True),
    "a number of seven bytes": (b"\xff\xf9\x19\x08\xfe\x80\x80\x80\x80\x80\x80", True),
    "a reserved block size": (b"\xff\xf8\x09\x08\0", False),
    "a forbidden sample rate": (b"\xff\xf8\x1f\x08\0", False),
    "a reserved bit": (b"\xff\xf8\x69\x09\0\x0f", False),
    "the middle of a number": (b"\xff\xf8\x69\x08\x80\x0f", False),
    "a number of eight bytes": (b"\xff\xf8\x19\x08\xff\x80\x80\x80\x80\x80\x80\x80", False),
}


@pytest.mark.parametrize("name", HEADERS)
def test_sound_ends_with_a_frame(name):
    head, is_frame = HEADERS[name]
    data = sounds.flac().removesuffix(sounds.flac_frame()) + b"\xff\xf8" + bytes(40) + framed(head)
    if is_frame:
        assert redact(FLAC, data) == data
        assert_refused(FLAC, data[:-1] + bytes([data[-1] ^ 1]))
    else:
        assert_refused(FLAC, data)


@pytest.mark.parametrize("zeros", [1, 2, 5000])
def test_zeros_behind_the_last_frame_stay(zeros):
    assert redact(FLAC, sounds.flac() + bytes(zeros)) == sounds.flac() + bytes(zeros)


@pytest.mark.parametrize("at", [0, 4, 5])
def test_the_first_block_is_stream_information_of_34_bytes(at):
    """Of another type, of no type, of another size."""
    data = bytearray(sounds.flac())
    data[{0: 4, 4: 4, 5: 7}[at]] = {0: 4, 4: 0x84, 5: 35}[at]
    assert_refused(FLAC, bytes(data))


def sheet(number: bytes = b"", *, indexes: int = 1, tail: bytes = b"") -> bytes:
    """A cue sheet of one track."""
    track = bytes(8) + b"\xaa" + bytes(12) + bytes(14) + bytes([indexes]) + bytes(12) * indexes
    return number.ljust(128, b"\0") + bytes(8) + b"\x80" + bytes(258) + b"\1" + track + tail


@pytest.mark.parametrize(
    ("data", "is_sound"),
    [
        (sheet(), True),
        (sheet(indexes=0), True),
        (sheet(indexes=3), True),
        (sheet(tail=b"\0"), False),
        (sheet()[:-1], False),
        (sheet()[:395], False),
        (sheet()[:137] + CITY + sheet()[137 + len(CITY) :], False),
        (sheet()[:-4] + b"text", False),
        (b"", False),
    ],
)
def test_cue_sheets(data, is_sound):
    assert sheet_is_sound(data) is is_sound
    if is_sound:
        assert redact(FLAC, sounds.flac((5, data))) == sounds.flac((5, data))
        assert redact(FLAC, sounds.flac((5, data)), Tells.OTHER) != sounds.flac((5, data))
    else:
        assert CITY not in redact(FLAC, sounds.flac((5, data)))


def test_a_place_as_the_number_of_a_cue_sheet_goes():
    assert PLACE not in redact(FLAC, sounds.flac((5, sheet(PLACE))))


def test_comments_alone_stay_and_what_is_behind_them_goes():
    listed = sounds.comments(b"TITLE=a")
    for behind in (bytes(3), bytes(40)):
        data = sounds.flac((4, listed + behind))
        assert redact(FLAC, data) == data
    for behind in (b"abc", CITY, CITY * 9):
        out = redact(FLAC, sounds.flac((4, listed + behind)))
        assert behind not in out
        assert listed in out
