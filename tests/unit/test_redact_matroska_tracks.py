"""Tracks of Matroska: what their entries say of their blocks and frames."""

from __future__ import annotations

import pytest

from policyfs.redact.bitstreams.decoder_config import Framing
from policyfs.redact.bitstreams.nal_units import AV1, AVC, HEVC, MPEG
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.matroska.tracks import Coding, Role, Track, codes_of, tracks_of
from tests.support.samples import matroskas as mk
from tests.support.samples.matroskas import el, number

AVCC = b"\1\x42\0\x1e\xfd\xe0\0"
STRIPPED = el(0x6D80, el(0x6240, el(0x5034, number(0x4254, 3), el(0x4255, b"\0\0"))))

OLD_FILM = Track(Role.MEDIA, coding=Coding(Framing(MPEG, 0), b""))
PHOTOS = Track(Role.MEDIA, coding=Coding(None, b""))


def private(data: bytes) -> bytes:
    return el(0x63A2, data)


@pytest.mark.parametrize(
    ("entry", "track"),
    [
        (mk.track(1, 1, b"V_VP8"), Track(Role.MEDIA)),
        (mk.track(1, 2, b"A_OPUS"), Track(Role.MEDIA)),
        (mk.track(1, 2, b"V_VP8"), Track(Role.OTHER)),
        (mk.track(1, 17, b"S_TEXT/UTF8"), Track(Role.TEXT)),
        (mk.track(1, 17, b"S_HDMV/PGS", STRIPPED), Track(Role.MEDIA, packed=True)),
        (
            mk.track(1, 1, b"V_MPEG4/ISO/AVC\0", private(AVCC)),
            Track(Role.MEDIA, coding=Coding(Framing(AVC, 2), b"")),
        ),
        (mk.track(1, 1, b"V_MPEG4/ISO/AVC"), Track(Role.MEDIA, coding=Coding(Framing(AVC, 0), b""))),
        (mk.track(1, 17, b"V_MPEG4/ISO/AVC"), Track(Role.OTHER)),
        (
            mk.track(1, 1, b"V_MPEGH/ISO/HEVC", STRIPPED),
            Track(Role.MEDIA, packed=True, coding=Coding(Framing(HEVC, 0), b"\0\0")),
        ),
        (mk.track(1, 1, b"V_MS/VFW/FOURCC", private(bytes(16) + b"XVID" + bytes(20))), OLD_FILM),
        (mk.track(1, 1, b"V_MS/VFW/FOURCC", private(bytes(16) + b"MJPG" + bytes(20))), PHOTOS),
        (mk.track(1, 1, b"V_MPEG2"), OLD_FILM),
        (mk.track(1, 1, b"V_MPEG4/ISO/ASP"), OLD_FILM),
        (mk.track(1, 1, b"V_QUICKTIME", private(b"\0\0\0\x56mp4v")), OLD_FILM),
        (mk.track(1, 1, b"V_QUICKTIME", private(b"hdv3")), OLD_FILM),
        (
            mk.track(1, 1, b"V_QUICKTIME", private(b"\0\0\0\x56ai5p")),
            Track(Role.MEDIA, coding=Coding(Framing(AVC, 0), b"")),
        ),
        (mk.track(1, 1, b"V_AV1", private(b"\x81")), Track(Role.MEDIA, coding=Coding(Framing(AV1, 0), b""))),
        (mk.track(1, 1, b"V_MJPEG"), PHOTOS),
        (mk.track(1, 1, b"V_QUICKTIME", private(b"\0\0\0\x56jpeg")), PHOTOS),
    ],
)
def test_tracks_by_their_entries(entry: bytes, track: Track) -> None:
    assert tracks_of(entry) == {1: track}


def test_two_tracks_of_one_number_are_none() -> None:
    twice = mk.track(1, 1, b"V_VP8") * 2
    assert tracks_of(twice + mk.track(2, 1, b"V_VP8")) == {1: Track(Role.OTHER), 2: Track(Role.MEDIA)}


def test_pictures_that_are_compressed_again_are_refused() -> None:
    packed = el(0x6D80, el(0x6240, el(0x5034, number(0x4254, 0))))
    with pytest.raises(NotThisKindError):
        tracks_of(mk.track(1, 1, b"V_MPEG4/ISO/AVC", packed))
    with pytest.raises(NotThisKindError):
        tracks_of(mk.track(1, 1, b"V_MJPEG", packed))
    assert tracks_of(mk.track(1, 1, b"V_VP8", packed)) == {1: Track(Role.MEDIA, packed=True)}


def test_codes_of_codecs() -> None:
    old = mk.track(1, 1, b"V_MS/VFW/FOURCC", private(bytes(16) + b"dvsd"))
    assert list(codes_of(old + mk.VIDEO + mk.track(2, 1, b"V_QUICKTIME", private(b"avc1dvcp")))) == [
        *(b"dvsd", b"avc1", b"dvcp")
    ]
