"""Messages in frames of Matroska: each way in which a block holds frames, and which frames are searched."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest

from policyfs.redact.bitstreams import sei as messages
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.plan import Outcome, locate
from tests.support.samples import matroskas as mk
from tests.support.samples.heifs import obu
from tests.support.samples.matroskas import block, cluster, el, film, number
from tests.support.samples.movies import CITY, SLICE, sei
from tests.support.samples.redacted import redacted

KIND = "video/x-matroska"
UUID = bytes(range(16, 32))
AVCC = b"\1\x42\0\x1e\xff\xe0\0"
FRAME = sei(5, UUID + CITY) + SLICE
X264 = sei(5, bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef") + CITY) + SLICE
START = b"\0\0\0\1"
BYTE_STREAM = START + sei(5, UUID + CITY)[4:] + START + SLICE[4:]
MPEG = b"\0\0\1\xb2" + CITY + b"\0\0\1\xb6slice123"
AV1 = obu(5, b"\x1f" + CITY) + obu(6, b"slice123")
HEVC_MESSAGE = b"\x4e\x01\x05" + bytes([len(UUID + CITY)]) + UUID + CITY + b"\x80"
HEVC_SLICE = b"\x26\x01slice123"
XIPH, FIXED, EBML = 2, 4, 6
LACED_KEY = 0x80


def track(*more: bytes, codec: bytes = b"V_MPEG4/ISO/AVC", private: bytes = AVCC, at: int = 1) -> bytes:
    return mk.track(at, 1, codec, el(0x63A2, private), *more)


def encoded(*parts: bytes) -> bytes:
    """ContentEncodings with one encoding."""
    return el(0x6D80, el(0x6240, *parts))


def stripped(lead: bytes) -> bytes:
    return encoded(el(0x5034, number(0x4254, 3), el(0x4255, lead)))


read = partial(redacted, KIND)


def refused(data: bytes, *words: str) -> str:
    plan = locate(KIND, frozenset(words or ("location",)), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    return plan.reason


def hevc(unit: bytes) -> bytes:
    return len(unit).to_bytes(4) + unit


def vfw(code: bytes, settings: bytes = b"") -> bytes:
    return track(codec=b"V_MS/VFW/FOURCC", private=bytes(16) + code + bytes(20) + settings)


@pytest.mark.parametrize(
    ("tracks", "frame"),
    [
        (track(), FRAME),
        (track(private=AVCC[:4] + b"\xfd" + AVCC[5:]), FRAME.replace(b"\0\0", b"")),
        (track(), BYTE_STREAM),
        (track(private=b""), BYTE_STREAM),
        (track(private=START + b"\x67abcd"), BYTE_STREAM[1:]),
        (vfw(b"H264"), BYTE_STREAM),
        (vfw(b"avc1", AVCC), FRAME),
        (vfw(b"X264"), FRAME),
        (
            track(codec=b"V_MPEGH/ISO/HEVC", private=b"\1" + bytes(20) + b"\xff\0"),
            hevc(HEVC_MESSAGE) + hevc(HEVC_SLICE),
        ),
        (vfw(b"HEVC"), START + HEVC_MESSAGE + START + HEVC_SLICE),
        (track(codec=b"V_QUICKTIME", private=bytes(4) + b"avc1" + bytes(78) + b"avcC" + AVCC), FRAME),
    ],
)
def test_user_data_goes_whatever_the_frames_are_cut_by(tracks, frame):
    data = film(cluster(*[block(1, frame)] * 3, mk.group(1, frame)), tracks=tracks)
    out = read(data)
    assert CITY not in out
    assert out.count(b"slice123") == 4
    assert len(out) == len(data)


@pytest.mark.parametrize("codec", [b"V_VP8", b"V_MPEG4/ISO/ASP"])
def test_frames_of_other_codecs_stay(codec):
    data = film(cluster(block(1, FRAME)), tracks=track(codec=codec, private=b""))
    assert read(data) == data


def laced(lacing: int, *frames: bytes) -> bytes:
    sizes = b""
    if lacing == XIPH:
        sizes = b"".join(b"\xff" * (len(f) // 255) + bytes([len(f) % 255]) for f in frames[:-1])
    elif lacing == EBML:
        lengths = [len(frame) for frame in frames[:-1]]
        steps = [after - before + 0x1FFF for before, after in pairwise(lengths)]
        sizes = b"".join((size | 0x4000).to_bytes(2) for size in [lengths[0], *steps])
    return block(1, bytes([len(frames) - 1]) + sizes + b"".join(frames), flags=LACED_KEY | lacing)


@pytest.mark.parametrize("lead", [b"", FRAME[:2], FRAME[:5]])
@pytest.mark.parametrize("lacing", [XIPH, FIXED, EBML])
def test_user_data_in_each_frame_of_a_lacing_goes(lacing, lead):
    long = sei(5, UUID + CITY) + (300).to_bytes(4) + b"\x65" + b"s" * 299
    frames = [FRAME] * 3 if lacing == FIXED else [FRAME, long, FRAME]
    tracks = track(stripped(lead)) if lead else track()
    data = film(cluster(laced(lacing, *(frame[len(lead) :] for frame in frames))), tracks=tracks)
    assert data.count(CITY) == 3
    out = read(data)
    assert CITY not in out
    assert out.count(SLICE) >= 2


@pytest.mark.parametrize("sizes", [b"\x03", b"\xff", b"\0", b"\x01\x02", b"\x80\x80", b"\x7f\xff"])
@pytest.mark.parametrize("lacing", [XIPH, FIXED, EBML])
def test_a_block_whose_lacing_makes_no_sense_goes(lacing, sizes):
    broken = block(1, b"\2" + sizes, flags=LACED_KEY | lacing)
    data = film(cluster(broken, block(1, FRAME)), tracks=track())
    out = read(data)
    at = data.index(broken)
    assert out[at : at + len(broken)] == b"\xec" + broken[1:2] + bytes(len(broken) - 2)
    assert CITY not in out


def test_a_message_that_all_frames_begin_with_is_refused():
    data = film(cluster(block(1, FRAME[40:])), tracks=track(stripped(FRAME[:40])))
    assert "user data that is stored once for all frames" in refused(data)


@pytest.mark.parametrize(
    "encodings",
    [
        encoded(el(0x5034, number(0x4254, 0))),
        encoded(el(0x5034)),
        encoded(),
        encoded(el(0x5034, number(0x4254, 3), el(0x4255, b"\0")), number(0x5032, 3)),
        el(0x6D80, el(0x6240, number(0x5033, 1)), el(0x6240, el(0x5034, number(0x4254, 3)))),
    ],
)
def test_pictures_that_are_compressed_again_are_refused(encodings):
    assert "compressed a second time" in refused(film(cluster(block(1, FRAME)), tracks=track(encodings)))
    vp8 = mk.track(1, 1, b"V_VP8", encodings)
    assert locate(KIND, frozenset({"location"}), MemorySource(film(cluster(block(1, b"x")), tracks=vp8)))


def test_user_data_in_encrypted_frames_is_none():
    data = film(cluster(block(1, FRAME)), tracks=track(encoded(number(0x5033, 1))))
    assert read(data) == data


def test_a_checksum_over_a_changed_frame_goes():
    check = el(0xBF, b"abcd")
    data = film(cluster_with(check, block(1, FRAME)), cluster_with(check, block(1, SLICE)), tracks=track())
    assert read(data).count(check) == 1


def cluster_with(check: bytes, *parts: bytes) -> bytes:
    return el(mk.CLUSTER, check, number(0xE7, 0), *parts)


@pytest.mark.parametrize(("frame", "word"), [(FRAME, "location"), (X264, "device")])
@pytest.mark.parametrize("at", [0, 777, 1099])
def test_a_message_in_any_one_frame_goes(frame, word, at):
    frames = [frame if number == at else SLICE for number in range(1100)]
    blocks = [block(1, one, flags=0) for one in frames]
    out = read(film(*(cluster(*blocks[n : n + 100]) for n in range(0, 1100, 100)), tracks=track()), word)
    assert CITY not in out
    assert out.count(SLICE) == 1100


def test_the_last_picture_of_a_broken_recording_is_searched_if_it_stays():
    cut = block(1, FRAME + SLICE * 9)[:-20]
    data = film(cluster(block(1, SLICE), cut, size=mk.UNKNOWN_SIZE), tracks=track(), size=mk.UNKNOWN_SIZE)
    out = read(data)
    assert CITY not in out
    assert out.count(SLICE) > 5
    voided = film(
        cluster(block(1, SLICE), cut, size=mk.UNKNOWN_SIZE), mk.tags(), tracks=track(), size=mk.UNKNOWN_SIZE
    )
    assert CITY not in read(voided)


def test_a_group_that_is_cut_off_is_void_and_nothing_else():
    cut = mk.group(1, FRAME)[:-5]
    data = film(cluster(block(1, FRAME), cut), tracks=track())
    assert CITY not in read(data)


def test_messages_too_long_to_be_understood_become_zeros():
    long = b"\x06\5" + b"\xff" * 260 + b"\0" + UUID + CITY * 7000
    assert len(long) > messages.MAX_UNIT_BYTES
    frame = len(long).to_bytes(4) + long + SLICE
    out = read(film(cluster(block(1, frame)), tracks=track()))
    assert CITY not in out
    assert SLICE in out


HIDING = [
    film(cluster(block(1, FRAME), mk.group(1, FRAME), laced(EBML, FRAME, FRAME, SLICE)), tracks=track()),
    film(
        cluster(laced(XIPH, *[FRAME[2:]] * 3), block(1, FRAME[2:]), size=mk.UNKNOWN_SIZE),
        tracks=track(stripped(FRAME[:2])),
        size=mk.UNKNOWN_SIZE,
    ),
    film(cluster_with(el(0xBF, b"abcd"), block(1, BYTE_STREAM), block(1, SLICE)), tracks=vfw(b"H264")),
    film(cluster(block(1, MPEG)), tracks=track(codec=b"V_MPEG2", private=MPEG)),
    film(cluster(block(1, AV1)), tracks=track(codec=b"V_AV1", private=b"\x81\0\0\0" + obu(5, b"\4" + CITY))),
]


@pytest.mark.parametrize("data", HIDING)
def test_small_files_for_the_fuzzer_lose_their_places(data: bytes) -> None:
    assert CITY not in read(data)


@pytest.mark.parametrize("codec", [b"V_MPEG1", b"V_MPEG2", b"V_MPEG4/ISO/ASP"])
def test_user_data_of_mpeg_goes(codec: bytes) -> None:
    out = read(film(*[cluster(block(1, MPEG))] * 9, tracks=track(codec=codec, private=b"")))
    assert CITY not in out
    assert out.count(b"\0\0\1\xb6slice123") == 9


def test_user_data_of_mpeg_behind_a_lead_goes() -> None:
    frame = b"\0\1\xb6slice123\0\0\1\xb2" + CITY
    entry = track(stripped(b"\0"), codec=b"V_MPEG4/ISO/ASP", private=b"")
    out = read(film(cluster(block(1, frame)), tracks=entry))
    assert CITY not in out


def test_metadata_of_av1_goes() -> None:
    out = read(film(*[cluster(block(1, AV1))] * 9, tracks=track(codec=b"V_AV1", private=b"\x81\0\0\0")))
    assert CITY not in out
    assert out.count(b"slice123") == 9
