"""Messages in frames of AVI: which streams have them, and what goes from each frame."""

from __future__ import annotations

from functools import partial

import pytest

from tests.support.samples.heifs import hvcc, obu, two_chains, vvcc
from tests.support.samples.jpegs import exif, leaks, photo_with
from tests.support.samples.movies import CITY, SLICE, sei
from tests.support.samples.redacted import redacted
from tests.support.samples.sounds import AVI, chunk

START = b"\0\0\0\1"
UUID = bytes(range(16, 32))
X264 = bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")
PLAIN = START + b"\x41slice123"


def message(name: bytes = UUID) -> bytes:
    return START + sei(5, name + CITY)[4:]


FRAME = message() + START + SLICE[4:]
HEVC = START + b"\x4e\x01\x05" + bytes([26]) + UUID + CITY + b"\x80" + START + b"\x26\x01slice123"

MPEG = b"\0\0\1\xb2" + CITY + b"\0\0\1\xb6slice123"


def avi(frames: list[bytes], code: bytes = b"H264", *, handler: bytes = b"", settings: bytes = b"") -> bytes:
    header = chunk(b"strh", b"vids" + (handler or code) + bytes(48))
    picture = chunk(b"strf", bytes(16) + code + bytes(20) + settings)
    headers = chunk(b"LIST", b"hdrl" + chunk(b"avih", bytes(56)) + chunk(b"LIST", b"strl" + header + picture))
    movie = chunk(b"LIST", b"movi" + b"".join(chunk(b"00dc", frame) for frame in frames))
    return b"RIFF" + (len(headers + movie) + 4).to_bytes(4, "little") + b"AVI " + headers + movie


read = partial(redacted, AVI)


@pytest.mark.parametrize(
    ("frame", "code", "settings"),
    [
        *((FRAME, code, b"") for code in (b"H264", b"h264", b"X264", b"AVC1", b"avc1", b"DAVC")),
        *((HEVC, code, b"") for code in (b"HEVC", b"HVC1", b"hev1", b"H265", b"X265")),
        *((MPEG, code, b"") for code in (b"XVID", b"DIVX", b"FMP4", b"mpg2", b"\2\0\0\x10", b"HDV3")),
        (obu(5, b"\x1f" + CITY) + obu(6, b"slice123"), b"AV01", b""),
        (FRAME[1:], b"H264", b""),
        (sei(5, UUID + CITY) + SLICE, b"AVC1", b"\1\x42\0\x1e\xff\xe0\0"),
        (sei(5, UUID + CITY) + SLICE, b"AVC1", b""),
    ],
)
def test_user_data_goes(frame: bytes, code: bytes, settings: bytes) -> None:
    out = read(avi([frame] * 40, code, settings=settings))
    assert CITY not in out
    assert out.count(b"slice123") == 40


FOUR = b"\1\x42\0\x1e\xff\xe0\0\0"
TWO = FOUR.replace(b"\xff", b"\xfd")


@pytest.mark.parametrize("parts", [(b"", FOUR, TWO), (b"", TWO, FOUR), (FOUR, b"", TWO), (TWO, b"", FOUR)])
def test_only_the_first_format_behind_the_header_of_a_stream_counts(parts: tuple[bytes, ...]) -> None:
    """Another one could state other lengths: by them, a message lies within a slice."""
    header = chunk(b"strh", b"vidsAVC1" + bytes(48))
    formats = [chunk(b"strf", bytes(16) + b"AVC1" + bytes(20) + one) if one else header for one in parts]
    stream = chunk(b"LIST", b"strl" + b"".join(formats))
    headers = chunk(b"LIST", b"hdrl" + chunk(b"avih", bytes(56)) + stream)
    movie = chunk(b"LIST", b"movi" + chunk(b"00dc", two_chains(b"\x65\x01", sei(5, UUID + CITY))))
    out = read(b"RIFF" + (len(headers + movie) + 4).to_bytes(4, "little") + b"AVI " + headers + movie)
    assert out.count(b"strf") == 1
    first = parts[1] or parts[2]
    assert first in out
    assert (CITY in out) is (first == TWO)


def test_the_codec_is_named_by_the_stream_or_by_its_format() -> None:
    assert CITY not in read(avi([FRAME], bytes(4), handler=b"H264"))
    assert CITY not in read(avi([FRAME], b"H264", handler=b"\0\0\0\1"))
    other = avi([FRAME], b"MJPG")
    assert read(other) == other


def test_user_data_in_settings_goes() -> None:
    parameters = START + b"\x67abcd"
    out = read(avi([PLAIN], settings=parameters + message() + parameters))
    assert CITY not in out
    assert out.count(parameters) == 2


@pytest.mark.parametrize(("name", "word"), [(UUID, "location"), (X264, "device")])
@pytest.mark.parametrize("at", [0, 777, 1099])
def test_a_message_in_any_one_frame_goes(name: bytes, word: str, at: int) -> None:
    frames = [PLAIN + message(name) if number == at else PLAIN for number in range(1100)]
    out = read(avi(frames), word)
    assert CITY not in out
    assert out.count(b"slice123") == 1100


def test_messages_in_a_decoder_configuration_go() -> None:
    message = b"\5\x1b" + UUID + CITY[:11] + b"\x80"
    config = hvcc((33, b"abc"), (39, message))[8:]
    out = read(avi([PLAIN], b"HEVC", settings=config))
    assert CITY[:11] not in out
    assert b"\x42\1abc" in out
    config = vvcc((15, b"abc"), (23, message))[12:]
    assert CITY[:11] not in read(avi([PLAIN], b"VVC1", settings=config))


def test_settings_with_a_place_become_zeros() -> None:
    for code in (b"HEVC", b"MJPG", b"H264", b"DIV3"):
        out = read(avi([PLAIN], code, settings=b"x 47.80453, 13.04229"))
        assert b"47.8" not in out


def test_messages_within_a_slice_go_with_and_without_settings() -> None:
    """FFmpeg looks for start codes, also within a slice. Without settings it reads no lengths."""
    unit = SLICE[4:] + FRAME
    frame = len(unit).to_bytes(4) + unit
    config = b"\1\x42\0\x1e\xff\xe0\0"
    for settings in (config, config + b"47.80453, 13.04229"):
        out = read(avi([frame] * 3, b"AVC1", settings=settings))
        assert CITY not in out
        assert out.count(b"slice123") == 6


def test_settings_that_tell_no_more_after_the_messages_are_gone_stay() -> None:
    parameters = START + b"\x67abcd"
    place = START + sei(5, UUID + b"47.80453, 13.04229")[4:]
    out = read(avi([PLAIN], settings=parameters + place + parameters))
    assert b"47.8" not in out
    assert out.count(parameters) == 2


def test_user_data_of_h266_goes() -> None:
    unit = b"\0\xb9\5" + bytes([16 + len(CITY)]) + UUID + CITY + b"\x80"
    frame = START + b"\0" + START + unit + START + b"\0\1slice123"
    out = read(avi([frame] * 40, b"H266"))
    assert CITY not in out
    assert out.count(b"slice123") == 40


HIDING = [
    avi([FRAME] * 6),
    avi([HEVC, PLAIN] * 3, b"HEVC"),
    avi([PLAIN], settings=START + b"\x67a" + message()),
    avi([PLAIN], b"HEVC", settings=hvcc((33, b"abc"), (39, b"\5\x1b" + UUID + CITY[:11] + b"\x80"))[8:]),
    avi([MPEG] * 3, b"XVID", settings=MPEG),
]


@pytest.mark.parametrize("data", HIDING)
def test_small_files_for_the_fuzzer_lose_their_places(data: bytes) -> None:
    assert CITY not in read(data)


def test_photos_in_a_stream_whose_two_codes_differ_are_cleaned() -> None:
    photo = photo_with(exif("MM"))
    assert leaks(photo)
    assert not leaks(read(avi([photo] * 3, b"MJPG", handler=b"DIVX")))


def test_user_data_in_the_settings_of_mpeg_goes() -> None:
    out = read(avi([PLAIN], b"XVID", settings=MPEG))
    assert CITY not in out
    assert b"\0\0\1\xb6slice123" in out
