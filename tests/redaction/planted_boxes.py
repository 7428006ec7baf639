"""Places behind the bounds of TIFF and raws, HEIF, CR3, JPEG 2000, JPEG XL, and movies."""

from __future__ import annotations

import zlib
from itertools import accumulate
from typing import Final

from tests.redaction.planted import PLACE, Plant, Plants
from tests.support.samples import cr3s, gpmf, heifs, jp2s, jpegs, movies, tiffs, trailers
from tests.support.samples.heifs import Layout, Thing
from tests.support.samples.jpegs import exif, ifd, long, pack, plain, segment, text
from tests.support.samples.movies import box, full, u16, u32

TIFF, RAF, CR3 = "image/tiff", "image/x-fuji-raf", "image/x-canon-cr3"
HEIC, AVIF, JXL, JP2 = "image/heic", "image/avif", "image/jxl", "image/jp2"
CODES: Final = "image/x-jp2-codestream"
MP4, MOV, M4V, GP, GP2, M4A = (
    *("video/mp4", "video/quicktime", "video/x-m4v", "video/3gpp", "video/3gpp2", "audio/x-m4a"),
)
STRIP: Final = bytes(range(64))
PHOTO: Final = jpegs.with_segments(plain(), segment(0xFE, PLACE))
SPOT: Final = movies.text_atom(b"\xa9xyz", b"+47.80453+013.04229/")


def striped(
    *strips: bytes, gap: bytes = b"", compression: int = 1, magic: bytes = b"II*\0", head: bytes = b""
) -> bytes:
    """A TIFF of these strips, with a gap behind each."""
    at, data = 8 + len(head), b"".join(strip + gap for strip in strips)
    starts = [at + n for n in accumulate((len(strip + gap) for strip in strips[:-1]), initial=0)]
    data += bytes(len(data) % 2)
    directory = ifd(
        "II",
        at + len(data),
        [
            long("II", 0x00FE, 0),
            *(
                tiffs.short("II", tag, n)
                for tag, n in (
                    (0x100, 64),
                    (0x101, 64),
                    (0x102, 8),
                    (0x103, compression),
                    (0x106, 1),
                    (0x115, 1),
                    (0x116, 1),
                )
            ),
            long("II", 0x111, *starts),
            long("II", 0x117, *map(len, strips)),
        ],
    )
    return magic + pack("II", at + len(data)) + head + data + directory


def tagged(*entries: jpegs.Entry, behind: bytes = b"", following: int = 0) -> bytes:
    return tiffs.classic("II", *entries, behind=behind, following=following)


def pages(count: int) -> bytes:
    """So many directories in a row; the last has the GPS directory."""
    out = bytearray(tagged())
    first = 8 + len(tiffs.PIXELS)
    entries = int.from_bytes(out[first : first + 2], "little")
    link, at = first + 2 + 12 * entries, len(out) + len(out) % 2
    out += bytes(len(out) % 2)
    for number in range(count):
        out[link : link + 4] = pack("II", at)
        last = number == count - 1
        here = [long("II", 0x8825, at + 18)] if last else [long("II", 0x00FE, 1)]
        out += ifd("II", at, here)
        link, at = at + 14, at + 18
    return bytes(out) + ifd("II", at, jpegs.gps("II"))


def sub_directories(count: int) -> bytes:
    """So many sub-directories; the last has the GPS directory."""
    plain_file = tagged(long("II", 0x014A, *[0] * count))
    at = len(plain_file) + len(plain_file) % 2
    places = [at + 18 * n for n in range(count)]
    out = tagged(long("II", 0x014A, *places)).ljust(at, b"\0")
    for number, place in enumerate(places):
        last = number == count - 1
        out += ifd("II", place, [long("II", 0x8825, place + 18)] if last else [long("II", 0x00FE, 1)])
    return out + ifd("II", places[-1] + 18, jpegs.gps("II"))


_XMP: Final = jpegs.xmp_packet("<photoshop:City>47.80453</photoshop:City>")
_MANY: Final = b"word " * 120_000
TIFFS: Final[Plants] = {
    "in strip 257": Plant(TIFF, "raw/tiff.py MANY_STRIPS", lambda: striped(*[STRIP] * 256, PHOTO)),
    "in strip 300": Plant(TIFF, "raw/tiff.py MANY_STRIPS", lambda: striped(*[STRIP] * 300, PHOTO)),
    "in strip 3,000 of packed pixels": Plant(
        TIFF, "", lambda: striped(*[STRIP] * 3000, PHOTO, compression=8)
    ),
    "in tile 4,097": Plant(
        TIFF, "raw/strips.py _MOST_KNOWN", lambda: striped(*[plain()] * 4096, PHOTO, compression=7)
    ),
    "in tile 20 of different headers": Plant(
        TIFF,
        "raw/strips.py _MOST_KNOWN",
        lambda: striped(*[plain(seed, 16 + seed) for seed in range(1, 20)], PHOTO, compression=7),
    ),
    "in a tile behind 70 segments": Plant(
        TIFF,
        "raw/strips.py MOST_SEGMENTS",
        lambda: striped(
            plain(),
            jpegs.with_segments(plain(), *[segment(0xE5, b"x")] * 70, segment(0xFE, PLACE)),
            compression=7,
        ),
    ),
    "behind JFIF in a tile": Plant(
        TIFF,
        "",
        lambda: striped(
            plain(), jpegs.with_segments(plain(), segment(0xE0, b"JFIF\0" + bytes(9) + PLACE)), compression=7
        ),
    ),
    "behind Adobe in a tile": Plant(
        TIFF,
        "",
        lambda: striped(
            plain(), jpegs.with_segments(plain(), segment(0xE1, b"Adobe" + PLACE)), compression=7
        ),
    ),
    "in gaps of eight bytes": Plant(
        TIFF, "raw/tiff.py MAX_PADDING", lambda: striped(*[STRIP] * 300, gap=b"47.80453")
    ),
    "in gaps of twenty bytes": Plant(
        TIFF, "raw/tiff.py MAX_PADDING", lambda: striped(*[STRIP] * 300, gap=PLACE + b"  ")
    ),
    "in gaps of few strips": Plant(
        TIFF, "raw/tiff.py MANY_STRIPS", lambda: striped(*[STRIP] * 9, gap=b"47.80453")
    ),
    "in a WebP as strip 260": Plant(
        TIFF, "raw/tiff.py _LONGEST_START", lambda: striped(*[STRIP] * 260, _webp(), compression=50001)
    ),
    "in page 300": Plant(TIFF, "exif/tiff_walk.py MAX_DIRECTORIES", lambda: pages(300)),
    "in page 4,200": Plant(TIFF, "exif/tiff_walk.py MAX_DIRECTORIES", lambda: pages(4200), refused=True),
    "in sub-directory 64": Plant(TIFF, "exif/tiff_walk.py MAX_CHILDREN", lambda: sub_directories(64)),
    "in sub-directory 70": Plant(TIFF, "exif/tiff_walk.py MAX_CHILDREN", lambda: sub_directories(70)),
    "behind 2,100 tags": Plant(
        TIFF,
        "exif/tiff_walk.py MAX_ENTRIES",
        lambda: tagged(
            *[(0x9000 + n, 3, 1, b"\1\0") for n in range(2100)], text(0xFFF0, "47.80453, 13.04229")
        ),
        refused=True,
    ),
    "in texts over 512 KiB": Plant(
        TIFF,
        "exif/tiff_walk.py MAX_TEXT_BYTES",
        lambda: tagged(
            *[(tag, 2, len(_MANY) // 3, _MANY[: len(_MANY) // 3]) for tag in (0x010D, 0x010E, 0x011D)],
            text(0x8298, "47.80453, 13.04229"),
        ),
    ),
    "in a text of 300 KB in a TIFF": Plant(
        TIFF,
        "core/free_text.py MAX_TEXT_BYTES",
        lambda: tagged(text(0x010E, "x " * 150_000 + "47.80453, 13.04229")),
    ),
    "in XMP over 2 MiB": Plant(
        TIFF,
        "exif/tiff_walk.py MAX_NESTED_BYTES, raw/tiff.py MAX_LOST_BYTES",
        lambda: tagged((0x02BC, 1, (2 << 20) + 9, _XMP.ljust((2 << 20) + 9))),
        refused=True,
    ),
    "in IPTC over 256 KiB": Plant(
        TIFF,
        "exif/tiff_walk.py MAX_IIM_BYTES",
        lambda: tagged(_blob(0x83BB, jpegs.record(2, 25, b"w" * 900) * 300 + jpegs.iptc_place())),
    ),
    "behind 17 trailers": Plant(TIFF, "raw/trailers.py MAX_TRAILERS", lambda: behind_trailers(17)),
    "in bytes of no tag": Plant(
        TIFF, "core/filler.py MAX_FILLER_BYTES", lambda: tagged(behind=b"A" * 70_000 + PLACE)
    ),
    "behind values of 1 MiB of nothing": Plant(
        TIFF,
        "exif/tiff_walk.py MAX_FILLER_BYTES",
        lambda: tagged(
            *[_blob(0xE000 + n, bytes(300_000)) for n in range(4)], text(0xE100, "47.80453, 13.04229")
        ),
    ),
    "in a CR2": Plant(
        "image/x-canon-cr2",
        "raw/tiff.py MANY_STRIPS",
        lambda: striped(*[STRIP] * 300, PHOTO, head=b"CR\2\0" + bytes(4)),
    ),
    "in an ORF": Plant(
        "image/x-olympus-orf",
        "raw/tiff.py MANY_STRIPS",
        lambda: striped(*[STRIP] * 300, PHOTO, magic=b"IIRO"),
    ),
    "in an RW2": Plant(
        "image/x-panasonic-rw2",
        "raw/tiff.py MANY_STRIPS",
        lambda: striped(*[STRIP] * 300, PHOTO, magic=b"IIU\0"),
    ),
    "in the maker's name of a TIFF": Plant(
        TIFF, "", lambda: tagged(text(0x010F, "M" * 90 + " 47.80453, 13.0423"))
    ),
    "in a RAF of 5,000 records": Plant(
        RAF,
        "raw/raf.py MAX_RECORDS",
        lambda: tiffs.fuji(plain(), record=PLACE).replace(b"\0\0\0\2\1\0", (5000).to_bytes(4) + b"\1\0"),
        refused=True,
    ),
    "in a RAF's preview": Plant(RAF, "", lambda: tiffs.fuji(PHOTO)),
    "in a RAF's record": Plant(RAF, "", lambda: tiffs.fuji(plain(), record=PLACE)),
    "behind a RAF": Plant(RAF, "raw/raf.py _HEADER_BYTES", lambda: tiffs.fuji(plain()) + bytes(300) + PLACE),
    "behind a tag for many strips": Plant(
        TIFF, "exif/ifd_walk.py MAX_NUMBERS", lambda: striped(*[b"\1"] * 5000, PHOTO)
    ),
}


def _blob(tag: int, data: bytes) -> jpegs.Entry:
    return (tag, 7, len(data), data)


def _webp() -> bytes:
    body = (
        b"WEBPVP8L\x08\0\0\0\x2f\0\0\0\0\x88\x88\x08EXIF" + len(exif("MM")).to_bytes(4, "little") + exif("MM")
    )
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def behind_trailers(count: int) -> bytes:
    out = tagged()
    for _ in range(count):
        out += trailers.mie(len(out))
    return out


_PICTURE: Final = Thing(1, b"hvc1", heifs.picture(400), properties=(1, 2))


def heic(*things: Thing, **layout: object) -> bytes:
    return heifs.heif([_PICTURE, *things], Layout(**layout))  # type: ignore[arg-type]


def item(data: bytes, **more: object) -> Thing:
    return Thing(2, b"Exif", data, **more)  # type: ignore[arg-type]


def in_items(depth: int) -> bytes:
    """EXIF through items that are pieces of other items."""
    data = bytes(4) + exif("MM")
    chain = [Thing(10 + n, b"data", of=(9 + n, 0, len(data))) for n in range(1, depth)]
    return heic(Thing(10, b"data", data), *chain, Thing(2, b"Exif", of=(9 + depth, 0, len(data))))


_ZIPPED: Final = jpegs.xmp_packet(
    "<photoshop:City>47.80453</photoshop:City>" + "<dc:rights>a</dc:rights>" * 9
)
HEIFS: Final[Plants] = {
    "through three items": Plant(HEIC, "heif/meta.py MAX_ITEM_NESTING", lambda: in_items(3)),
    "through six items": Plant(HEIC, "heif/meta.py MAX_ITEM_NESTING", lambda: in_items(6)),
    "in EXIF of 5 MiB": Plant(
        HEIC, "exif/containers.py MAX_BLOCK_BYTES", lambda: heic(item(bytes(4) + exif("MM") + bytes(5 << 20)))
    ),
    "in EXIF behind 250 bytes": Plant(
        HEIC, "exif/containers.py _SEARCH_BYTES", lambda: heic(item(b"\xff" * 250 + exif("MM")))
    ),
    "in EXIF behind 300 bytes": Plant(
        HEIC, "exif/containers.py _SEARCH_BYTES", lambda: heic(item(b"\xff" * 300 + exif("MM")))
    ),
    "in XMP that inflates to 5 MiB": Plant(
        HEIC,
        "exif/containers.py MAX_BLOCK_BYTES",
        lambda: heic(
            Thing(
                2,
                b"mime",
                zlib.compress(_ZIPPED + b" " * (5 << 20)),
                content=heifs.XMP_TYPE,
                encoding=b"deflate",
            )
        ),
    ),
    "in an item's name of 5,000 letters": Plant(
        HEIC, "", lambda: heic(item(bytes(4) + exif("MM", place=False), name=b"x " * 2500 + PLACE))
    ),
    "in a property of 1,100 bytes": Plant(
        HEIC,
        "heif/properties.py _NUMBERS_BYTES",
        lambda: heic(properties=[*heifs.PROPERTIES, box(b"rref", bytes(1090) + PLACE)]),
    ),
    "in a purpose of 170 letters": Plant(
        HEIC,
        "heif/properties.py _AUXILIARY{}",
        lambda: heic(
            properties=[*heifs.PROPERTIES, full(b"auxC", b"urn:" + b"a" * 170 + b"47.80453" + b"\0")]
        ),
    ),
    "in numbers of a purpose": Plant(
        HEIC,
        "heif/properties.py _SUBTYPE_BYTES",
        lambda: heic(
            properties=[
                *heifs.PROPERTIES,
                full(b"auxC", b"urn:mpeg:hevc:2015:auxid:1\0" + bytes(250) + PLACE),
            ]
        ),
    ),
    "in a group of 1,100 bytes": Plant(
        HEIC,
        "heif/tables.py _GROUP_MORE_BYTES",
        lambda: heic(in_meta=box(b"grpl", full(b"pano", u32(1, 1, 1), bytes(1100), PLACE))),
    ),
    "behind the description of a grid": Plant(
        HEIC, "heif/heif.py _RAW_PICTURES[]", lambda: heic(Thing(2, b"grid", bytes(12) + PLACE))
    ),
    "behind 4 KiB of an overlay": Plant(
        HEIC, "heif/heif.py _RAW_PICTURES[]", lambda: heic(Thing(2, b"iovl", bytes(4096) + PLACE))
    ),
    "behind 256 bytes of a tone map": Plant(
        HEIC, "heif/heif.py _RAW_PICTURES[]", lambda: heic(Thing(2, b"tmap", bytes(256) + PLACE))
    ),
    "in the brands of a HEIC": Plant(
        HEIC,
        "heif/heif.py ftyp_bytes",
        lambda: branded(
            heifs.heif([Thing(1, b"hvc1", heifs.picture(400), properties=(1, 2), where="idat")]), b"heic"
        ),
    ),
    "in a uuid of XMP of 5 MiB": Plant(
        HEIC,
        "isobmff/box_file.py MAX_PAYLOAD_BYTES",
        lambda: heic(after=movies.uuid(heifs.XMP_UUID, _XMP + b" " * (5 << 20))),
    ),
    "in an AVIF's unknown item": Plant(
        AVIF,
        "",
        lambda: heifs.heif(
            [
                Thing(1, b"av01", heifs.obu(1, bytes(10)) + heifs.obu(6, bytes(30)), properties=(1, 2)),
                Thing(2, b"wxyz", PLACE),
            ],
            Layout(brand=b"avif"),
        ),
    ),
    "in a HEIF's XMP": Plant(
        "image/heif",
        "",
        lambda: heifs.heif(
            [_PICTURE, Thing(2, b"mime", _XMP, content=heifs.XMP_TYPE)], Layout(brand=b"mif1")
        ),
    ),
    "in a CR3's thumbnail behind 70 bytes": Plant(
        CR3, "raw/cr3.py _HEADER_BYTES", lambda: cr3s.cr3(own=cr3s.canon(THMB=b"\1" * 70 + PHOTO))
    ),
    "in a CR3's table of 5,000 bytes": Plant(
        CR3, "raw/cr3.py _TABLE_BYTES", lambda: cr3s.cr3(own=cr3s.canon(CTBO=bytes(5000) + PLACE))
    ),
    "in the brands of a CR3": Plant(
        CR3, "raw/cr3.py ftyp_bytes", lambda: branded(cr3s.cr3(own=cr3s.canon()), b"crx ")
    ),
}


def branded(data: bytes, brand: bytes) -> bytes:
    """The file with a place among its compatible brands. (Offsets of items stay: they lead elsewhere.)"""
    size = int.from_bytes(data[:4])
    return box(b"ftyp", data[8:16], brand, PLACE + b"  ", data[16:size]) + data[size:]


def _deep(depth: int) -> bytes:
    inside = box(b"lbl ", PLACE)
    for _ in range(depth):
        inside = box(b"res ", inside)
    return jp2s.jp2(box(b"jp2h", inside))


CODED: Final = bytes(range(128, 250)) * 50
PLAIN_JXL: Final = b"\xff\x0a" + CODED
JP2S: Final[Plants] = {
    "in boxes five deep": Plant(JP2, "jpeg2000/jp2.py MAX_DEPTH", lambda: _deep(4)),
    "in boxes nine deep": Plant(JP2, "jpeg2000/jp2.py MAX_DEPTH", lambda: _deep(9)),
    "in XML of 5 MiB": Plant(
        JP2, "isobmff/box_file.py MAX_PAYLOAD_BYTES", lambda: jp2s.jp2(box(b"xml ", _XMP + b" " * (5 << 20)))
    ),
    "in a comment of 60 KB": Plant(
        CODES, "", lambda: jp2s.codestream(header=jp2s.comment(b"x " * 30_000 + PLACE))
    ),
    "in a comment of the 500th tile": Plant(
        CODES,
        "",
        lambda: jp2s.codestream(*[jp2s.tile(b"ab")] * 499, jp2s.tile(b"ab", header=jp2s.comment(PLACE))),
    ),
    "behind a tile of a chunk": Plant(
        CODES,
        "jpeg2000/codestream.py _CHUNK_BYTES",
        lambda: jp2s.codestream(jp2s.tile(b"\1" * ((1 << 18) - 1), to_end=True)) + PLACE,
    ),
    "in an unknown segment": Plant(CODES, "", lambda: jp2s.codestream(header=jp2s.marker(0x75 + 6, PLACE))),
    "in the brands of a JP2": Plant(
        JP2,
        "jpeg2000/jp2.py ftyp_bytes",
        lambda: jp2s.jp2().replace(
            box(b"ftyp", b"jp2 \0\0\0\0jp2 "), box(b"ftyp", b"jp2 \0\0\0\0jp2 " + PLACE + b"  ")
        ),
    ),
    "in colours of a JP2": Plant(
        JP2,
        "jpeg2000/jp2.py _is_colour<64>",
        lambda: jp2s.jp2(box(b"jp2h", box(b"colr", b"\1\0\0\0\0\0\x10" + bytes(70) + PLACE))),
    ),
    "in a JPH": Plant(
        "image/jph",
        "",
        lambda: jp2s.jp2(box(b"xml ", _XMP)).replace(b"jp2 \0\0\0\0jp2 ", b"jph \0\0\0\0jph "),
    ),
    "in a JPX": Plant(
        "image/jpx",
        "",
        lambda: jp2s.jp2(box(b"asoc", box(b"lbl ", PLACE))).replace(b"jp2 \0\0\0\0jp2 ", b"jpx \0\0\0\0jpx "),
    ),
    "in EXIF of a JXL of 5 MiB": Plant(
        JXL,
        "isobmff/box_file.py MAX_PAYLOAD_BYTES",
        lambda: jp2s.jxl(box(b"Exif", bytes(4) + exif("MM") + bytes(5 << 20))),
    ),
    "in the brands of a JXL": Plant(
        JXL,
        "images/jxl.py ftyp_bytes",
        lambda: jp2s.jxl().replace(
            box(b"ftyp", b"jxl \0\0\0\0jxl "), box(b"ftyp", b"jxl \0\0\0\0jxl " + PLACE + b"  ")
        ),
    ),
    "in an index of 1 MiB": Plant(
        JXL, "images/jxl.py _KEPT[]", lambda: jp2s.jxl(box(b"jxli", bytes(1 << 20) + PLACE))
    ),
    "in a level of many bytes": Plant(
        JXL, "images/jxl.py _KEPT[]", lambda: jp2s.jxl(box(b"jxll", b"\5" + PLACE))
    ),
} | {
    f"behind a codestream: {name}": Plant(JXL, bound, lambda data=data: PLAIN_JXL + data + CODED[:70])
    for name, bound, data in (
        ("text", "core/appended.py _TEXT_BYTES", PLACE),
        (
            "a film of brand iso5",
            "core/appended.py _START{}",
            movies.movie(moov=box(b"udta", SPOT), head=movies.ftyp(b"iso5")),
        ),
        ("a TIFF", "core/appended.py _START{}", exif("II")),
        ("a photo", "core/appended.py _START{}", PHOTO),
        ("XMP", "core/appended.py _WORD_BYTES", _XMP),
        ("behind a chunk", "core/appended.py OVERLAP_BYTES", CODED * 172 + bytes(range(128, 160)) + PLACE),
    )
}


def movie(*parts: bytes, **more: object) -> bytes:
    return movies.movie(moov=b"".join(parts), **more)  # type: ignore[arg-type]


def _udta(*parts: bytes) -> bytes:
    return box(b"udta", *parts)


def in_udta(depth: int) -> bytes:
    inside = SPOT
    for _ in range(depth):
        inside = _udta(inside)
    return movie(inside)


def with_samples(count: int, between: bytes) -> bytes:
    samples = [movies.SAMPLE[:8]] * count
    return movies.movie(movies.Track(samples=samples), between=between)


_SPHERICAL_UUID: Final = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
_SPHERICAL: Final = (
    b'<?xml version="1.0"?><rdf:SphericalVideo xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    b'xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">'
    b"<GSpherical:ProjectionType>%b</GSpherical:ProjectionType></rdf:SphericalVideo>"
)
_NAMED: Final = movies.text_atom(b"\xa9nam", b"a title")
MOVIES: Final[Plants] = {
    "behind 150,001 boxes": Plant(
        MP4,
        "isobmff/mp4.py MAX_BOXES",
        lambda: movies.movie(after=box(b"free") * 150_001 + _udta(SPOT)),
        refused=True,
    ),
    "in udta nine deep": Plant(MP4, "", lambda: in_udta(9)),
    "behind 10,000 atoms": Plant(
        MP4, "core/cleaners.py MAX_PARTS", lambda: movie(_udta(*[_NAMED] * 10_000, SPOT))
    ),
    "behind texts of 600 KB": Plant(
        MP4,
        "isobmff/box_edits.py MAX_TEXT_BYTES",
        lambda: movie(
            _udta(
                *[movies.text_atom(b"\xa9nam", b"some words " * 5000)] * 11,
                movies.text_atom(b"\xa9nam", PLACE),
            )
        ),
    ),
    "in a uuid of XMP of 5 MiB in a film": Plant(
        MP4,
        "isobmff/udta.py _MAX_PACKET_BYTES",
        lambda: movie(movies.uuid(movies.XMP_UUID, _XMP + b" " * (5 << 20))),
    ),
    "in numbers of 1,100 bytes": Plant(
        MP4, "isobmff/udta.py _MAX_NUMBERS", lambda: movie(_udta(box(b"SETT", bytes(1100) + PLACE)))
    ),
    "in numbers of 900 bytes": Plant(
        MP4, "isobmff/udta.py _MAX_NUMBERS", lambda: movie(_udta(box(b"SETT", bytes(900) + PLACE)))
    ),
    "in a value of 1,100 bytes": Plant(
        MP4,
        "isobmff/udta.py _MAX_NUMBERS",
        lambda: movie(_udta(movies.itunes(box(b"tmpo", movies.data(bytes(1100) + PLACE, 21))))),
    ),
    "in a handler's name of 300 letters": Plant(
        MP4,
        "isobmff/udta.py clean_handler<256>",
        lambda: movies.movie(movies.Track(name=b"x " * 150 + PLACE + b"\0")),
    ),
    "in a spherical video": Plant(
        MP4,
        "isobmff/udta.py _SPHERICAL{}",
        lambda: movies.movie(
            movies.Track(extra=movies.uuid(_SPHERICAL_UUID, _SPHERICAL % b"47.80453 13.04229"))
        ),
    ),
    "in a long value of a spherical video": Plant(
        MP4,
        "isobmff/udta.py _SPHERICAL{}",
        lambda: movies.movie(
            movies.Track(extra=movies.uuid(_SPHERICAL_UUID, _SPHERICAL % (b"a " * 20 + b"47.80453")))
        ),
    ),
    "in Sony's profile of 1,100 bytes": Plant(
        MP4,
        "isobmff/udta.py _PROFILE_BYTES",
        lambda: movie(
            movies.uuid(
                b"PROF" + bytes.fromhex("21d24fcebb88695cfac9c740"),
                u32(0, 1),
                box(b"VPRF", bytes(1100) + PLACE),
            )
        ),
    ),
    "in the brands of a film": Plant(
        MP4,
        "isobmff/boxes.py _MAJOR_BYTES",
        lambda: movies.movie(head=box(b"ftyp", b"isom", bytes(4), b"isom", PLACE + b"  ")),
    ),
    "behind 264 bytes of brands": Plant(
        MP4,
        "isobmff/mp4.py _MAX_BRANDS_BYTES",
        lambda: movies.movie(head=box(b"ftyp", b"isom", bytes(4), b"isom" * 100, PLACE + b"  ")),
    ),
    "in the 260th track": Plant(
        MP4,
        "isobmff/moov.py _MAX_TRACKS",
        lambda: movies.movie(
            *[movies.Track(number=n) for n in range(1, 260)], movies.Track(number=260, extra=_udta(SPOT))
        ),
    ),
    "in a protection": Plant(MP4, "", lambda: movie(full(b"pssh", bytes(16), u32(len(PLACE)), PLACE))),
    "in a descriptor of 80 bytes": Plant(
        MP4, "isobmff/moov.py _object_descriptor<64>", lambda: movie(box(b"iods", bytes(64) + PLACE))
    ),
    "in references of 1,100 bytes": Plant(
        MP4,
        "isobmff/moov.py _MAX_TRACKS",
        lambda: movies.movie(movies.Track(extra=box(b"tref", box(b"cdsc", bytes(1082) + PLACE)))),
    ),
    "in 257 gaps": Plant(MP4, "isobmff/mp4.py MAX_FILLER_HOLES", lambda: with_samples(260, PLACE)),
    "in 9 gaps": Plant(MP4, "isobmff/mp4.py MAX_FILLER_HOLES", lambda: with_samples(9, PLACE)),
    "in a muxer's line of 300 bytes": Plant(
        MP4,
        "isobmff/mp4.py MAX_LINE_BYTES, core/filler.py _MAX_PRODUCED_BYTES",
        lambda: movies.movie(before=box(b"free", b"IsoMedia File Produced with " + b"x " * 140 + PLACE)),
    ),
    "in a muxer's line": Plant(
        MP4,
        "core/filler.py _MAX_PRODUCED_BYTES",
        lambda: movies.movie(before=box(b"free", b"IsoMedia File Produced with " + PLACE)),
    ),
    "in a meta of 5 MiB": Plant(
        MP4,
        "isobmff/mp4.py MAX_META_BYTES",
        lambda: movies.movie(after=_udta(bytes(0), SPOT, box(b"free", bytes(5 << 20)))),
    ),
    "behind the entries of a table": Plant(
        MP4, "", lambda: movies.movie(movies.Track(table=full(b"ctts", u32(1, 2, 3), PLACE)))
    ),
    "in an entry of metadata of 300 bytes": Plant(
        MP4,
        "isobmff/stsd.py _MAX_STRINGS",
        lambda: movies.movie(
            movies.Track(), movies.Track(b"meta", b"mett", (b"ab",), entry=b"x " * 130 + PLACE, number=2)
        ),
    ),
    "in an entry of text of 5,000 bytes": Plant(
        MP4,
        "isobmff/stsd.py _MAX_TEXT_ENTRY",
        lambda: movies.movie(
            movies.Track(),
            movies.Track(b"sbtl", b"tx3g", (u16(1) + b"a",), entry=bytes(5000) + PLACE, number=2),
        ),
    ),
    "in settings of a codec of 5,000 letters": Plant(
        MP4,
        "isobmff/stsd.py _MAX_TEXT_ENTRY",
        lambda: movies.movie(movies.Track(entry=box(b"jp2h", b"words of 9 " * 500 + PLACE))),
    ),
    "in the last of 300 fragments": Plant(
        MOV,
        "",
        lambda: movies.fragmented(0x20000, more=_udta(*[_NAMED] * 300, SPOT)).replace(b"isom", b"qt  "),
    ),
    "in telemetry seven deep": Plant(MP4, "isobmff/gpmf.py _MAX_DEPTH", lambda: in_gpmf(7, 0)),
    "in telemetry behind 2,100 values": Plant(MP4, "isobmff/gpmf.py _MAX_ENTRIES", lambda: in_gpmf(1, 2100)),
    "in a text of telemetry of 300 bytes": Plant(
        MP4, "isobmff/gpmf.py _MAX_TEXT_BYTES", lambda: in_gpmf(1, 0, 280)
    ),
    "in telemetry of 300 seconds": Plant(
        MP4,
        "isobmff/gpmf.py _MAX_KNOWN",
        lambda: movies.movie(
            movies.Track(),
            movies.Track(
                b"meta",
                b"gpmd",
                (gpmf.sample(),) * 299 + (gpmf.sample(gpmf.stream(gpmf.klv(b"WHAT", b"c", PLACE))),),
                number=2,
            ),
        ),
    ),
    "in telemetry of 20,001 samples": Plant(
        MP4,
        "isobmff/gpmf.py MAX_SAMPLES",
        lambda: movies.movie(
            movies.Track(),
            movies.Track(
                b"meta",
                b"gpmd",
                (gpmf.klv(b"DEVC", b"\0", b""),) * 20_000 + (gpmf.sample(),),
                number=2,
                per_chunk=20_001,
            ),
        ),
        gpmf.POSITION[:8],
    ),
    "in a sample of telemetry of 5 MiB": Plant(
        MP4,
        "isobmff/gpmf.py MAX_SAMPLE_BYTES",
        lambda: movies.movie(
            movies.Track(), movies.Track(b"meta", b"gpmd", (gpmf.sample() + bytes(5 << 20),), number=2)
        ),
        gpmf.POSITION[:8],
    ),
    "in a 3GP": Plant(
        GP,
        "",
        lambda: movies.movie(moov=_udta(movies.loci(PLACE)), head=box(b"ftyp", b"3gp4", bytes(4), b"3gp4")),
    ),
    "in a 3G2": Plant(
        GP2,
        "",
        lambda: movies.movie(moov=_udta(movies.loci(PLACE)), head=box(b"ftyp", b"3g2a", bytes(4), b"3g2a")),
    ),
    "in an M4V": Plant(
        M4V, "", lambda: movies.movie(moov=_udta(SPOT), head=box(b"ftyp", b"M4V ", bytes(4), b"M4V "))
    ),
    "in an M4A": Plant(
        M4A,
        "",
        lambda: movies.movie(
            movies.Track(b"soun", b"test"),
            moov=_udta(movies.itunes(movies.free_form(b"where", PLACE))),
            head=box(b"ftyp", b"M4A ", bytes(4), b"M4A "),
        ),
    ),
    "in a cover of an M4A": Plant(
        M4A,
        "",
        lambda: movies.movie(
            movies.Track(b"soun", b"test"),
            moov=_udta(movies.itunes(box(b"covr", movies.data(PHOTO, 13)))),
            head=box(b"ftyp", b"M4A ", bytes(4), b"M4A "),
        ),
    ),
    "behind the last box": Plant(
        MOV, "", lambda: movies.movie(head=box(b"ftyp", b"qt  ", bytes(4), b"qt  ")) + bytes(9) + PLACE
    ),
}

NUMBERS: Final[Plants] = {
    "in an overlay": Plant(
        HEIC,
        "heif/heif.py _RAW_PICTURES[]",
        lambda: heic(Thing(2, b"iovl", bytes(20) + PLACE)),
        refused=True,
    ),
    "in a tone map": Plant(
        HEIC,
        "heif/heif.py _RAW_PICTURES[]",
        lambda: heic(Thing(2, b"tmap", bytes(20) + PLACE)),
        refused=True,
    ),
    "in a property of numbers": Plant(
        HEIC,
        "heif/properties.py _NUMBERS_BYTES",
        lambda: heic(properties=[*heifs.PROPERTIES, box(b"rref", bytes(90) + PLACE)]),
    ),
    "among odd bytes of a property": Plant(
        HEIC,
        "core/kept_values.py _ODD_PARTS",
        lambda: heic(properties=[*heifs.PROPERTIES, box(b"rref", b"\x81" * 40 + PLACE)]),
    ),
    "in a table of a property": Plant(
        HEIC,
        "heif/properties.py MAX_TABLE_BYTES",
        lambda: heic(properties=[*heifs.PROPERTIES, box(b"icef", bytes(5000) + PLACE)]),
    ),
    "in numbers of a group": Plant(
        HEIC,
        "heif/tables.py _GROUP_MORE_BYTES",
        lambda: heic(in_meta=box(b"grpl", full(b"pano", u32(1, 1, 1), PLACE))),
    ),
    "in colours of few bytes": Plant(
        JP2,
        "jpeg2000/jp2.py _is_colour<64>",
        lambda: jp2s.jp2(box(b"jp2h", box(b"colr", b"\1\0\0\0\0\0\x10" + PLACE))),
    ),
    "in an index": Plant(JXL, "images/jxl.py _KEPT[]", lambda: jp2s.jxl(box(b"jxli", bytes(90) + PLACE))),
    "in a CR3's table": Plant(
        CR3, "raw/cr3.py _TABLE_BYTES", lambda: cr3s.cr3(own=cr3s.canon(CTBO=PLACE + bytes(8)))
    ),
    "before the picture of a CR3's track": Plant(CR3, "", lambda: cr3s.cr3(lead=PLACE + bytes(2))),
    "behind 2 KB before the picture of a CR3's track": Plant(CR3, "", lambda: cr3s.cr3(lead=bytes(2000))),
    "before a CR3's thumbnail": Plant(
        CR3, "raw/cr3.py _HEADER_BYTES", lambda: cr3s.cr3(own=cr3s.canon(THMB=PLACE + bytes(2) + plain()))
    ),
    "in a table of samples": Plant(
        MP4, "", lambda: movies.movie(movies.Track(table=full(b"ctts", u32(3), PLACE.ljust(24))))
    ),
    "in vectors of samples": Plant(
        MP4, "", lambda: movies.movie(movies.Track(table=full(b"senc", u32(2), PLACE.ljust(32))))
    ),
}
"""Places in numbers that should tell nothing: a search of the values of kept parts finds them."""
SOAK: Final[Plants] = {
    "in free space of 70 MiB": Plant(
        MP4,
        "isobmff/mp4.py MAX_CHECKED_BYTES",
        lambda: movies.movie(before=box(b"free", bytes(70 << 20), PLACE)),
    ),
    "behind 70 MiB of zeros behind a TIFF": Plant(
        TIFF,
        "raw/tiff.py MAX_ZEROED_BYTES, raw/tiff.py MAX_LOST_BYTES",
        lambda: tagged(behind=bytes(70 << 20) + PLACE),
        refused=True,
    ),
    "in telemetry of 66 MiB": Plant(
        MP4,
        "isobmff/gpmf.py MAX_BYTES",
        lambda: movies.movie(
            movies.Track(), movies.Track(b"meta", b"gpmd", (gpmf.sample() + bytes(3 << 20),) * 22, number=2)
        ),
        gpmf.POSITION[:8],
    ),
    "in free space of 40 MiB": Plant(
        HEIC, "isobmff/item_data.py BLIND_BYTES", lambda: heic(after=box(b"free", bytes(40 << 20), PLACE))
    ),
    "in an index of 25 MiB": Plant(
        MP4,
        "isobmff/moov.py MAX_MOVIE_BYTES",
        lambda: movie(_udta(SPOT), box(b"free", bytes(25 << 20))),
        refused=True,
    ),
    "in a cover of 17 MiB": Plant(
        MP4,
        "isobmff/udta.py _MAX_PICTURE_BYTES",
        lambda: movie(_udta(movies.itunes(box(b"covr", movies.data(PHOTO + bytes(17 << 20), 13))))),
    ),
    "in 100,001 gaps": Plant(
        MP4, "isobmff/mp4.py MAX_HOLES", lambda: with_samples(100_002, b"47.80453"), refused=True
    ),
}
PLANTS: Final[Plants] = TIFFS | HEIFS | JP2S | MOVIES | NUMBERS


def in_gpmf(depth: int, values: int, size: int = 0) -> bytes:
    """GoPro's telemetry with a text, so deep, behind so many values, behind so many letters."""
    inside = gpmf.klv(b"CTRX", b"B", b"\1\1\1\1") * values + gpmf.klv(
        b"STNM", b"c", b"x " * (size // 2) + PLACE
    )
    for _ in range(depth):
        inside = gpmf.klv(b"STRM", b"\0", inside) if len(inside) < 0xFFFF else inside
    sample = gpmf.klv(b"DEVC", b"\0", inside)
    return movies.movie(movies.Track(), movies.Track(b"meta", b"gpmd", (sample,), number=2))
