"""Little files of many kinds, with all that their locators look at, for fuzzers to damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.support.samples import (
    cr3s,
    heifs,
    jp2s,
    jpegs,
    motion,
    pdfs,
    pngs,
    sounds,
    subtitles,
    tiffs,
)
from tests.support.samples import matroskas as mk
from tests.support.samples.heifs import XMP_TYPE, Layout, Thing, heif, picture
from tests.support.samples.hidden import EXIF_CASES, JPEG_CASES
from tests.support.samples.jpegs import GPS_IFD, SUB_IFDS, gps, ifd, iptc_place, long, plain, text, xmp_packet
from tests.support.samples.matroskas import PICTURES, PLACE
from tests.support.samples.media import HOME
from tests.support.samples.movies import box as make_box
from tests.support.samples.notes import MAKERS, note_of, photo_by
from tests.unit.test_redact_images_bmp import BMP, CITY, bmp, header
from tests.unit.test_redact_images_gif import GIF_HIDING
from tests.unit.test_redact_images_png import HIDING
from tests.unit.test_redact_images_webp import WEBP_HIDING, webp


def _jpegs() -> list[bytes]:
    exifs = [jpegs.photo_with(make(order)) for make in EXIF_CASES.values() for order in ("II", "MM")]
    parts = [(0x0AA1, b"MCC_Data", b"232"), (0x0A30, b"MotionPhoto_Data", motion.VIDEO)]
    behind = [motion.VIDEO, motion.blocks(parts), jpegs.plain(2, 16) + motion.VIDEO]
    return [
        *exifs,
        *(make() for make in JPEG_CASES.values()),
        *(jpegs.photo_with(jpegs.exif()) + tail for tail in behind),
    ]


JPEGS: Final = _jpegs()

EXIF: Final = bytes(4) + jpegs.exif("MM")
XMP: Final = jpegs.xmp_packet("<photoshop:City>Zirbelstadt</photoshop:City>")
PICTURE: Final = Thing(1, b"hvc1", heifs.user_sei(b"x" * 30) + picture(), properties=(1, 2))
EVERYTHING: Final = (
    PICTURE,
    Thing(2, b"Exif", EXIF, pieces=2),
    Thing(3, b"mime", XMP, XMP_TYPE, name=b"x"),
    Thing(4, b"Exif", EXIF, where="idat"),
    Thing(5, b"uri ", b"abc" * 9, b"urn:x:y"),
    Thing(6, b"jpeg", jpegs.photo_with(jpegs.exif("II"))),
    Thing(7, b"Exif", of=(5, 2, 9)),
    Thing(8, b"av01", heifs.obu(5, b"\4abc") + heifs.obu(6, b"\1" * 30)),
    Thing(9, b"j2k1", jp2s.codestream(header=jp2s.comment(b"made by me"))),
)
LAYOUT: Final = Layout(
    references=((b"cdsc", 2, (1,)), (b"thmb", 6, (1,))),
    properties=(
        *heifs.PROPERTIES,
        heifs.full(b"udes", b"en\0a\0b\0c\0"),
        make_box(b"colr", b"nclx" + bytes(7)),
    ),
    after=make_box(b"free", b"abc") + make_box(b"uuid", heifs.XMP_UUID + XMP),
)
BOXES: Final = (
    ("image/heic", heif(EVERYTHING, LAYOUT)),
    ("image/heif", heif(EVERYTHING, replace(LAYOUT, iloc_version=2, infe_version=3, wide_mdat=True))),
    ("image/avif", heif((PICTURE, *EVERYTHING[1:4]), replace(LAYOUT, base=100))),
    (
        "image/jxl",
        jp2s.jxl(make_box(b"Exif", EXIF), make_box(b"xml ", XMP), make_box(b"brob", b"Exif" + EXIF)),
    ),
    ("image/jp2", jp2s.jp2(make_box(b"uuid", b"JpgTiffExif->JP2" + EXIF[4:]), make_box(b"xml ", XMP))),
    ("image/x-canon-cr3", cr3s.cr3()),
    (
        "image/x-jp2-codestream",
        jp2s.codestream(jp2s.tile(b"abc", header=jp2s.comment(b"x")), jp2s.tile(b"ab", to_end=True)),
    ),
)

_BITMAPS: Final[dict[str, Callable[[bytes], bytes]]] = {
    BMP: lambda city: bmp(header(124), city, city),
}
CHUNKS: Final = [
    *(("image/png", pngs.plain(chunk, after=chunk)) for chunk in HIDING.values()),
    *(("image/webp", webp(*parts, flags=0x0C)) for parts in WEBP_HIDING.values()),
    *(("image/gif", data) for data in GIF_HIDING.values()),
    *((kind, make()) for kind, make in sounds.CASES.values()),
    *sounds.PLAIN.values(),
    *((kind, make(CITY)) for kind, make in _BITMAPS.items()),
    *subtitles.SEEDS,
    ("audio/aac", b"\xff\xf1\x50\x80\x02\x1f\xfc" * 20),
]

_TAGS = mk.tags(mk.simple_tag(b"LOCATION", PLACE), mk.simple_tag(b"ARTIST", b"Rosa"))
_TRACKS = mk.VIDEO + mk.track(2, 17, b"S_TEXT/UTF8") + mk.track(3, 33, b"D_META")
_BLOCKS = (
    mk.block(1, PICTURES),
    mk.group(2, PLACE, mk.number(0x9B, 9), mk.el(0x75A1, mk.el(0xA6, mk.el(0xA5, b"x")))),
    mk.block(3, PLACE),
    mk.el(0xEC, PLACE),
)
FILMS: Final = [
    mk.film(mk.cluster(*_BLOCKS), _TAGS, tracks=_TRACKS),
    mk.film(
        _TAGS,
        mk.cluster(*_BLOCKS, size=mk.UNKNOWN_SIZE),
        mk.cluster(mk.el(0xBF, b"abcd"), *_BLOCKS, size=mk.UNKNOWN_SIZE),
        mk.el(
            mk.ATTACHMENTS,
            mk.el(
                0x61A7, mk.el(0x466E, b"a"), mk.el(0x4660, b"font/ttf"), mk.el(0x465C, mk.font(b"a table"))
            ),
        ),
        tracks=_TRACKS,
        size=mk.UNKNOWN_SIZE,
    ),
]
SIDECARS: Final = [
    b'{"title": "a.jpg", "description": "at 47.80453, 13.04229", "geoData": {"latitude": 47}, "x": [1]}',
    b'[{"geoData": {"latitude": 47.8}, "people": [{"name": "R\xc3\xb6"}]}, {"a": "b"}, {}]',
]
_INFO = b"<</Title(quince)/Subject(%s)/Where(x)/CreationDate(D:20210723)>>" % PLACE
_PACKET = jpegs.xmp_packet("<photoshop:City>Zirbelstadt</photoshop:City>") + b" " * 100
PDFS: Final = [
    pdfs.pdf(
        {5: _INFO, 6: pdfs.stream(_PACKET, b"/Type/Metadata")},
        trailer=b"/Info 5 0 R",
        page=b"/Metadata 6 0 R",
    ),
    pdfs.revised(
        pdfs.pdf(
            {
                5: pdfs.object_stream({7: _INFO, 8: b"[9 0 R (a)]", 9: b"(b)"}),
                6: pdfs.packed(_PACKET, b"/Type/Metadata"),
            },
            trailer=b"/Info 7 0 R",
            catalog=b"/Metadata 6 0 R/X 8 0 R",
        ),
        {10: _INFO, 11: pdfs.stream(b"abc", b"", b"12 0 R"), 12: b"3"},
        b"/Info 10 0 R/ID[<aabb><ccdd>]",
    ),
]


def _crowded(order: str) -> bytes:
    """A TIFF with nearly everything that the walk follows."""
    packet = xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>")
    note = note_of(MAKERS["Nikon"], order)
    at = 0x3000
    data = tiffs.classic(
        order,
        text(0x010F, "NIKON"),
        text(0x0132, "2024:05:17 11:22:33"),
        (0x02BC, 1, len(packet), packet),
        (0x83BB, 7, len(iptc_place()), iptc_place()),
        (0x927C, 7, len(note), note),
        long(order, GPS_IFD, at),
        long(order, SUB_IFDS, at + 0x200, at + 0x400),
        following=at + 0x600,
    ).ljust(at, b"\0")
    preview = [long(order, 0x0201, at + 0xA00), long(order, 0x0202, len(plain()))]
    parts = [
        gps(order),
        preview,
        tiffs.picture(order, 8),
        [*tiffs.picture(order, 8), text(0x013B, HOME.city)],
    ]
    for index, entries in enumerate(parts):
        data = data.ljust(at + 0x200 * index, b"\0") + ifd(order, at + 0x200 * index, entries)
    return data.ljust(at + 0xA00, b"\0") + plain()


TIFFS: Final = [
    *(("image/tiff", _crowded(order)) for order in ("II", "MM")),
    ("image/tiff", tiffs.digital_negative("II")),
    ("image/x-olympus-orf", b"IIRO" + _crowded("II")[4:]),
    ("image/x-panasonic-rw2", b"IIU\0" + _crowded("II")[4:]),
    ("image/x-fuji-raf", tiffs.fuji(photo_by("FujiFilm", "MM"), record=HOME.city.encode())),
    *(("image/jpeg", photo_by(name, "MM")) for name in MAKERS),
]
