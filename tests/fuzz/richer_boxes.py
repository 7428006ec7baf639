"""Files of boxes with more in each than the tests' own: all that movies, HEIF, JPEG 2000 may hold."""

from __future__ import annotations

from typing import Final

from tests.fuzz.little import EXIF, LAYOUT, PICTURE, XMP
from tests.support.samples import heifs, jp2s, jpegs
from tests.support.samples.heifs import Layout, Thing, heif, obu
from tests.support.samples.movies import (
    AVCC,
    CITY,
    PLACE,
    SLICE,
    Track,
    box,
    data,
    fragmented,
    full,
    itunes,
    keyed,
    large,
    movie,
    sei,
    text_atom,
    u16,
    u32,
)
from tests.unit.test_redact_isobmff_mp4 import PLACED

_PHOTO: Final = jpegs.photo_with(jpegs.exif("MM"))
_KEYS: Final = box(
    b"keys",
    box(u32(1), box(b"keyd", b"mdtacom.apple.quicktime.still-image-time"), box(b"dtyp", u32(0, 77))),
    box(u32(2), box(b"keyd", b"mdtacom.apple.quicktime.location.ISO6709"), box(b"setu", CITY)),
)
_HVCC: Final = heifs.hvcc((33, b"\1\2\3"), (39, b"\x05\x1a" + bytes(16) + CITY + b"\x80"))
_UNITS: Final = heifs.user_sei(CITY) + heifs.picture()
_TRACKS: Final = (
    Track(format=b"hvc1", entry=_HVCC + box(b"colr", b"nclx" + bytes(7)), samples=(_UNITS, _UNITS)),
    Track(b"meta", b"mebx", (CITY, CITY[::-1]), entry=_KEYS, number=2),
    Track(b"text", b"text", (u16(5) + b"words",), entry=bytes(43), number=3, name=b"Chapters\0"),
    Track(b"subt", b"stpp", (b"<tt>" + PLACE + b"</tt>",), entry=b"http://x\0\0\0", number=4),
    Track(b"vide", b"jpeg", (_PHOTO,), number=5),
    Track(
        b"soun",
        b"mp4a",
        entry=box(b"wave", box(b"frma", b"mp4a"), box(b"esds", bytes(9)), u32(8, 0)),
        number=6,
    ),
)
_TABLES: Final = (
    full(b"stss", u32(1, 1))
    + full(b"sgpd", b"roll", u32(2, 1), u16(1), version=1)
    + full(b"sbgp", b"roll", u32(1, 2, 1))
    + box(b"sdtp", bytes(6))
)
_PROTECTED: Final = box(
    b"sinf", box(b"frma", b"avc1"), full(b"schm", b"cenc", u32(65536)), box(b"schi", CITY)
)
_INDEX: Final = full(b"sidx", u32(1, 1000, 0, 0), u16(0, 1), u32(100, 100, 0)) + box(
    b"mfra", full(b"tfra", u32(1, 0, 1, 1, 2), b"\1\1\1"), full(b"mfro", u32(40))
)
_MPEG: Final = b"\0\0\1\xb2" + CITY + b"\0\0\1\xb6slice123"
_AV1: Final = obu(5, b"\x1f" + CITY) + obu(6, b"slice123")
MOVIES: Final = (
    movie(*_TRACKS, moov=box(b"udta", text_atom(b"\xa9nam", b"a quince")), between=CITY),
    movie(Track(format=b"avc1", entry=AVCC, samples=[sei(5, bytes(16) + CITY) + SLICE] * 6, table=_TABLES)),
    movie(Track(format=b"mp4v", entry=box(b"glbl", _MPEG), samples=[_MPEG] * 6)),
    movie(Track(format=b"av01", entry=box(b"av1C", b"\x81\0\0\0" + _AV1), samples=[_AV1] * 6)),
    movie(Track(format=b"drmi", entry=AVCC + _PROTECTED, samples=[sei(5, bytes(16) + CITY) + SLICE] * 2)),
    movie(moov=b"".join(PLACED[each] for each in ("cover", "Canon's thumbnail", "in a comment", "XML"))),
    movie(moov=keyed({b"com.android.version": b"14", b"com.apple.quicktime.title": b"at " + PLACE})),
    movie(
        after=PLACED["EXIF in uuid"] + PLACED["unknown uuid"] + PLACED["a size that lies"] + CITY, make=large
    ),
    movie(moov=itunes(box(b"\xa9nam", data(b"title")), box(b"trkn", data(bytes(8), 0)), box(b"free", CITY))),
    fragmented(0x20000, entry=(b"avc1", AVCC), samples=(sei(5, bytes(16) + CITY) + SLICE, SLICE)) + _INDEX,
)
_FILM: Final = movie(Track(format=b"avc1", entry=AVCC, samples=[sei(5, bytes(16) + CITY) + SLICE] * 2))
_SEQUENCE: Final = movie(_TRACKS[0], _TRACKS[1], _TRACKS[3])
_GRID: Final = (
    PICTURE,
    Thing(2, b"grid", bytes(8), where="idat"),
    Thing(3, b"mime", _PHOTO, b"image/jpeg"),
    Thing(4, b"Exif", EXIF, pieces=3),
    Thing(5, b"mime", XMP, heifs.XMP_TYPE, b"deflate"),
)
HEICS: Final = (
    # The head of such a file is as long as a movie's: the places of samples stay true.
    heif((PICTURE, Thing(2, b"Exif", EXIF)), Layout(before=_SEQUENCE[24:])),
    heif(_GRID, Layout(references=((b"dimg", 2, (1, 1)), (b"auxl", 3, (1,))), after=box(b"mpvd", _FILM))),
    heif((PICTURE, Thing(2, b"Exif", EXIF, where="idat")), Layout(iloc_version=2, after=_FILM)),
    heif(
        (PICTURE,),
        Layout(
            properties=(
                *LAYOUT.properties,
                _HVCC,
                full(b"auxC", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"),
            ),
            in_meta=box(b"grpl", full(b"altr", u32(9, 2, 1, 2))) + full(b"ipro", u16(1), _PROTECTED),
        ),
    ),
)
_STREAM: Final = jp2s.codestream(jp2s.tile(b"abc", header=jp2s.comment(b"x")), header=jp2s.comment(CITY))
_LABEL: Final = box(b"asoc", box(b"nlst", bytes(4)), box(b"lbl ", b"a quince"), box(b"xml ", XMP))


def _in_fragments() -> bytes:
    """A JPX whose codestream lies in two pieces."""
    head = jp2s.jp2(_LABEL) + box(
        b"uuid", bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"), jpegs.iptc_place()
    )
    at, half = len(head) + 8, len(_STREAM) // 2
    rows = [(at, half), (at + half, len(_STREAM) - half)]
    table = b"".join(start.to_bytes(8) + size.to_bytes(4) + bytes(2) for start, size in rows)
    return head + box(b"mdat", _STREAM, CITY) + box(b"ftbl", box(b"flst", u16(2), table))


JP2S: Final = (_in_fragments(),)
_JXL: Final = jp2s.jxl()
JXLS: Final = (
    _JXL[: _JXL.index(b"jxlc") - 4]
    + box(b"jxlp", bytes(4) + b"\xff\x0aabc")
    + box(b"Exif", EXIF)
    + box(b"jxlp", b"\x80\0\0\1def"),
    b"\xff\x0a" + bytes(range(1, 90)) + b"Exif\0\0" + EXIF[4:],
)
