"""Places behind the bounds of the search within one frame: its units, their messages, and the bytes between.

Each frame stands between two plain ones of its codec, in a movie, a Matroska or an AVI.
"""

from __future__ import annotations

from typing import Final

from tests.redaction.planted import PLACE, Plant, Plants
from tests.redaction.planted_films import AVI, MKV, MP4, in_avi, in_blocks
from tests.support.samples import heifs, jpegs, matroskas, movies
from tests.support.samples.matroskas import block, cluster, el, film, track
from tests.support.samples.movies import AVCC, SLICE, Track, movie, sei
from tests.support.samples.sounds import chunk

_ID: Final = bytes(range(128, 144))
_TEXT: Final = sei(5, _ID + PLACE)
_PHOTO: Final = jpegs.photo_with(jpegs.exif("MM"))
_CODE: Final = b"\0\0\1"
_GA94: Final = b"\xb5\0\x31GA94\3"
_SHORT: Final = bytes.fromhex("0387f44e")
_HVCC: Final = b"\1" + bytes(20) + b"\3\0"
_PICTURE: Final = _CODE + b"\xb6coded picture"


def nal(unit: bytes, stated: int = 0) -> bytes:
    """A unit behind its length; stated: a length that is not its own."""
    return (stated or len(unit)).to_bytes(4) + unit


def message(kind: int, payload: bytes) -> bytes:
    """An SEI message."""
    return b"".join(b"\xff" * (n // 255) + bytes((n % 255,)) for n in (kind, len(payload))) + payload


def unit(*messages: bytes, end: bytes = b"\x80") -> bytes:
    """An SEI unit of H.264."""
    return b"\x06" + b"".join(messages) + end


def obu(kind: int, payload: bytes) -> bytes:
    """A unit of AV1 with its size."""
    return bytes((kind << 3 | 2, len(payload) & 0x7F | 0x80, len(payload) >> 7)) + payload


def avc(frame: bytes, code: bytes = b"avc1") -> bytes:
    """A movie of H.264 with one such frame."""
    entry = AVCC if code == b"avc1" else AVCC + movies.box(b"sinf", movies.box(b"frma", b"avc1"))
    return movie(Track(format=code, entry=entry, samples=[SLICE, frame, SLICE]))


def hevc(frame: bytes) -> bytes:
    """A movie of H.265 with one such frame."""
    plain = nal(b"\x26\1slice123")
    return movie(Track(format=b"hvc1", entry=movies.box(b"hvcC", _HVCC), samples=[plain, frame, plain]))


def av1(frame: bytes) -> bytes:
    """A movie of AV1 with one such frame."""
    plain = obu(6, b"coded")
    entry = movies.box(b"av1C", b"\x81\0\0\0")
    return movie(Track(format=b"av01", entry=entry, samples=[plain, frame + plain, plain]))


def streamed(frame: bytes) -> bytes:
    """An AVI of H.264 with start codes, with one such frame."""
    return in_avi(3, frame, _CODE + b"\x65slice", 1, b"H264")


def mpeg(frame: bytes) -> bytes:
    """An AVI of MPEG-4 part 2 with one such frame."""
    return in_avi(3, frame, _PICTURE, 1, b"XVID")


def laced(data: bytes, flags: int) -> bytes:
    """A Matroska of H.264 with one block of several frames."""
    blocks = (block(1, SLICE), block(1, data, 0x80 | flags), block(1, SLICE))
    return film(cluster(*blocks), tracks=track(1, 1, b"V_MPEG4/ISO/AVC", el(0x63A2, AVCC[8:])))


def _in_settings() -> bytes:
    """An AVI of H.265 with settings of 70 KB."""
    old = in_avi(3, _CODE, _CODE + b"\x26\1slice", 1, b"HEVC")
    at = old.index(b"strf")
    data = old[at + 8 : at + 48] + _HVCC + bytes(70_000) + PLACE
    return _resized(old[:at] + chunk(b"strf", data) + old[at + 48 :], len(data) - 40)


def _resized(data: bytes, more: int) -> bytes:
    """An AVI with sizes that are larger by so many bytes, of all lists around the settings."""
    out = bytearray(data)
    for name in (b"RIFF", b"LIST", b"strl"):
        at = data.index(name) + (4 if name != b"strl" else -4)
        out[at : at + 4] = (int.from_bytes(out[at : at + 4], "little") + more).to_bytes(4, "little")
    return bytes(out)


PLANTS: Final[Plants] = {
    f"in a frame: {name}": plant
    for name, plant in {
        # units behind their lengths
        "behind a unit without bytes": Plant(MP4, "", lambda: avc(bytes(4) + _TEXT + SLICE)),
        "in a message beyond the frame": Plant(
            MP4, "", lambda: avc(SLICE + nal(unit(message(5, _ID + PLACE)), 99))
        ),
        "behind the units": Plant(MP4, "", lambda: avc(SLICE + PLACE)),
        "in settings": Plant(MP4, "", lambda: avc(nal(b"\x67\x42\0\x1e" + PLACE) + SLICE)),
        "in a delimiter": Plant(MP4, "", lambda: avc(nal(b"\x09\x10" + PLACE) + SLICE)),
        "in settings of H.265": Plant(MP4, "", lambda: hevc(nal(b"\x44\1" + PLACE) + nal(b"\x26\1slice"))),
        "in a delimiter of H.265": Plant(MP4, "", lambda: hevc(nal(b"\x46\1" + PLACE) + nal(b"\x26\1s"))),
        "behind 4,096 bytes of slices": Plant(
            MP4, "bitstreams/frames.py _READ_BYTES", lambda: avc(SLICE * 1000 + _TEXT)
        ),
        "behind 4,096 units": Plant(
            MP4,
            "bitstreams/frames.py SAMPLE_UNITS",
            lambda: avc(nal(b"\x09\x10") * 4096 + _TEXT),
            refused=True,
        ),
        "in a unit of reserved type": Plant(MP4, "", lambda: avc(nal(b"\x18" + PLACE) + SLICE)),
        # messages
        "in a message of 70 KB": Plant(
            MP4,
            "bitstreams/sei.py MAX_UNIT_BYTES",
            lambda: avc(nal(unit(message(5, _ID + bytes(70_000) + PLACE))) + SLICE),
        ),
        "in messages of 33 MiB": Plant(
            MP4,
            "bitstreams/frames.py MAX_MESSAGE_BYTES",
            lambda: avc(nal(unit(message(5, _ID + b"\1" * 65_000))) * 530 + _TEXT),
            refused=True,
        ),
        "in a message of a known number": Plant(MP4, "", lambda: avc(nal(unit(message(1, PLACE))) + SLICE)),
        "in numbers of 300 bytes": Plant(
            MP4,
            "bitstreams/sei.py _MAX_NUMBERS_BYTES",
            lambda: avc(nal(unit(message(1, bytes(282) + PLACE))) + SLICE),
        ),
        "in captions": Plant(
            MP4, "", lambda: avc(nal(unit(message(4, _GA94 + b"\x5f\xff" + PLACE))) + SLICE)
        ),
        "behind captions": Plant(
            MP4,
            "bitstreams/sei.py _CAPTIONS_AROUND_BYTES, bitstreams/sei.py _CAPTION_BYTES",
            lambda: avc(nal(unit(message(4, _GA94 + b"\x41\xff\xfcAB\xff" + PLACE))) + SLICE),
        ),
        "in the format of the picture": Plant(
            MP4,
            "bitstreams/sei.py _ATSC_FORMAT{}",
            lambda: avc(nal(unit(message(4, b"\xb5\0\x31GA94\x06" + PLACE))) + SLICE),
        ),
        "in a message of dynamic range": Plant(
            MP4, "", lambda: avc(nal(unit(message(4, b"\xb5\0\x3c" + PLACE))) + SLICE)
        ),
        "in 1,100 bytes of dynamic range": Plant(
            MP4,
            "bitstreams/sei.py _MAX_REGISTERED_BYTES",
            lambda: avc(nal(unit(message(4, b"\xb5\0\x3c" + b"\1" * 1100 + PLACE))) + SLICE),
        ),
        "in the name of an encoder": Plant(
            MP4, "", lambda: avc(nal(unit(message(5, _SHORT + PLACE[:12] + PLACE[12:]))) + SLICE)
        ),
        "in a counter of 12 bytes": Plant(
            MP4,
            "bitstreams/sei.py _MAX_COUNTER_BYTES",
            lambda: avc(nal(unit(message(5, _SHORT + bytes(12) + PLACE))) + SLICE),
        ),
        # protected tracks
        "in a message in clear": Plant(MP4, "", lambda: avc(_TEXT + SLICE, b"drmi")),
        "in a message in clear before 20 zeros": Plant(
            MP4,
            "",
            lambda: avc(nal(unit(message(5, _ID + PLACE)) + bytes(20)) + SLICE, b"drmi"),
        ),
        "in a message in clear without an end": Plant(
            MP4, "", lambda: avc(nal(unit(message(5, _ID + PLACE), end=b"")) + SLICE, b"drmi")
        ),
        "in a message in clear before other bytes": Plant(
            MP4, "", lambda: avc(_TEXT + b"\x7f\xff\xff\xff encrypted", b"drmi")
        ),
        # start codes
        "before the first start code": Plant(AVI, "", lambda: streamed(PLACE + _CODE + b"\x65slice")),
        "without a start code": Plant(AVI, "", lambda: streamed(PLACE)),
        "in settings behind a start code": Plant(
            AVI, "", lambda: streamed(_CODE + b"\x67\x42\0\x1e" + PLACE + _CODE + b"\x65slice")
        ),
        # AV1
        "in a temporal delimiter": Plant(MP4, "", lambda: av1(obu(2, PLACE))),
        "in a sequence header": Plant(MP4, "", lambda: av1(obu(1, b"\0\0\0" + PLACE))),
        "in brightness": Plant(MP4, "", lambda: av1(obu(5, b"\1" + PLACE))),
        "in 300 bytes of brightness": Plant(
            MP4, "bitstreams/obus.py _MAX_NUMBERS_BYTES", lambda: av1(obu(5, b"\1" + bytes(300) + PLACE))
        ),
        "behind 4,096 bytes of dynamic range": Plant(
            MP4,
            "bitstreams/obus.py _MAX_T35_READ",
            lambda: av1(obu(5, b"\4\xb5\0\x3c" + b"\1" * 4100 + PLACE)),
        ),
        "behind what is no unit": Plant(MP4, "", lambda: av1(b"\xff\xff" + PLACE)),
        # MPEG-1, -2, -4
        "before the first unit": Plant(AVI, "", lambda: mpeg(PLACE + _PICTURE)),
        "in no unit": Plant(AVI, "", lambda: mpeg(PLACE)),
        "in a unit of no type": Plant(AVI, "", lambda: mpeg(_CODE + b"\xbf" + PLACE + _PICTURE)),
        "in a header of a sequence": Plant(AVI, "", lambda: mpeg(_CODE + b"\xb5" + PLACE + _PICTURE)),
        "in a long header of MPEG-4": Plant(
            AVI, "", lambda: mpeg(_CODE + b"\x20" + b"\1" * 300 + PLACE + _PICTURE)
        ),
        "in captions of MPEG": Plant(AVI, "", lambda: mpeg(_CODE + b"\xb2GA94\3" + PLACE + _PICTURE)),
        "in long captions of MPEG": Plant(
            AVI,
            "bitstreams/user_data.py _MAX_CAPTION_BYTES",
            lambda: mpeg(_CODE + b"\xb2GA94\3" + b"\1" * 260 + PLACE + _PICTURE),
        ),
        "in captions of cable": Plant(
            AVI,
            "bitstreams/user_data.py _CAPTION_BITS, bitstreams/user_data.py _COUNT_BITS,"
            " bitstreams/user_data.py _RAW_LINES_BITS, bitstreams/user_data.py _MAX_FILLER_BITS",
            lambda: mpeg(_CODE + b"\xb2\3\x81\0" + PLACE + _PICTURE),
        ),
        "behind the name of a codec": Plant(
            AVI,
            "bitstreams/user_data.py _QUIRKS{}",
            lambda: mpeg(_CODE + b"\xb2XviD0069" + PLACE + _PICTURE),
        ),
        "before a mark": Plant(
            AVI,
            "bitstreams/user_data.py _MARK{}",
            lambda: mpeg(_CODE + b"\xb2" + PLACE + b"\0TMPGEXS\0" + _PICTURE),
        ),
        "behind the format of the picture": Plant(
            AVI,
            "bitstreams/user_data.py _CAPTIONS_AND_FORMAT{}",
            lambda: mpeg(_CODE + b"\xb2DTG1\x41" + PLACE + _PICTURE),
        ),
        # frames of another codec than the track's
        "of a photo among H.264": Plant(MP4, "", lambda: avc(_PHOTO)),
        "of a photo among H.264 in Matroska": Plant(
            MKV, "", lambda: in_blocks(3, _PHOTO, SLICE, 1, b"V_MPEG4/ISO/AVC", el(0x63A2, AVCC[8:]))
        ),
        "of a photo among H.264 in AVI": Plant(AVI, "", lambda: streamed(_PHOTO)),
        "of a photo among AV1": Plant(MP4, "", lambda: av1(_PHOTO)),
        "of H.264 in a track of sound": Plant(
            MP4, "", lambda: movie(Track(), Track(b"soun", b"avc1", [_TEXT + SLICE], entry=AVCC, number=2))
        ),
        "in a delimiter of a picture": Plant(
            "image/heic",
            "",
            lambda: heifs.heif([heifs.Thing(1, b"hvc1", heifs.nal(35, b"\1" + PLACE) + heifs.picture())]),
        ),
        "in the index of a stream": Plant(
            AVI, "", lambda: streamed(PLACE + bytes(2)).replace(b"00dc\x14", b"ix00\x14")
        ),
        # Matroska
        "in a lace of 70 KB": Plant(
            MKV,
            "matroska/frames.py _LACING_BYTES",
            lambda: laced(b"\1" + b"\xff" * 70_000 + b"\0" + _TEXT + SLICE, 2),
        ),
        "in a lace that does not fit": Plant(
            MKV, "", lambda: laced(b"\2" + bytes((200, 200)) + _TEXT + SLICE, 2)
        ),
        "in a subtitle of 70 KB": Plant(
            MKV,
            "matroska/clusters.py _MAX_TEXT_BYTES",
            lambda: film(
                cluster(block(1, b"ab"), block(2, b"x " * 35_000 + PLACE)),
                tracks=matroskas.VIDEO + track(2, 17, b"S_TEXT/UTF8"),
            ),
        ),
        "in the channel of transparency": Plant(
            MKV,
            "",
            lambda: film(cluster(matroskas.group(1, b"ab", el(0x75A1, el(0xA6, el(0xA5, b"\1\2" + PLACE)))))),
        ),
        "behind 4,096 zeros": Plant(
            AVI,
            "bitstreams/nal_units.py MAX_PADDING_BYTES",
            lambda: streamed(SLICE + bytes(5000) + _TEXT),
            refused=True,
        ),
        "in 70 KB of settings": Plant(AVI, "bitstreams/frames.py MAX_CONFIG_BYTES", _in_settings),
        "in the margins of a subtitle": Plant(
            MKV,
            "matroska/clusters.py _blanked<6>",
            lambda: film(
                cluster(block(1, b"ab"), block(2, b"1,0,Style,,47804,13042,0,," + PLACE)),
                tracks=matroskas.VIDEO + track(2, 17, b"S_TEXT/ASS"),
            ),
            needle=b"47804,13042",
        ),
        "in a lace of fixed size": Plant(MKV, "", lambda: laced(b"\1" + 2 * (_TEXT + SLICE), 4)),
    }.items()
}
SOAK: Final[Plants] = {
    "in a frame: of a photo behind 129 MiB": Plant(
        MKV,
        "bitstreams/photos.py MAX_PHOTO_BYTES, bitstreams/photos.py _HEADER_BYTES",
        lambda: in_blocks(3, bytes(129 << 20) + _PHOTO, b"plain", 1, b"V_MJPEG"),
        refused=True,
    ),
}
