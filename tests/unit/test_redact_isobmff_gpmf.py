"""GoPro's telemetry: places go, movements and exposure stay, and what is no telemetry goes whole."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.isobmff.gpmf import MAX_SAMPLES
from policyfs.redact.registry import locate_in
from tests.support.samples import heifs, jpegs
from tests.support.samples.gpmf import POSITION, TURNS, klv, sample, stream
from tests.support.samples.movies import CITY, PLACE, SAMPLE, Track, box, movie


def file(*samples: bytes, handler: bytes = b"meta") -> bytes:
    return movie(Track(), Track(handler, b"gpmd", samples, number=2))


def read(data: bytes, word: str = "location", kind: str = "video/mp4") -> bytes:
    hide = hidden_by([word])
    found = locate_in(kind, MemorySource(data), hide)
    out = apply(data, in_order(found.patches, len(data)))
    assert not locate_in(kind, MemorySource(out), hide).patches
    return out


def test_values_go_by_their_keys():
    out = read(file(sample(), sample()))
    for gone in (POSITION, b"210723112233", CITY):
        assert gone not in out
    for kept in (TURNS, b"Hero6 Black", b"Gyroscope", b"\x99\x88\x77\x66", b"GPS5", b"degdegm"):
        assert out.count(kept) == 2
    assert SAMPLE in out


@pytest.mark.parametrize(
    ("word", "gone"),
    [
        ("time", b"210723112233"),
        ("device", b"Hero6 Black"),
        ("people", b"\x99\x88\x77\x66"),
        ("all-metadata", TURNS),
    ],
)
def test_each_word_takes_its_own(word, gone):
    out = read(file(sample()), word)
    assert gone not in out
    assert CITY not in out
    assert (TURNS in out) is (word != "all-metadata")
    assert (POSITION in out) is (word in ("time", "device", "people"))


def test_telemetry_without_a_place_stays_bit_by_bit():
    plain = klv(b"DEVC", b"\0", stream(klv(b"STNM", b"c", b"Gyroscope"), klv(b"GYRO", b"s", TURNS, 6)))
    assert read(file(plain, plain)) == file(plain, plain)


@pytest.mark.parametrize(
    "hidden",
    [
        stream(klv(b"STNM", b"c", b"47.80453, 13.04229")),
        stream(klv(b"UNIT", b"c", PLACE)),
        stream(klv(b"RMRK", b"c", PLACE)),
        stream(klv(b"GYRO", b"\0", PLACE)),
        stream(klv(b"GYRO", b"x", PLACE)),
        klv(b"WHAT", b"\0", klv(b"GYRO", b"c", PLACE)),
        stream(klv(b"GPS9", b"?", PLACE)),
        stream(klv(b"STNM", b"c", b"x" * 300 + PLACE)),
        stream(klv(b"GYRO", b"s", TURNS, 6) + bytes(8) + PLACE),
        stream(klv(b"GPS5", b"l", b"", 20)) + b"GPS5" + POSITION,
    ],
)
def test_what_hides_a_place_in_it(hidden):
    out = read(file(sample(hidden)))
    assert PLACE not in out
    assert b"47.80453" not in out
    assert POSITION not in out


@pytest.mark.parametrize(
    "odd",
    [
        b"GPS5l\x14\0\x09" + POSITION,  # longer than the sample
        POSITION,
        sample()[:-3],
        b"DEVC\0\1\xff\xff" + POSITION,
        CITY * 9,
    ],
)
def test_samples_that_are_no_telemetry_become_zeros(odd):
    out = read(file(sample(), odd, sample()))
    assert POSITION not in out
    assert CITY not in out
    assert out.count(TURNS) == 2


def test_a_picture_of_that_format_is_none():
    for handler in (b"vide", b"soun", b"text", b"hint"):
        assert POSITION not in read(file(sample(), handler=handler))


def test_too_many_samples_go_whole():
    tiny = klv(b"GPS5", b"l", POSITION[:4], 4)
    data = file(*[tiny] * (MAX_SAMPLES + 1))
    assert tiny not in read(data)


def test_beside_a_still_picture_it_goes_whole():
    data = heifs.heif([heifs.Thing(1, b"hvc1", heifs.picture(), properties=(1, 2))])
    at = len(data) + 8
    films = file(sample())
    place = films.index(sample())
    moov = films[films.index(b"moov") - 4 :]
    moved = moov.replace(place.to_bytes(4), at.to_bytes(4))
    assert moved != moov
    media = (8 + len(sample())).to_bytes(4) + b"mdat" + sample()
    out = read(data + media + moved, kind="image/heic")
    assert POSITION not in out


SETTINGS = klv(
    b"DEVC", b"\0", klv(b"DVNM", b"c", b"Video Global Settings") + klv(b"MINF", b"c", b"HERO6 Black")
)
PLACED = klv(b"DEVC", b"\0", klv(b"MINF", b"c", b"HERO6 Black") + klv(b"GPS5", b"l", POSITION, 20))


def in_box(block: bytes) -> bytes:
    return movie(moov=box(b"udta", box(b"GPMF", block)))


def in_segment(*blocks: bytes) -> bytes:
    segments = (jpegs.segment(0xE6, b"GoPro\0" + block) for block in blocks)
    return jpegs.with_segments(jpegs.plain(), *segments)


@pytest.mark.parametrize(("make", "kind"), [(in_box, "video/mp4"), (in_segment, "image/jpeg")])
def test_a_block_of_its_own_goes_whole(make, kind):
    for block in (SETTINGS, PLACED, CITY):
        out = read(make(block), kind=kind)
        assert not any(word in out for word in (b"DEVC", POSITION, CITY))


def test_two_hours_of_telemetry_are_served():
    seconds = [sample(*[klv(b"ACCL", b"s", bytes([n % 200]) * 8, 8)] * 60) for n in range(7200)]
    out = read(file(*seconds))
    assert POSITION not in out
    assert out.count(TURNS) == 7200
