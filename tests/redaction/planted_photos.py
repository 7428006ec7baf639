"""Places behind the bounds of JPEG, EXIF, XMP, texts, PNG, GIF, WebP and BMP."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from typing import Final

from tests.redaction.planted import PLACE, Plant, Plants
from tests.support.samples import jpegs, motion, pngs
from tests.support.samples.hidden import mp4_trailer
from tests.support.samples.jpegs import COM, EOI, exif, exif_segment, ifd, long, plain, segment, text, tiff

JPEG, PNG, GIF, WEBP, BMP = "image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp"
LONGEST: Final = 0xFFFF - 2
_CHUNK: Final = 1 << 18


def photo(*segments: bytes) -> bytes:
    return jpegs.with_segments(plain(), *segments)


def commented(words: bytes) -> bytes:
    return photo(segment(COM, words))


def tagged(block: bytes) -> bytes:
    """A JPEG with an EXIF structure of any length, cut into segments as ExifTool cuts it."""
    parts = [block[at : at + 65_000] for at in range(0, len(block), 65_000)]
    return photo(*map(exif_segment, parts))


def nested(depth: int) -> bytes:
    """A photo with a thumbnail in a thumbnail, and a comment in the deepest."""
    image = commented(PLACE)
    for _ in range(depth):
        first = ifd("II", 8, [text(0x010F, "Testmaker")], following=0x100)
        pair = [(0x0103, 3, 1, jpegs.pack("II", 6, size=2)), long("II", 0x0201, 0x200)]
        second = ifd("II", 0x100, [*pair, long("II", 0x0202, len(image))])
        image = photo(exif_segment(tiff("II", (8, first), (0x100, second), (0x200, image))))
    return image


def chained(count: int) -> bytes:
    """EXIF of so many directories, one behind the other; the last has the GPS directory."""
    blocks, at = [], 8
    for number in range(count):
        last = number == count - 1
        entries = [long("II", 0x8825, at + 64)] if last else [text(0x010F, "Testmaker")]
        blocks.append((at, ifd("II", at, entries, following=0 if last else at + 64)))
        at += 64
    return tiff("II", *blocks, (at, ifd("II", at, jpegs.gps("II"))))


def crowded(count: int) -> bytes:
    """EXIF of so many tags, and a description behind them."""
    entries = [(0x9000 + n, 3, 1, b"\0\0") for n in range(count)]
    return tiff("II", (8, ifd("II", 8, [*entries, text(0xFFF0, "47.80453, 13.04229")])))


def noted(short: int) -> bytes:
    """EXIF with a note of many tags; short: bytes by which its stated size is too small."""
    note = ifd(
        "II", 0, [*((0x4000 + n, 3, 1, b"\0\0") for n in range(450)), text(0xEFFF, "47.80453, 13.04229")]
    )
    entries = [text(0x010F, "Canon"), (0x927C, 7, len(note) - short, note)]
    return tiff("II", (8, ifd("II", 8, entries)))


def xmp(inside: str, **more: str) -> bytes:
    return photo(jpegs.xmp_segment(jpegs.xmp_packet(inside, **more)))


def in_lines(words: str) -> bytes:
    """The same, encoded again and again."""
    return base64.b64encode(base64.b64encode(base64.b64encode(words.encode())))


_DEEP: Final = "<dc:a>" * 70 + "47.80453, 13.04229" + "</dc:a>" * 70
_MANY: Final = "<dc:rights>a</dc:rights>" * 26_000 + "<dc:rights>47.80453, 13.04229</dc:rights>"
_LONG: Final = "<dc:rights>" + "word " * 210_000 + "47.80453, 13.04229</dc:rights>"
_NAMES: Final = " ".join(f'xmlns:n{n}="http://ns.adobe.com/n{n}/"' for n in range(260))
_CRS: Final = 'xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"'

JPEGS: Final[Plants] = {
    "the longest comment": Plant(JPEG, "", lambda: commented(b"x " * ((LONGEST - len(PLACE)) // 2) + PLACE)),
    "behind 5,000 fill bytes": Plant(
        JPEG, "jpeg/markers.py MAX_FILL_BYTES", lambda: photo(b"\xff" * 5000 + segment(COM, PLACE))
    ),
    "behind 4,095 fill bytes": Plant(
        JPEG, "jpeg/markers.py MAX_FILL_BYTES", lambda: photo(b"\xff" * 4095 + segment(COM, PLACE))
    ),
    "behind texts of 500 KB": Plant(
        JPEG,
        "core/cleaners.py MAX_TEXTS_BYTES",
        lambda: photo(*[segment(COM, b"some words " * 5500)] * 7, segment(COM, PLACE)),
    ),
    "in the 70th picture": Plant(JPEG, "jpeg/jpeg.py MAX_IMAGES", lambda: plain() * 69 + commented(PLACE)),
    "in the sixth film": Plant(
        JPEG, "jpeg/jpeg.py MAX_VIDEOS", lambda: plain() + motion.VIDEO * 5 + mp4_trailer()
    ),
    "behind a scan of a chunk": Plant(
        JPEG,
        "jpeg/markers.py CHUNK_BYTES",
        lambda: plain()[:-2] + b"U" * (_CHUNK - len(plain()) - 20) + segment(COM, PLACE) + EOI,
    ),
    "behind a scan of two chunks": Plant(
        JPEG,
        "jpeg/markers.py CHUNK_BYTES",
        lambda: plain()[:-2] + b"U" * (3 * _CHUNK) + EOI + commented(PLACE),
    ),
    "between 200 scans": Plant(
        JPEG, "", lambda: plain()[:-2] + segment(COM, b"a") * 200 + segment(COM, PLACE) + EOI
    ),
    "in a thumbnail's thumbnail": Plant(JPEG, "core/cleaners.py MAX_NESTING", lambda: nested(2)),
    "in a thumbnail three deep": Plant(JPEG, "core/cleaners.py MAX_NESTING", lambda: nested(3)),
    "in a thumbnail four deep": Plant(JPEG, "core/cleaners.py MAX_NESTING", lambda: nested(4)),
    "in a thumbnail five deep": Plant(JPEG, "core/cleaners.py MAX_NESTING", lambda: nested(5)),
    "in the 32nd directory": Plant(JPEG, "exif/exif.py MAX_DIRECTORIES", lambda: tagged(chained(32))),
    "in the 40th directory": Plant(JPEG, "exif/exif.py MAX_DIRECTORIES", lambda: tagged(chained(40))),
    "behind 999 tags": Plant(JPEG, "exif/exif.py MAX_ENTRIES", lambda: tagged(crowded(999))),
    "behind 1,100 tags": Plant(JPEG, "exif/exif.py MAX_ENTRIES", lambda: tagged(crowded(1100))),
    "in a description of 300 KB": Plant(
        JPEG,
        "core/free_text.py MAX_TEXT_BYTES, core/cleaners.py MAX_TEXTS_BYTES",
        lambda: tagged(long_description(150_000)),
    ),
    "in a description of 60 KB": Plant(
        JPEG,
        "",
        lambda: tagged(long_description(30_000)),
    ),
    "in the maker's name": Plant(
        JPEG,
        "",
        lambda: tagged(tiff("II", (8, ifd("II", 8, [text(0x010F, "M" * 90 + " 47.80453, 13.0423")])))),
    ),
    "in a maker's note of 450 tags": Plant(
        JPEG, "exif/makernotes.py MAX_NOTE_ENTRIES", lambda: tagged(noted(0))
    ),
    "in a maker's note that is cut short": Plant(
        JPEG, "exif/makernotes.py OVERRUN_BYTES", lambda: tagged(noted(300))
    ),
    "in XMP 70 deep": Plant(JPEG, "xmp/packet.py MAX_DEPTH", lambda: xmp(_DEEP)),
    "behind 26,000 properties": Plant(
        "application/rdf+xml",
        "xmp/packet.py MAX_TOKENS, core/cleaners.py MAX_PARTS",
        lambda: jpegs.xmp_packet(_MANY),
        refused=True,
    ),
    "behind a million characters": Plant(
        "application/rdf+xml", "xmp/packet.py MAX_LOOKED_AT", lambda: jpegs.xmp_packet(_LONG)
    ),
    "behind 260 namespaces": Plant(
        JPEG,
        "xmp/packet.py MAX_NAMESPACES",
        lambda: xmp("<n259:a>47.80453, 13.04229</n259:a>", attributes=_NAMES),
    ),
    "as numbers of a lens": Plant(
        JPEG,
        "xmp/properties.py _PLAIN_NUMBERS{}",
        lambda: xmp("<crs:UprightTransform_1>47.80453,13.04229</crs:UprightTransform_1>", attributes=_CRS),
    ),
    "as a pair in a list of numbers": Plant(
        JPEG,
        "xmp/properties.py _PLAIN_NUMBERS{}",
        lambda: xmp(
            "<crs:PointColors><rdf:Seq><rdf:li>47.80453, 13.04229</rdf:li></rdf:Seq></crs:PointColors>",
            attributes=_CRS,
        ),
    ),
    "in a digest of 3,000 characters": Plant(
        JPEG,
        "xmp/packet.py _MAX_DIGEST",
        lambda: xmp("<exif:NativeDigest>" + "1," * 1500 + "47.80453, 13.04229</exif:NativeDigest>"),
    ),
    "in the 6,000th block of Samsung's": Plant(
        JPEG,
        "jpeg/samsung_trailer.py _MAX_DIRECTORY_BYTES",
        lambda: plain() + motion.blocks([(0x0A01, b"x", b"y")] * 6000 + [(0x0AA1, b"MCC_Data", PLACE)]),
    ),
    "in a depth map of 70 KB": Plant(
        JPEG,
        "jpeg/samsung_trailer.py _MAX_TEXT_BYTES",
        lambda: plain() + motion.blocks([(0x0AB0, b"DualShot_DepthMap_1", b" " * 70_000 + PLACE)]),
    ),
    "in a depth map with one more byte": Plant(
        JPEG,
        "jpeg/samsung_trailer.py _START_BYTES",
        lambda: plain() + motion.blocks([(0x0AB0, b"DualShot_DepthMap_1", bytes(99) + PLACE + b"\x80")]),
    ),
    "in a photo in a depth map": Plant(
        JPEG,
        "jpeg/samsung_trailer.py _START_BYTES",
        lambda: plain() + motion.blocks([(0x0AB0, b"DualShot_DepthMap_1", bytes(99) + commented(PLACE))]),
    ),
    "in a text of Samsung's of 70 KB": Plant(
        JPEG,
        "jpeg/samsung_trailer.py _MAX_TEXT_BYTES",
        lambda: plain() + motion.blocks([(0x0AE1, b"Panorama_Shot_Info", b"x " * 35_000 + PLACE)]),
    ),
    "in a name of Samsung's of 80 bytes": Plant(
        JPEG,
        "jpeg/samsung_trailer.py _clean_block<64>",
        lambda: plain() + motion.blocks([(0x0AE1, b"x" * 64 + PLACE, b"y")]),
    ),
    "behind JFIF's fields": Plant(
        JPEG, "jpeg/segments.py _JFIF_BYTES", lambda: photo(segment(0xE0, b"JFIF\0" + bytes(9) + PLACE))
    ),
    "behind Adobe's fields": Plant(
        JPEG, "jpeg/segments.py _ADOBE_BYTES", lambda: photo(segment(0xEE, b"Adobe" + bytes(7) + PLACE))
    ),
    "behind Adobe's colours": Plant(
        JPEG, "jpeg/segments.py _COLOUR_BYTES", lambda: photo(segment(0xED, b"Adobe_CM" + bytes(3) + PLACE))
    ),
    "behind AVI1": Plant(JPEG, "", lambda: photo(segment(0xE0, b"AVI1" + bytes(10) + PLACE))),
    "in IPTC behind 4,000 records": Plant(
        JPEG,
        "core/cleaners.py MAX_TEXTS_BYTES",
        lambda: photo(
            jpegs.photoshop_segment(
                jpegs.resource(0x0404, jpegs.record(2, 25, b"word") * 4000 + jpegs.record(2, 120, PLACE))
            )
        ),
    ),
    "in a resource in many segments": Plant(
        JPEG,
        "",
        lambda: photo(
            *[
                jpegs.photoshop_segment(part)
                for part in pieces(
                    jpegs.resource(0x0404, jpegs.record(2, 25, b"w" * 900) * 130 + jpegs.iptc_place()), 60_000
                )
            ]
        ),
    ),
}


def long_description(words: int) -> bytes:
    return tiff("II", (8, ifd("II", 8, [text(0x010E, "x " * words + "47.80453, 13.04229")])))


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    yield from (data[at : at + size] for at in range(0, len(data), size))


_COORDINATES: Final = "core/coordinates.py "
WORDS: Final[dict[str, tuple[str, bytes]]] = {
    "a pair in far columns": ("_BETWEEN{}", b"47.80453" + b" " * 60 + b"13.04229"),
    "a pair behind tabs": ("_BETWEEN{}", b"47.80453" + b"\t" * 18 + b"13.04229"),
    "a pair with dots": ("_BETWEEN{}", b"47.80453 ........................... 13.04229"),
    "as exiftool prints it": ("_GAP{}", b"GPS Latitude                    : 47.80453"),
    "aligned with dots": ("_GAP{}", b"Latitude ............................ 47.80453"),
    "aligned with blanks": ("_GAP{}", b"lat=                   47.80453"),
    "longitude alone": ("_GAP{}", b"lon ------------------------ 47.80453"),
    "below its name": ("_VALUE_BELOW{}", b"Latitude              \n                    47.80453"),
    "WGS 84 with a gap": ("_MORE{}", b"WGS84               47.80453 13.04229"),
    "degrees in words with a gap": ("_MORE{}", b"47.80453 degrees,             north"),
    "minutes without signs with a gap": ("_WITHOUT_SIGNS{}", b"N47 48.272             E013 02.537 47.80453"),
    "in Korean with a gap": ("_MORE{}", "위도              : 47.80453".encode()),
    "in Russian with a gap": ("_MORE{}", "широта             : 47.80453".encode()),
    "on two lines": ("_NUMBER_LINE{}", b"47.80453\n13.04229"),
    "geohash with a gap": ("_MORE{}", b"geohash            : u23hb1c 47.80453x"),
    "in degrees and minutes": ("_DEGREES{}", b"47.80453 \xc2\xb0 48' 16\""),
    "ISO 6709": ("_PATTERNS{}", b"+47.80453+013.04229/"),
    "a link": ("_QUERY{}", b"https://example.org/?ll=47.80453,13.04"),
    "an address of a map": ("_SEVERAL_MAPS{}", b"https://yandex.ru/maps 47.80453x"),
    "escaped twice": ("_MOST_DECODED", b"47.80453%252C13.04229"),
    "escaped thrice": ("_MOST_DECODED", b"47.80453%25252C13.04229"),
    "in UTF-16": ("", "taken at 47.80453, 13.04229 близко".encode("utf-16-le")),
}
"""Spellings of a place behind the bounds of patterns: for each the pattern, and the text of a comment."""
_WIDE: Final = "４７．８０４５３，１３．０４２２９"
_ARABIC: Final = "٤٧٫٨٠٤٥٣، ١٣٫٠٤٢٢٩"
TEXTS: Final[Plants] = (
    {
        f"text: {name}": Plant(
            JPEG, _COORDINATES + pattern if pattern else "", lambda words=words: commented(words)
        )
        for name, (pattern, words) in WORDS.items()
    }
    | {
        f"text: in UTF-16 with digits of another script: {name}": Plant(
            JPEG,
            "core/free_text.py _FEWEST_ZEROS, core/free_text.py _FEWEST_DIGITS",
            lambda words=words: tagged(tiff("II", (8, ifd("II", 8, [(0x9C9C, 1, len(words), words)])))),
            words,
        )
        for name, words in (
            ("wide", _WIDE.encode("utf-16-le")),
            ("wide, big-endian", _WIDE.encode("utf-16-be")),
            ("Arabic", _ARABIC.encode("utf-16-le")),
            ("with a mark", _WIDE.encode("utf-16")),
        )
    }
    | {
        "text: base64 of base64 of base64": Plant(
            JPEG,
            _COORDINATES + "_MOST_DECODED",
            lambda: commented(in_lines("47.80453, 13.04229")),
            in_lines("47.80453, 13.04229"),
        ),
        "text: digits of digits": Plant(
            JPEG,
            _COORDINATES + "_HEX{}, core/coordinates.py _MOST_DECODED",
            lambda: commented(PLACE.hex().encode().hex().encode()),
            PLACE.hex().encode().hex().encode(),
        ),
    }
)


def _gif(*parts: bytes) -> bytes:
    picture = b"\x2c" + bytes(4) + b"\1\0\1\0\0" + b"\2\2\x44\1\0"
    return b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + b"".join(parts) + picture + b"\x3b"


def _blocks(data: bytes, size: int = 255) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in pieces(data, size)) + b"\0"


def _comment(data: bytes, size: int = 255) -> bytes:
    return b"\x21\xfe" + _blocks(data, size)


GIFS: Final[Plants] = {
    "in a comment over two blocks": Plant(
        GIF, "", lambda: _gif(_comment(b"x" * 245 + b" " + PLACE)), b"47.80453"[:7]
    ),
    "in a comment of blocks of one byte": Plant(
        GIF, "", lambda: _gif(_comment(PLACE, 1)), b"\1.\0018\0010\0014"
    ),
    "in a comment of 100 KB": Plant(
        GIF, "images/gif.py _READ_BYTES", lambda: _gif(_comment(b"x " * 50_000 + b"    " + PLACE))
    ),
    "behind a read of 64 KiB": Plant(
        GIF, "images/gif.py _READ_BYTES", lambda: _gif(_comment(b"x" * 65_000), b"\x21\xfe" + _blocks(PLACE))
    ),
    "in the 5,000th comment": Plant(
        GIF, "core/cleaners.py MAX_PARTS", lambda: _gif(*[_comment(b"ab")] * 5000, _comment(PLACE))
    ),
    "in loops of another form": Plant(
        GIF, "", lambda: _gif(b"\x21\xff\x0bNETSCAPE2.0" + b"\3\1\0\0" + _blocks(PLACE))
    ),
    "behind the trailer of a GIF": Plant(
        GIF, "core/filler.py MOST_BYTES", lambda: _gif() + bytes(700) + PLACE
    ),
}


def _png(*chunks: bytes, **more: bytes) -> bytes:
    return pngs.plain(*chunks, **more)


_WINDOW: Final = 4096
PNGS: Final[Plants] = {
    f"in a text {gap} bytes before a read's end": Plant(
        PNG,
        "images/png.py _READ_BYTES",
        lambda gap=gap: _png(
            pngs.chunk(b"paDd", b"x" * (_WINDOW - 45 - gap)), pngs.text("Comment", "47.80453, 13.04229")
        ),
    )
    for gap in (0, 4, 8, 12)
} | {
    "behind 10,000 chunks": Plant(
        PNG,
        "core/cleaners.py MAX_PARTS",
        lambda: _png(*[pngs.chunk(b"gAMA", bytes(4))] * 9000, pngs.text("Comment", "47.80453, 13.04229")),
    ),
    "in a text that inflates to 5 MiB": Plant(
        PNG,
        "core/bounded_inflate.py MAX_INFLATED_BYTES",
        lambda: _png(pngs.packed_text("Comment", b"x " * (5 << 19) + PLACE)),
    ),
    "in EXIF that inflates to 5 MiB": Plant(
        PNG,
        "core/bounded_inflate.py MAX_INFLATED_BYTES",
        lambda: _png(
            pngs.packed_text(
                "Raw profile type exif", b"\nexif\n 9\n" + exif("MM").hex().encode() + b"0" * (5 << 20)
            )
        ),
    ),
    "in a text of 300 KB": Plant(
        PNG,
        "core/free_text.py MAX_TEXT_BYTES",
        lambda: _png(pngs.text("Comment", "x " * 150_000 + "47.80453, 13.04229")),
    ),
    "behind texts that inflate to 17 MiB": Plant(
        PNG,
        "core/cleaners.py MAX_INFLATED_BYTES",
        lambda: _png(*[pngs.packed_text("Comment", bytes(4 << 20))] * 5, pngs.packed_text("Comment", PLACE)),
        refused=True,
    ),
    "under a keyword of 80 letters": Plant(
        PNG, "images/png_text.py _MAX_KEYWORD_BYTES", lambda: _png(pngs.text("C" * 80, "47.80453, 13.04229"))
    ),
    "in a keyword's language of 70 letters": Plant(
        PNG,
        "images/png_text.py _parse<64>",
        lambda: _png(pngs.international("Comment", b"a", extra=b"en\0" + b"x " * 40 + PLACE)),
    ),
    "in a profile's name": Plant(
        PNG,
        "images/png.py _stays<79>",
        lambda: _png(pngs.chunk(b"sPLT", b"x" * 62 + PLACE + b"\0\x08" + bytes(6))),
    ),
    "in a profile with a long name": Plant(
        PNG,
        "images/png.py _stays<79>",
        lambda: _png(pngs.chunk(b"sPLT", b"x" * 90 + PLACE + b"\0\x08" + bytes(6))),
    ),
    "behind IEND and 300 KB of zeros": Plant(
        PNG,
        "core/patches.py MAX_ZEROS_BYTES",
        lambda: _png(behind=bytes(300_000) + pngs.chunk(b"tEXt", b"C\0" + PLACE)),
    ),
    "in a raw profile of 200 KB": Plant(
        PNG,
        "",
        lambda: _png(pngs.text("Raw profile type exif", "\nexif\n 9\n" + exif("MM").hex() + "0" * 200_000)),
        jpegs.pack("MM", *jpegs.LATITUDE[:4]).hex().encode(),
    ),
    "in a texts over 384 KiB together": Plant(
        PNG,
        "core/cleaners.py MAX_TEXTS_BYTES",
        lambda: _png(
            *[pngs.text("Comment", "some words " * 9000)] * 5, pngs.text("Comment", "47.80453, 13.04229")
        ),
    ),
    "in a chunk of numbers that is too long": Plant(
        PNG, "", lambda: _png(pngs.chunk(b"pHYs", bytes(9) + PLACE), pngs.chunk(b"cHRM", bytes(32) + PLACE))
    ),
}


def webp(*parts: bytes, picture: bytes = b"") -> bytes:
    """A WebP of one lossless picture, with chunks behind."""
    body = b"WEBP" + _chunk(b"VP8L", b"\x2f\0\0\0\0\x88\x88\x08" + picture) + b"".join(parts)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2)


def _frame(*parts: bytes) -> bytes:
    return _chunk(b"ANMF", bytes(16) + _chunk(b"VP8L", b"\x2f\0\0\0\0\x88\x88\x08") + b"".join(parts))


WEBPS: Final[Plants] = {
    "in the 150th frame": Plant(
        WEBP,
        "",
        lambda: webp(_chunk(b"ANIM", bytes(6)), *[_frame()] * 149, _frame(_chunk(b"EXIF", exif("MM")))),
    ),
    "where reads of a picture meet": Plant(
        WEBP,
        "images/webp.py _LONGEST_MATCH",
        lambda: webp(
            picture=bytes(range(128, 256)) * 8191 + bytes(range(128, 228)) + _chunk(b"EXIF", exif("MM"))
        ),
    ),
    "in XMP where reads of a picture meet": Plant(
        WEBP,
        "images/webp.py _LONGEST_MATCH, core/patches.py CHUNK_BYTES",
        lambda: webp(
            picture=b"\x80" * ((1 << 20) - 20)
            + _chunk(b"XMP ", jpegs.xmp_packet("<photoshop:City>47.80453</photoshop:City>"))
        ),
    ),
    "behind 2,000 chunks": Plant(
        WEBP, "", lambda: webp(*[_chunk(b"abcd", b"x")] * 2000, _chunk(b"XMP ", b"x" + PLACE))
    ),
    "behind the RIFF": Plant(WEBP, "", lambda: webp() + bytes(70_000) + PLACE),
    "behind an animation's numbers": Plant(WEBP, "", lambda: webp(_chunk(b"ANIM", bytes(6) + PLACE))),
}


def bmp(
    colours: bytes = b"", gap: bytes = b"", behind: bytes = b"", *, bits: int = 24, used: int = 0
) -> bytes:
    """A BMP of one row of three pixels."""
    at = 54 + len(colours) + len(gap)
    numbers = (40, 3, 1, 1 | bits << 16, 0, 0, 0, 0, used, 0)
    header = b"".join(number.to_bytes(4, "little") for number in numbers)
    head = b"BM" + (at + 12).to_bytes(4, "little") + bytes(4) + at.to_bytes(4, "little")
    return head + header + colours + gap + bytes(12) + behind


BITMAPS: Final[Plants] = {
    "between header and pixels": Plant(BMP, "", lambda: bmp(gap=bytes(9) + PLACE)),
    "behind the pixels of a BMP": Plant(
        BMP, "core/filler.py _SHORT_BYTES", lambda: bmp(behind=bytes(300) + PLACE)
    ),
    "behind 70 KB behind a BMP": Plant(
        BMP, "core/filler.py MAX_FILLER_BYTES", lambda: bmp(behind=b"A" * 70_000 + PLACE)
    ),
    "among one repeated byte": Plant(
        BMP, "core/filler.py MAX_FILLER_BYTES", lambda: bmp(behind=b"A" * 70_000 + PLACE + b"A" * 99)
    ),
    "behind 2 MiB of zeros behind a BMP": Plant(
        BMP, "core/patches.py CHUNK_BYTES", lambda: bmp(behind=bytes(1 << 20) + PLACE + bytes(9))
    ),
}

SOAK: Final[Plants] = {
    "behind 70 MiB of zeros": Plant(
        PNG, "core/patches.py MAX_ZEROS_BYTES", lambda: _png(behind=bytes(70 << 20) + PLACE)
    ),
    "in a picture of Samsung's of 33 MiB": Plant(
        JPEG,
        "jpeg/samsung_trailer.py _MAX_PICTURE_BYTES",
        lambda: plain() + motion.blocks([(0x0AB0, b"DualShot_1", commented(PLACE) + bytes(33 << 20))]),
    ),
    "in a text of 9 MiB": Plant(
        PNG,
        "core/edits.py MAX_BLOCK_BYTES",
        lambda: _png(pngs.chunk(b"tEXt", b"Comment\0" + b" " * (9 << 20) + PLACE)),
    ),
    "in EXIF of 9 MiB": Plant(
        WEBP, "core/edits.py MAX_BLOCK_BYTES", lambda: webp(_chunk(b"EXIF", exif("MM") + bytes(9 << 20)))
    ),
    "behind 17 MiB of comments": Plant(
        JPEG,
        "jpeg/jpeg.py MAX_METADATA_BYTES",
        lambda: photo(*[segment(COM, b"\0" * LONGEST)] * 270, segment(COM, PLACE)),
        refused=True,
    ),
    "in a comment of 9 MB": Plant(
        GIF,
        "core/edits.py MAX_BLOCK_BYTES",
        lambda: _gif(_comment(b"x" * (9 << 20)), _comment(PLACE)),
        refused=True,
    ),
}


def _profile(count: int, text: bytes) -> bytes:
    """An ICC profile with so many tags, and one text that belongs to the last."""
    at, tag = 132 + 12 * count, b"text" + bytes(4) + text
    tags = [b"%04d" % n + at.to_bytes(4) + len(tag).to_bytes(4) for n in range(count)]
    body = count.to_bytes(4) + b"".join(tags) + tag
    return ((128 + len(body)).to_bytes(4) + bytes(32) + b"acsp").ljust(128, b"\0") + body


NUMBERS: Final[Plants] = {
    "in colour 280 of 300": Plant(
        BMP,
        "images/bmp.py _read_bitmap<256>",
        lambda: bmp((bytes(1100) + PLACE).ljust(1200, b"\0"), bits=8, used=300),
    ),
    "in a profile of 300 tags": Plant(
        PNG,
        "core/colour_profiles.py _MAX_TAGS",
        lambda: _png(pngs.chunk(b"iCCP", b"a\0\0" + zlib.compress(_profile(300, PLACE)))),
    ),
    "behind 20 KB of keywords": Plant(
        JPEG, "", lambda: photo(segment(COM, b"flower; " * 2600 + b"Places|" + b"Zirbelstadt"))
    ),
    "in 300 colours of 24 bits": Plant(
        BMP,
        "",
        lambda: bmp((bytes(1100) + PLACE).ljust(1200, b"\0"), used=300),
    ),
}
"""Places in numbers that should tell nothing: a search of the values of kept parts finds them."""
PLANTS: Final[Plants] = JPEGS | TEXTS | GIFS | PNGS | WEBPS | BITMAPS | NUMBERS
