"""Places behind the bounds of frames, samples of text and blocks in films."""

from __future__ import annotations

from typing import Final

from tests.redaction.planted import PLACE, Plant, Plants
from tests.support.samples import jpegs, matroskas, movies
from tests.support.samples.matroskas import block, cluster, el, film, track
from tests.support.samples.movies import AVCC, SLICE, Track, movie, sei, u16
from tests.support.samples.sounds import chunk

MP4, MOV, MKV, AVI = "video/mp4", "video/quicktime", "video/x-matroska", "video/x-msvideo"
_SPOT: Final = sei(5, bytes(range(128, 144)) + PLACE)
_JPEG: Final = jpegs.plain()
_PHOTO: Final = jpegs.photo_with(jpegs.exif("MM"))
_NOTED: Final = jpegs.with_segments(_JPEG, jpegs.segment(0xFE, PLACE))


def coded(count: int, *places: int) -> bytes:
    """A film of so many frames of H.264, with a message in some."""
    return movie(
        Track(format=b"avc1", entry=AVCC, samples=[_SPOT * (n in places) + SLICE for n in range(count)])
    )


def _long(unit: bytes, size: int) -> bytes:
    """A unit with a length field, made longer."""
    return size.to_bytes(4) + unit[4:].ljust(size, b"\x55")


def photos(count: int, *places: int, one: bytes = _PHOTO) -> bytes:
    """A time-lapse of so many photos, some with metadata."""
    frames = [one if n in places else _JPEG for n in range(count)]
    return movie(Track(format=b"jpeg", samples=frames), head=movies.ftyp(b"qt  "))


def in_blocks(count: int, place: bytes, plain: bytes, at: int, codec: bytes, *more: bytes) -> bytes:
    """A Matroska of so many blocks in clusters of 50, one of them with a place."""
    frames = [place if n == at else plain for n in range(count)]
    clusters = [cluster(*[block(1, one) for one in frames[n : n + 50]]) for n in range(0, count, 50)]
    return film(*clusters, tracks=track(1, 1, codec, *more))


def in_avi(count: int, place: bytes, plain: bytes, at: int, code: bytes) -> bytes:
    return avi_of([place if n == at else plain for n in range(count)], code)


def avi_of(pictures: list[bytes], code: bytes) -> bytes:
    """An AVI of these frames."""
    stream = chunk(
        b"LIST",
        b"strl" + chunk(b"strh", b"vids" + code + bytes(48)) + chunk(b"strf", bytes(16) + code + bytes(20)),
    )
    headers = chunk(b"LIST", b"hdrl" + chunk(b"avih", bytes(56)) + stream)
    frames = b"".join(chunk(b"00dc", picture) for picture in pictures)
    body = b"AVI " + headers + chunk(b"LIST", b"movi" + frames)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def subtitled(count: int, last: bytes) -> bytes:
    said = [u16(5) + b"words"] * (count - 1) + [u16(len(last)) + last]
    return movie(Track(), Track(b"sbtl", b"tx3g", said, entry=bytes(30), number=2, per_chunk=count))


def written(count: int, last: bytes) -> bytes:
    blocks = [block(2, b"words")] * (count - 1) + [block(2, last)]
    return film(cluster(block(1, b"ab"), *blocks), tracks=matroskas.VIDEO + track(2, 17, b"S_TEXT/UTF8"))


def sounding(count: int, *behind: bytes) -> bytes:
    """A Matroska of sound alone, of so many blocks, and what is in its last cluster."""
    return film(
        cluster(*[block(1, b"")] * count), cluster(block(1, b"ab"), *behind), tracks=track(1, 2, b"A_OPUS")
    )


PLANTS: Final[Plants] = {
    "in a message of each frame": Plant(MP4, "", lambda: coded(90, *range(90))),
    "in a message of the first frame": Plant(MP4, "", lambda: coded(300, 0)),
    "in each photo of a time-lapse": Plant(MOV, "", lambda: photos(70, *range(70))),
    **{
        f"before a photo of {kind}": Plant(kind, "", make)
        for kind, make in (
            (MOV, lambda: photos(3, 1, one=PLACE + bytes(2) + _JPEG)),
            (AVI, lambda: in_avi(3, PLACE + bytes(2) + _PHOTO, _JPEG, 1, b"MJPG")),
            (MKV, lambda: in_blocks(3, PLACE + bytes(2) + _JPEG, _JPEG, 1, b"V_MJPEG")),
        )
    },
    "in one photo of sixty": Plant(MOV, "", lambda: photos(60, 41)),
    "in the last of 2,000 subtitles": Plant(MP4, "", lambda: subtitled(2000, PLACE)),
    "in the last of 20,100 subtitles": Plant(
        MP4, "isobmff/samples.py MAX_TEXT_SAMPLES", lambda: subtitled(20_100, PLACE)
    ),
    "in subtitles of 600 KB": Plant(
        MP4, "isobmff/samples.py MAX_TEXT_BYTES", lambda: subtitled(2, b"x " * 32_000 + PLACE)
    ),
    "in the last of 9,000 subtitles of a Matroska": Plant(MKV, "", lambda: written(9000, PLACE)),
    "in a message of a Matroska's each frame": Plant(
        MKV,
        "",
        lambda: in_blocks(90, _SPOT + SLICE, _SPOT + SLICE, 0, b"V_MPEG4/ISO/AVC", el(0x63A2, AVCC[8:])),
    ),
    "in additions of 5 MiB": Plant(
        MKV,
        "matroska/clusters.py _MAX_ADDITIONS_BYTES",
        lambda: film(
            cluster(matroskas.group(1, b"ab", el(0x75A1, el(0xA6, el(0xA5, bytes(5 << 20) + PLACE)))))
        ),
    ),
    "in a message behind a slice of 9 MB": Plant(
        MP4,
        "bitstreams/frame_table.py _BUFFERED_BYTES",
        lambda: movie(Track(format=b"avc1", entry=AVCC, samples=[_long(SLICE, 9_000_000) + _SPOT + SLICE])),
    ),
    "in a message of frame 200": Plant(MP4, "", lambda: coded(300, 200)),
    "in messages of ten frames": Plant(MP4, "", lambda: coded(1200, *range(901, 911))),
    "in messages of every 50th frame": Plant(MP4, "", lambda: coded(1999, *range(33, 1999, 50))),
    "in photo 133 of 300": Plant(MOV, "", lambda: photos(300, 133)),
    "in comments of nine photos of 300": Plant(MOV, "", lambda: photos(300, *range(101, 110), one=_NOTED)),
    "in a message of block 133": Plant(
        MKV,
        "",
        lambda: in_blocks(400, _SPOT + SLICE, SLICE, 133, b"V_MPEG4/ISO/AVC", el(0x63A2, AVCC[8:])),
    ),
    "in photo 133 of a Matroska": Plant(MKV, "", lambda: in_blocks(300, _PHOTO, _JPEG, 133, b"V_MJPEG")),
    "in photo 133 of an AVI": Plant(
        AVI, "riff/avi.py _SETTINGS_AT", lambda: in_avi(300, _PHOTO, _JPEG, 133, b"MJPG")
    ),
    "in comments of an AVI": Plant(
        AVI, "riff/avi.py _SETTINGS_AT", lambda: in_avi(300, _NOTED, _JPEG, 133, b"MJPG")
    ),
    "in a Void behind 200,100 blocks": Plant(MKV, "", lambda: sounding(200_100, el(0xEC, bytes(9) + PLACE))),
    "in a block of no track behind 200,100": Plant(MKV, "", lambda: sounding(200_100, block(9, PLACE))),
}
SOAK: Final[Plants] = {
    "behind eight million blocks": Plant(
        MKV,
        "matroska/clusters.py MAX_MEDIA_BLOCKS",
        lambda: sounding((8 << 20) + 9, block(9, PLACE)),
        refused=True,
    ),
    "behind a million blocks": Plant(
        MKV, "matroska/clusters.py MAX_BLOCKS", lambda: written(1_000_100, PLACE), refused=True
    ),
    "behind 80,000 subtitles": Plant(
        MKV, "matroska/clusters.py MAX_TEXTS", lambda: written(80_100, PLACE), refused=True
    ),
}
