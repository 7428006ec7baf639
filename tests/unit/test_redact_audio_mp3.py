"""MP3 and bare AAC: what goes from between the frames, and what stays."""

from __future__ import annotations

import time

import pytest

from policyfs.redact.audio.mp3 import crc16
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.registry import locate_in
from tests.support.samples import sounds
from tests.support.samples.sound_checks import assert_refused, redact
from tests.support.samples.sounds import CITY, MP3, PLACE


@pytest.mark.parametrize(
    "data",
    [b"", sounds.id3(sounds.words("TIT2", b"x")), sounds.id3(sounds.words("TIT2", b"x"))[:14], b"\xff\xfb"],
)
def test_what_is_no_such_file_is_refused(data):
    assert_refused(MP3, data)


def test_a_file_with_many_gaps_between_its_frames_is_served():
    """Pieces of sound joined in the middle of frames. Each gap costs what it takes to look through it."""
    pieces = [sounds.sound(60)] * 24
    out = redact(MP3, PLACE.join(pieces))
    assert out == bytes(len(PLACE)).join(pieces)


@pytest.mark.parametrize("size", [1, 8000, 8191, 8192, 8193, 41000, 2_000_000])
def test_a_gap_may_have_any_length(size):
    gap = (PLACE + b"\xff\xfb\x90").ljust(size, b"x")[:size]
    sound = sounds.sound(9)
    assert redact(MP3, sound + gap + sound) == sound + bytes(size) + sound


@pytest.mark.parametrize("size", [1, 2, 3, 9000, 9001])
def test_sound_begins_behind_a_row_of_ones(size):
    sound = sounds.sound(9)
    assert redact(MP3, sound + b"\xff" * size + sound) == sound + bytes(size) + sound


def test_a_search_for_frames_is_bounded():
    """20 MB of headers without frames, of tags or of gaps take less than a second of processor time."""
    for unit in (b"\xff\xfb\xf0\0", b"\xff\xfb\x90\0", sounds.id3(), sounds.sound(2) + b"abc"):
        before = time.process_time()
        assert_refused(MP3, sounds.sound(3) + unit * (20_000_000 // len(unit)) + sounds.sound(3))
        assert time.process_time() - before < 3


def test_a_row_of_ones_costs_about_as_much_as_any_other_gap():
    def seconds(byte: bytes) -> float:
        source = MemorySource(sounds.sound(9) + byte * (64 << 20) + sounds.sound(9))
        before = time.process_time()
        locate_in(MP3, source, Tells.LOCATION)
        return time.process_time() - before

    assert seconds(b"\xff") < 6 * seconds(b"\xfe") + 0.05


def test_a_first_frame_without_a_checksum_before_others_that_have_one_stays():
    """Fraunhofer's encoder writes it so; it holds the length of the whole and where to jump to."""
    vbri = b"\xff\xfb\xa1\x04".ljust(36, b"\0") + b"VBRI\0\1\x0d\xb1\0\x64".ljust(486, b"\1")
    frames = 3 * b"\xff\xfa\x11\x44".ljust(104, b"\1")
    data = sounds.id3(sounds.user(b"place", PLACE)) + vbri + frames
    out = redact("audio/mpeg", data)
    assert PLACE not in out
    assert vbri in out


def test_the_version_of_the_encoder_is_device():
    info = b"Info" + (1).to_bytes(4) + bytes(4) + b"LAME3.100" + bytes(25)
    first = bytearray(sounds.sound(1))
    first[36 : 36 + len(info)] = info
    first[36 + len(info) : 38 + len(info)] = crc16(bytes(first[: 36 + len(info)])).to_bytes(2)
    data = bytes(first) + sounds.sound(3)
    assert redact(MP3, data) == data
    out = redact(MP3, data, Tells.DEVICE)
    assert b"LAME     " in out
    assert b"3.100" not in out
    end = 36 + len(info)
    assert out[end : end + 2] == sounds.crc(reflected(out[:end]), 0x18005, 16).to_bytes(2) or crc16(
        out[:end]
    ) == int.from_bytes(out[end : end + 2])


def reflected(data: bytes) -> bytes:
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)


def test_bare_aac():
    frame = b"\xff\xf1\x50\x80\x02\x1f\xfc" + b"sound sou"
    assert len(frame) == 16
    aac = frame * 4
    assert redact("audio/aac", aac + CITY * 3 + aac) == aac + bytes(3 * len(CITY)) + aac
    assert_refused("audio/aac", b"\xff\xf1" + bytes(100))


def test_a_frame_alone_counts_only_at_the_end_of_the_file():
    """A broken tag becomes zeros: then the next redaction would find no frame."""
    frame = b"\xff\xf1\x50\x80\x02\x1f\xfc" + b"sound sou"
    tag = b"APETAGEX" + bytes(12) + b"\2" + bytes(11)
    assert redact("audio/aac", frame) == frame
    assert_refused("audio/aac", frame + tag)
    out = redact("audio/aac", frame * 2 + CITY + frame + tag)
    assert out == frame * 2 + bytes(len(CITY) + len(frame) + len(tag))
    assert redact("audio/aac", out) == out


@pytest.mark.parametrize("rest", [b"\xff", b"\xff\xfb\x90"])
def test_a_byte_before_the_last_tag_is_taken_for_a_frame_only_as_before_zeros(rest):
    # A damaged tag at the end becomes zeros. Whoever cleans the cleaned file sees no tag there.
    out = redact(MP3, sounds.sound(9) + rest + b"APETAGEX" + b"\xff" * 24)
    assert redact(MP3, out) == out


def test_a_tag_that_another_tag_cuts_off_goes_with_its_header():
    # Whoever cleans the cleaned file sees no second tag, and a whole first one.
    cut = b"ID3\4\0\x10" + bytes([0, 0, 0, 40]) + PLACE
    out = redact(MP3, sounds.sound(9) + cut + b"APETAGEX" + b"\xff" * 24)
    assert redact(MP3, out) == out
    end = sounds.sound(9) + b"ID3\4\0\x10" + bytes([0, 0, 0, 40])
    assert redact(MP3, end + PLACE) == end + bytes(len(PLACE))
