"""Files made to be dear: little to write, much to look through. One maker for each trick of each format."""

from __future__ import annotations

import base64
import itertools
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Final

from policyfs.redact.core.patches import ByteSource, MemorySource
from tests.support.samples import heifs, jp2s, jpegs, matroskas, movies, pdfs, pngs, sounds, tiffs

TERABYTE: Final = 1 << 40
MIB: Final = 1 << 20


class Sparse:
    """A file of a terabyte with so many true bytes at its start, and zeros behind (a ByteSource)."""

    def __init__(self, head: bytes, size: int = TERABYTE) -> None:
        self._head = head
        self.size: Final = size

    def read(self, offset: int, size: int, /) -> bytes:
        """The bytes, as a hole in a file reads."""
        size = max(0, min(size, self.size - offset))
        return self._head[offset : offset + size].ljust(size, b"\0")


XMP_HEAD: Final = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
)
XMP_TAIL: Final = b"</rdf:RDF></x:xmpmeta>"
XMP_KEY: Final = b"XML:com.adobe.xmp"


def xmp(inside: bytes) -> bytes:
    """An XMP packet around these bytes."""
    return XMP_HEAD + inside + XMP_TAIL


# --- inflated ---


def png_texts(value: bytes, count: int, keyword: bytes = b"Comment") -> bytes:
    """A PNG of zTXt chunks."""
    one = pngs.chunk(b"zTXt", keyword + b"\0\0" + zlib.compress(value, 9))
    return pngs.plain(one * count)


def png_packets(value: bytes, count: int) -> bytes:
    one = pngs.chunk(b"iTXt", XMP_KEY + b"\0\1\0\0\0" + zlib.compress(value, 9))
    return pngs.plain(one * count)


def png_profiles(count: int) -> bytes:
    return pngs.plain(pngs.chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(4 * MIB), 9)) * count)


def id3_frames(count: int) -> bytes:
    plain = b"\0" + bytes(4 * MIB)
    one = sounds.frame("TIT2", len(plain).to_bytes(4) + zlib.compress(plain, 9), 0x80)
    return sounds.id3(one * count) + sounds.sound()


def pdf_flate(value: bytes, count: int) -> bytes:
    entries = b"/Type/Metadata/Subtype/XML"
    more = {10 + n: pdfs.packed(value, entries) for n in range(count)}
    return pdfs.pdf(more, catalog=b"/Metadata 10 0 R")


TELLING_TEXT: Final = b"(" + b"%41 1.11 47 s " * 14_000 + b")"
"""A string that is slow to search: each word in it could start a place."""


def pdf_ascii85(count: int) -> bytes:
    """Pictures whose cleaning changes them, each of 64 KiB."""
    photo = jpegs.with_segments(jpegs.plain(), jpegs.segment(0xE5, b"quince" * 10_000))
    one = pdfs.stream(base64.a85encode(photo) + b"~>", b"/Filter[/ASCII85Decode/DCTDecode]")
    used = b" ".join(b"%d 0 R" % (10 + n) for n in range(count))
    return pdfs.pdf({10 + n: one for n in range(count)}, page=b"/Resources<</Other[" + used + b"]>>")


def matroska_texts(count: int) -> bytes:
    """Tags with long texts; all texts differ."""
    texts = (b"%d" % n + TELLING_TEXT for n in range(count))
    tags = b"".join(matroskas.simple_tag(b"GENRE", text) for text in texts)
    return matroskas.film(matroskas.el(matroskas.TAGS, matroskas.el(0x7373, tags)))


def pdf_object_streams(count: int) -> bytes:
    one = pdfs.object_stream({1000: b" " * (4 * MIB) + b"null"})
    return pdfs.pdf({10 + n: one for n in range(count)})


def pdf_many_objects(count: int) -> bytes:
    inside = {100 + n: b"<</A[1 2 3]>>" for n in range(count)}
    return pdfs.pdf({10: pdfs.object_stream(inside)})


def pdf_filters(count: int) -> bytes:
    data = zlib.compress(bytes(MIB), 9)
    for _ in range(6):
        data = zlib.compress(data, 9)
    names = b"/Filter[" + b"/FlateDecode" * 7 + b"]"
    hexed = b"/Filter[" + b"/ASCIIHexDecode" * 50 + b"]"
    more = {10 + n: pdfs.stream(data, b"/Type/Metadata" + names) for n in range(count)}
    more |= {5000 + n: pdfs.stream(b"41" * 1000 + b">", b"/Type/Metadata" + hexed) for n in range(count)}
    return pdfs.pdf(more)


def pdf_nested(depth: int) -> bytes:
    return pdfs.pdf({10: b"[" * depth + b"]" * depth, 11: b"<</A" * depth + b">>" * depth})


def pdf_revisions(count: int) -> bytes:
    data = pdfs.pdf()
    out = bytearray(data)
    for _ in range(count):
        out += (
            b"xref\n0 1\n0000000000 65535 f \ntrailer\n<</Size 5/Root 1 0 R/Prev %d>>\n"
            b"startxref\n%d\n%%%%EOF\n"
            % (
                len(data) - 60,
                len(out),
            )
        )
    return bytes(out)


def pdf_open_strings(count: int) -> bytes:
    return pdfs.pdf(gap=b"(" * count) + b"1 0 obj\n<<" * (count // 10)


def matroska_packed(count: int) -> bytes:
    packing = matroskas.el(0x6D80, matroskas.el(0x6240, matroskas.el(0x5034, matroskas.number(0x4254, 0))))
    track = matroskas.track(1, 17, b"S_TEXT/UTF8", packing)
    value = zlib.compress(b"word " * (MIB // 5), 9)
    return matroskas.film(matroskas.cluster(*(matroskas.group(1, value) for _ in range(count))), tracks=track)


# --- structure ---


def heic_overlap(kind: bytes, data: bytes, items: int, extents: int, content: bytes = b"") -> bytes:
    """A HEIC of which all items are the same bytes, many times."""
    things = [heifs.Thing(1, b"hvc1", heifs.picture(), properties=(1, 2))]
    first = heifs.Thing(2, kind, data, content=content, properties=(1, 2))
    once = heifs.heif([*things, first])
    at = once.find(data)
    shift = len(
        heifs.heif(
            [
                *things,
                first,
                *(
                    heifs.Thing(
                        3 + n, kind, b"", content=content, properties=(1, 2), extents=((0, 0),) * extents
                    )
                    for n in range(items)
                ),
            ]
        )
    ) - len(once)
    whole = ((at + shift, len(data)),) * extents
    more = [
        heifs.Thing(3 + n, kind, b"", content=content, properties=(1, 2), extents=whole) for n in range(items)
    ]
    made = heifs.heif([*things, first, *more])
    assert made[at + shift : at + shift + len(data)] == data
    return made


def nals(size: int) -> bytes:
    return heifs.picture(2) * (size // len(heifs.picture(2)))


def mp4_units(kind: bytes, unit: bytes) -> bytes:
    """Frames of many small units, with a message in each frame so that all frames are searched."""
    messages = {b"avc1": movies.sei(5, bytes(range(16, 32)) + movies.CITY), b"av01": heifs.obu(5, b"\x1fa")}
    frame = messages.get(kind, b"\0\0\1\xb2ab") + unit * 254
    entry = movies.AVCC if kind == b"avc1" else b""
    return movies.movie(movies.Track(format=kind, entry=entry, samples=[frame] * 3500, per_chunk=3500))


def heic_units(count: int) -> bytes:
    return heifs.heif([heifs.Thing(1, b"hvc1", heifs.nal(39, b"\5\1x\x80") * count, properties=(1, 2))])


def tiff_loop() -> bytes:
    return b"II*\0" + (8).to_bytes(4, "little") + struct.pack("<H", 1) + bytes(12) + (8).to_bytes(4, "little")


def tiff_arrays(directories: int, size: int) -> bytes:
    """Directories whose values are all the same large array."""
    at = 8 + len(tiffs.PIXELS)
    body = bytearray(tiffs.classic("II", strips=1))
    base = len(body) + directories * 30
    out = bytearray()
    for number in range(directories):
        here = len(body) + number * 30
        entries = [(0x9C9B, 1, size, base), (0x8769 if number % 2 else 0x014A, 4, 1, here + 30)]
        out += struct.pack("<H", 2) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        out += (here + 30 if number < directories - 1 else 0).to_bytes(4, "little")
    end = at + 2 + 12 * 10
    body[end : end + 4] = len(body).to_bytes(4, "little")
    return bytes(body + out) + b"a b " * (size // 4)


def tiff_sub(count: int) -> bytes:
    offsets = (0x014A, 4, count, jpegs.pack("II", *[8 + len(tiffs.PIXELS)] * count))
    return tiffs.classic("II", offsets)


def tiff_counts(kind: int) -> bytes:
    body = bytearray(tiffs.classic("II", (0x9286, kind, 4, b"abcd")))
    at = bytes(body).find(struct.pack("<HHI", 0x9286, kind, 4))
    body[at + 4 : at + 12] = struct.pack("<II", 0xFFFFFFF0, 8)
    return bytes(body)


def exif_overlap(entries: int, size: int) -> bytes:
    """EXIF of which each tag has the same bytes for its value."""
    head = b"II*\0" + (8).to_bytes(4, "little") + struct.pack("<H", entries)
    at = 8 + 2 + 12 * entries + 4
    tags = b"".join(struct.pack("<HHII", 0x9C9B + 0 * n, 1, size, at) for n in range(entries))
    return head + tags + bytes(4) + b"a b 1,2 " * (size // 8)


def exif_gps(pointers: int, size: int) -> bytes:
    """EXIF with many pointers to a GPS directory of so many blank tags that it fills the rest."""
    start = 8 + 2 + 12 * pointers + 4
    head = b"II*\0" + (8).to_bytes(4, "little") + struct.pack("<H", pointers)
    entries = struct.pack("<HHII", 0x8825, 4, 1, start) * pointers
    count = (size - start - 2) // 12
    return (head + entries + bytes(4) + struct.pack("<H", count)).ljust(size, b"\0")


def mp4_table(name: bytes, body: bytes, version: int = 0) -> bytes:
    """A movie with a further sample table of a huge count in its track's table of samples."""
    data = movies.movie(movies.Track())
    at = data.find(b"stsd") - 4
    more = movies.full(name, body, version=version)
    out = bytearray(data[:at] + more + data[at:])
    for kind in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        place = data.find(kind) - 4
        size = int.from_bytes(out[place : place + 4]) + len(more)
        out[place : place + 4] = size.to_bytes(4)
    return bytes(out)


def mp4_telemetry(*samples: bytes, sizes: Mapping[int, int]) -> bytes:
    """A movie with GoPro's telemetry. sizes: number of a sample -> its size, if the table states another."""
    movie = movies.movie(movies.Track(), movies.Track(b"meta", b"gpmd", samples, number=2))
    stated = [sizes.get(number, len(value)) for number, value in enumerate(samples)]
    table = movies.u32(0, len(samples))
    at = movie.rindex(b"stsz") + 8 + len(table)
    return movie[:at] + movies.u32(*stated) + movie[at + 4 * len(samples) :]


def telemetry_values(count: int, value: Callable[[int], bytes], samples: int) -> bytes:
    """Telemetry of so many values in each sample; all values differ."""
    numbers = itertools.count()
    made = (b"".join(value(next(numbers)) for _ in range(count)) for _ in range(samples))
    return mp4_telemetry(*made, sizes={})


def nested(make: Callable[[bytes], bytes], depth: int, inside: bytes = b"") -> bytes:
    for _ in range(depth):
        inside = make(inside)
    return inside


def chain(depth: int, head: Callable[[int], bytes], inside: bytes = b"") -> bytes:
    """Boxes within boxes, made from outside in: head(size of what is within)."""
    heads, size = [], len(inside)
    for _ in range(depth):
        one = head(size)
        heads.append(one)
        size += len(one)
    return b"".join(reversed(heads)) + inside


def atom(kind: bytes) -> Callable[[int], bytes]:
    return lambda size: (size + 8).to_bytes(4) + kind


def riff_list(size: int) -> bytes:
    return b"LIST" + (size + 4).to_bytes(4, "little") + b"INFO"


def element(ident: int) -> Callable[[int], bytes]:
    return lambda size: matroskas.ident_bytes(ident) + (size | 1 << 56).to_bytes(8)


def ogg_pages(count: int) -> bytes:
    """Pages of one byte each, all of one comment packet."""
    first = sounds.pages(7, b"\x01vorbis" + bytes(22) + b"\1")
    page = sounds.page(7, 1, 0, b"\xff", b"a" * 255)
    return first + page * count


def ogg_streams(count: int) -> bytes:
    return b"".join(sounds.page(n, 0, 2, b"\x1e", b"\x01vorbis" + bytes(22) + b"\1") for n in range(count))


def sidecar(inside: bytes) -> bytes:
    return b"<?xml version='1.0'?>" + xmp(b"<rdf:Description rdf:about=''>" + inside + b"</rdf:Description>")


def in_jpeg(packet: bytes) -> bytes:
    return jpegs.with_segments(
        jpegs.plain(), *[jpegs.xmp_segment(packet)] * (12 * MIB // max(1, len(packet)))
    )


def jpeg_segments(count: int, payload: bytes, code: int = 0xE1) -> bytes:
    return jpegs.with_segments(jpegs.plain(), *[jpegs.segment(code, payload)] * count)


TIFF_NS: Final = b'xmlns:t="http://ns.adobe.com/tiff/1.0/"'


def long_packet(inside: bytes) -> bytes:
    """A long packet. inside: attributes of its root, ``>`` and what is in the root."""
    return b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" ' + inside + b"</rdf:RDF>"


def further_pictures(count: int) -> bytes:
    """A JPEG with so many pictures in its multi-picture directory, each without an end."""
    base, step = jpegs.plain(), 8
    sizes = [min(4_000, count - at) for at in range(0, count, 4_000)]
    heads = [len(jpegs.mpf_segment("II", [(0, 1)] * size, 0)) for size in sizes]
    first, at, made = sum(heads) + len(base) + step, 2, b""
    for index, size in enumerate(sizes):
        numbers = range(index * 4_000, index * 4_000 + size)
        made += jpegs.mpf_segment("II", [(first + step * n, step) for n in numbers], at)
        at += heads[index]
    return base[:2] + made + base[2:] + b"JUNKJUNK" + (b"\xff\xd8\xff\xd8" + b"abcd") * count


ENTITIES: Final = (
    b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(20))
    + b"]>"
    + xmp(b"<rdf:Description><dc:a>&u;</dc:a></rdf:Description>")
)
COVER: Final = base64.b64encode(sounds.picture_block(sounds.picture()))
TAKEOUT: Final = b'{"title": "a.jpg", "photoTakenTime": {"timestamp": "1"}, "geoData": %s}'

_HEADS: Final[dict[str, tuple[str, Callable[[], bytes]]]] = {
    "JPEG": ("image/jpeg", jpegs.plain),
    "JPEG cut in its head": ("image/jpeg", lambda: jpegs.plain()[:300]),
    "JPEG cut in its scan": ("image/jpeg", lambda: jpegs.plain()[:-30]),
    "PNG": ("image/png", pngs.plain),
    "PNG without an end": ("image/png", lambda: pngs.plain()[:-12]),
    "GIF": ("image/gif", lambda: b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"),
    "WebP": ("image/webp", lambda: b"RIFF\xf0\xff\xff\xffWEBPVP8 \xe0\xff\xff\xff"),
    "TIFF": ("image/tiff", lambda: tiffs.classic("II")),
    "MP4": ("video/mp4", lambda: movies.movie(movies.Track())),
    "MP4 whose mdat goes on": ("video/mp4", lambda: movies.ftyp() + b"\0\0\0\0mdat"),
    "HEIC": ("image/heic", lambda: heifs.heif([heifs.Thing(1, b"hvc1", heifs.picture(), properties=(1, 2))])),
    "JXL": ("image/jxl", jp2s.jxl),
    "JXL bare": ("image/jxl", lambda: b"\xff\x0a" + bytes(range(1, 60))),
    "JP2": ("image/jp2", jp2s.jp2),
    "J2K": ("image/x-jp2-codestream", lambda: jp2s.codestream()[:-2]),
    "MP3": ("audio/mpeg", lambda: sounds.id3(sounds.words("TIT2", b"a")) + sounds.sound()),
    "ADTS": ("audio/aac", lambda: b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(10)),
    "FLAC": ("audio/flac", sounds.flac),
    "FLAC whose comments go on": ("audio/flac", lambda: sounds.flac()[:42] + b"\x84\xff\xff\xff"),
    "Ogg": ("audio/ogg", lambda: sounds.opus(sounds.comments())),
    "WAV": (
        "audio/x-wav",
        lambda: b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0",
    ),
    "AVI": ("video/x-msvideo", sounds.avi),
    "Matroska": ("video/x-matroska", matroskas.film),
    "Matroska of unknown size": (
        "video/x-matroska",
        lambda: matroskas.film(matroskas.cluster(size=matroskas.UNKNOWN_SIZE), size=matroskas.UNKNOWN_SIZE),
    ),
    "PDF": ("application/pdf", pdfs.pdf),
    "BMP": (
        "image/bmp",
        lambda: b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0\1\0\0\0\1\0\0\0\1\0\x18\0" + bytes(24),
    ),
    "XMP": ("application/rdf+xml", lambda: sidecar(b"")),
    "JSON": ("application/x-location+json", lambda: TAKEOUT % b"0"),
    "RAF": ("image/x-fuji-raf", lambda: tiffs.fuji(jpegs.plain())),
}

ESCAPED: Final = b"%31 1&#49;2 " + b"\n".join([base64.b64encode(b"1 23 45 6 78 90")] * 9000)
"""Texts within a text, which are searched by themselves."""
NEARLY_PLACES: Final = (
    b"degr grad graad geox /1 %2 d* _lat lon: wgs point( coord utm geohash: /// qth 33T WN 1 1 degrees 1 min"
    b" +12+123 47/1 48/1 x47d4 N 1 n 1.1 n "
) * 1300
"""Hints of all rare spellings, and the beginnings of many."""
BOMBS: Final[dict[str, tuple[str, Callable[[], bytes | ByteSource]]]] = {
    "PNG: zTXt of zeros": ("image/png", lambda: png_texts(bytes(4 * MIB), 100)),
    "PNG: zTXt of words": ("image/png", lambda: png_texts(b"a word 1.5 " * (4 * MIB // 11), 40)),
    "PNG: zTXt of digits": ("image/png", lambda: png_texts(b"47.80453, 13.04229 " * (4 * MIB // 19), 40)),
    "PNG: zTXt of escapes": ("image/png", lambda: png_texts(ESCAPED, 40)),
    "PNG: zTXt of signs of places": ("image/png", lambda: png_texts(NEARLY_PLACES, 40)),
    "PNG: zTXt of small texts": ("image/png", lambda: png_texts(b"1,2 " * 60_000, 400)),
    "PNG: zTXt of hexadecimal EXIF": (
        "image/png",
        lambda: png_texts(pngs.profile("exif", bytes(MIB)), 100, b"Raw profile type exif"),
    ),
    "PNG: iTXt with XMP": ("image/png", lambda: png_packets(xmp(b"<a/>" * (MIB - 100)), 100)),
    "PNG: iTXt with deep XMP": ("image/png", lambda: png_packets(xmp(b"<a>" * MIB), 100)),
    "PNG: iTXt with blank XMP": ("image/png", lambda: png_packets(xmp(b" " * (4 * MIB - 300)), 100)),
    "PNG: iCCP": ("image/png", lambda: png_profiles(100)),
    "PNG: chunks of nothing": ("image/png", lambda: pngs.plain(pngs.chunk(b"tEXt", b"a\0b") * 30_000)),
    "PNG: unknown chunks": ("image/png", lambda: pngs.plain(pngs.chunk(b"abCd") * 40_000)),
    "PNG: one large unknown chunk": ("image/png", lambda: pngs.plain(pngs.chunk(b"abCd", bytes(64 * MIB)))),
    "HEIC: pictures overlap": ("image/heic", lambda: heic_overlap(b"hvc1", nals(300_000), 2000, 1)),
    "HEIC: pictures of overlapping pieces": (
        "image/heic",
        lambda: heic_overlap(b"hvc1", nals(200_000), 20, 400),
    ),
    "HEIC: pictures of one unit each": (
        "image/heic",
        lambda: heic_overlap(b"hvc1", (399_996).to_bytes(4) + b"\x28\1" + b"\xaf" * 399_994, 3000, 1),
    ),
    "HEIC: Exif overlaps": (
        "image/heic",
        lambda: heic_overlap(b"Exif", bytes(4) + exif_overlap(300, 300_000), 2000, 1),
    ),
    "HEIC: XMP overlaps": (
        "image/heic",
        lambda: heic_overlap(b"mime", xmp(b"<a/>" * 75_000), 2000, 1, b"application/rdf+xml"),
    ),
    "HEIC: XMP deflated": (
        "image/heic",
        lambda: heifs.heif(
            [
                heifs.Thing(1, b"hvc1", heifs.picture(), properties=(1, 2)),
                *(
                    heifs.Thing(
                        2 + n,
                        b"mime",
                        zlib.compress(xmp(b" " * (4 * MIB - 300)), 9),
                        content=b"application/rdf+xml",
                        encoding=b"deflate",
                        properties=(),
                    )
                    for n in range(100)
                ),
            ]
        ),
    ),
    "HEIC: JPEG items overlap": (
        "image/heic",
        lambda: heic_overlap(
            b"jpeg", jpegs.with_segments(jpegs.plain(), *[jpegs.segment(0xFE, b"1,2 " * 15_000)] * 6), 2000, 1
        ),
    ),
    "HEIC: grids overlap": ("image/heic", lambda: heic_overlap(b"grid", bytes(400_000), 3000, 1)),
    "HEIC: unknown items overlap": ("image/heic", lambda: heic_overlap(b"abcd", b"x" * 400_000, 3000, 1)),
    "HEIC: SEI units": ("image/heic", lambda: heic_units(60_000)),
    "AVIF: OBUs overlap": (
        "image/avif",
        lambda: heic_overlap(b"av01", (heifs.obu(1, b"\0" * 10) + heifs.obu(6, b"abc") * 50_000), 2000, 1),
    ),
    "JXL: brob boxes": (
        "image/jxl",
        lambda: jp2s.jxl(*[movies.box(b"brob", b"xml " + b"\x5b\xff\xff\xaf")] * 40_000),
    ),
    "JXL: xml boxes": ("image/jxl", lambda: jp2s.jxl(*[movies.box(b"xml ", xmp(b"<a/>" * 100_000))] * 30)),
    "JP2: boxes within boxes": (
        "image/jp2",
        lambda: jp2s.jp2(chain(50_000, atom(b"asoc"))),
    ),
    "JP2: XMP": (
        "image/jp2",
        lambda: jp2s.jp2(
            *[movies.uuid(bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), xmp(b"<a/>" * 100_000))] * 30
        ),
    ),
    "JP2: xml boxes": ("image/jp2", lambda: jp2s.jp2(*[movies.box(b"xml ", b"<a>1,2 </a>" * 20_000)] * 50)),
    "J2K: comments": (
        "image/x-jp2-codestream",
        lambda: jp2s.codestream(header=jp2s.comment(b"47.1, 13.2 " * 5900) * 150),
    ),
    "J2K: tiles": ("image/x-jp2-codestream", lambda: jp2s.codestream(*[jp2s.tile(b"")] * 60_000)),
    "FLAC: covers": (
        "audio/flac",
        lambda: sounds.flac(*[(6, sounds.picture_block(sounds.picture()))] * 2000),
    ),
    "FLAC: comments": ("audio/flac", lambda: sounds.flac((4, sounds.comments(*[b"A=1,2"] * 9_999)))),
    "FLAC: many comment blocks": (
        "audio/flac",
        lambda: sounds.flac(*[(4, sounds.comments(*[b"COMMENT=1,2"] * 5_000))] * 100),
    ),
    "FLAC: covers in comments": (
        "audio/flac",
        lambda: sounds.flac((4, sounds.comments(*[b"METADATA_BLOCK_PICTURE=" + COVER] * 2000))),
    ),
    "AVI: lists within lists": ("video/x-msvideo", lambda: sounds.avi(chain(50_000, riff_list))),
    "AVI: chunks": ("video/x-msvideo", lambda: sounds.avi(movie=sounds.chunk(b"00dc", b"") * 100_000)),
    "WAV: texts": ("audio/x-wav", lambda: sounds.wav(*[sounds.info(ICMT=b"1,2 " * 60_000)] * 100)),
    "WAV: little texts": (
        "audio/x-wav",
        lambda: sounds.wav(sounds.chunk(b"LIST", b"INFO" + sounds.chunk(b"ICMT", b"1,") * 100_000)),
    ),
    "PDF: metadata of blanks": ("application/pdf", lambda: pdf_flate(xmp(b" " * (4 * MIB - 300)), 100)),
    "PDF: metadata of elements": ("application/pdf", lambda: pdf_flate(xmp(b"<a/>" * (MIB - 100)), 100)),
    "PDF: metadata of words": (
        "application/pdf",
        lambda: pdf_flate(xmp(b"1.5, 2 " * (4 * MIB // 7 - 100)), 100),
    ),
    "PDF: object streams of blanks": ("application/pdf", lambda: pdf_object_streams(100)),
    "PDF: object streams": ("application/pdf", lambda: pdf_many_objects(49_000)),
    "PDF: filters": ("application/pdf", lambda: pdf_filters(400)),
    "PDF: nested": ("application/pdf", lambda: pdf_nested(100_000)),
    "PDF: nested a little": (
        "application/pdf",
        lambda: pdfs.pdf({10 + n: b"[" * 50 + b"]" * 50 for n in range(4000)}),
    ),
    "PDF: strings": ("application/pdf", lambda: pdfs.pdf({10 + n: TELLING_TEXT for n in range(40)})),
    "PDF: pictures in ASCII85": ("application/pdf", lambda: pdf_ascii85(60)),
    "PDF: revisions": ("application/pdf", lambda: pdf_revisions(3000)),
    "PDF: open strings": ("application/pdf", lambda: pdf_open_strings(300_000)),
    "PDF: open dictionaries": (
        "application/pdf",
        lambda: pdfs.pdf({10 + n: b"<</A " * 40 for n in range(3000)}),
    ),
    "Matroska: packed subtitles": ("video/x-matroska", lambda: matroska_packed(400)),
    "Matroska: lacing": (
        "video/x-matroska",
        lambda: matroskas.film(
            matroskas.cluster(*[matroskas.block(1, b"\xff" + b"\x81" * 255, 0x86)] * 8_000)
        ),
    ),
    "Matroska: lacing that lies": (
        "video/x-matroska",
        lambda: matroskas.film(matroskas.cluster(*[matroskas.block(1, b"\xff\xff" * 100, 0x82)] * 20_000)),
    ),
    "Matroska: little blocks": (
        "video/x-matroska",
        lambda: matroskas.film(matroskas.cluster(*[matroskas.block(1, b"")] * 300_000)),
    ),
    "Matroska: unknown sizes": (
        "video/x-matroska",
        lambda: matroskas.film(
            matroskas.cluster(size=matroskas.UNKNOWN_SIZE) * 20_000, size=matroskas.UNKNOWN_SIZE
        ),
    ),
    "Matroska: tags within tags": (
        "video/x-matroska",
        lambda: matroskas.film(matroskas.tags(chain(30_000, element(0x67C8)))),
    ),
    "Matroska: tags of texts": ("video/x-matroska", lambda: matroska_texts(10)),
    "Matroska: little tags": (
        "video/x-matroska",
        lambda: matroskas.film(matroskas.tags(matroskas.simple_tag(b"A", b"1,2") * 30_000)),
    ),
    "Matroska: junk": ("video/x-matroska", lambda: matroskas.film(b"\0" * 400_000 + b"\x01" * 400_000)),
    "Matroska: subtitles": (
        "video/x-matroska",
        lambda: matroskas.film(
            matroskas.cluster(*[matroskas.group(1, b"47.1, 13.2 " * 20)] * 20_000),
            tracks=matroskas.track(1, 17, b"S_TEXT/UTF8"),
        ),
    ),
    "TIFF: a loop": ("image/tiff", tiff_loop),
    "TIFF: arrays overlap": ("image/tiff", lambda: tiff_arrays(4000, 400_000)),
    "TIFF: sub-directories": ("image/tiff", lambda: tiff_sub(60_000)),
    "TIFF: huge counts": ("image/tiff", lambda: tiff_counts(7)),
    "EXIF: values overlap": (
        "image/jpeg",
        lambda: jpeg_segments(200, b"Exif\0\0" + exif_overlap(900, 50_000)),
    ),
    "EXIF: in a JPEG that is large": (
        "image/jpeg",
        lambda: jpeg_segments(250, b"Exif\0\0" + exif_overlap(20, 60_000)),
    ),
    "EXIF: pointers to a large GPS directory": (
        "image/jpeg",
        lambda: jpeg_segments(30, b"Exif\0\0" + exif_gps(900, 65_000)),
    ),
    "JPEG: comments": ("image/jpeg", lambda: jpeg_segments(250, b"47.1, 13.2 " * 5900, 0xFE)),
    "JPEG: little segments": ("image/jpeg", lambda: jpeg_segments(45_000, b"", 0xE5)),
    "JPEG: photoshop blocks": (
        "image/jpeg",
        lambda: jpeg_segments(250, b"Photoshop 3.0\0" + jpegs.resource(1000, b"") * 4_000, 0xED),
    ),
    "JPEG: IPTC": (
        "image/jpeg",
        lambda: jpeg_segments(
            250, b"Photoshop 3.0\0" + jpegs.resource(1028, jpegs.record(2, 25, b"") * 12_000), 0xED
        ),
    ),
    "JPEG: little fields of Ducky": (
        "image/jpeg",
        lambda: jpeg_segments(40, b"Ducky" + b"\0\2\0\1a" * 13_000 + b"\0\0", 0xEC),
    ),
    "JPEG: Ducky of digits": (
        "image/jpeg",
        lambda: jpeg_segments(40, b"Ducky\0\2\xfd\xe8" + b"1 2 3. 45 " * 6500 + b"\0\0", 0xEC),
    ),
    "JPEG: photoshop captions": (
        "image/jpeg",
        lambda: jpeg_segments(40, b"Photoshop 3.0\0" + jpegs.resource(0x3F0, b"1 2 3. 45 " * 6500), 0xED),
    ),
    "JPEG: names of photoshop blocks": (
        "image/jpeg",
        lambda: jpeg_segments(
            100,
            b"Photoshop 3.0\0" + (b"8BIM\3\xed\xff" + b"1 2 3. 45 " * 25 + b"12345" + bytes(4)) * 200,
            0xED,
        ),
    ),
    "JPEG: IPTC of digits": (
        "image/jpeg",
        lambda: jpeg_segments(
            40,
            b"Photoshop 3.0\0" + jpegs.resource(1028, jpegs.record(2, 25, b"1 2 3. 45 " * 3000) * 2),
            0xED,
        ),
    ),
    "JPEG: segments of telemetry": ("image/jpeg", lambda: jpeg_segments(20_000, b"GoPro\0", 0xE6)),
    "JPEG: segments of photoshop": (
        "image/jpeg",
        lambda: jpeg_segments(5_000, b"Photoshop 3.0\0" + jpegs.resource(0x0FFF, b"abcd"), 0xED),
    ),
    "JPEG: offsets of further pictures": ("image/jpeg", lambda: further_pictures(16_000)),
    "JPEG: embedded in each other": ("image/jpeg", lambda: jpegs.plain() * 3000),
    "MP4: stsz": ("video/mp4", lambda: mp4_table(b"stsz", movies.u32(1, 0xFFFFFFFF))),
    "MP4: stsc": ("video/mp4", lambda: mp4_table(b"stsc", movies.u32(1, 1, 0xFFFFFFFF, 1))),
    "MP4: stco": ("video/mp4", lambda: mp4_table(b"stco", movies.u32(400_000) + movies.u32(48) * 400_000)),
    "MP4: stts": (
        "video/mp4",
        lambda: mp4_table(b"stts", movies.u32(1_000_000) + movies.u32(1, 1) * 1_000_000),
    ),
    "MP4: boxes": ("video/mp4", lambda: movies.movie(moov=movies.box(b"free") * 140_000)),
    "MP4: tracks": ("video/mp4", lambda: movies.movie(*[movies.Track()] * 255)),
    "MP4: units": ("video/mp4", lambda: mp4_units(b"avc1", movies.u32(1) + b"\x65")),
    "MP4: units of no type": ("video/mp4", lambda: mp4_units(b"avc1", movies.u32(3) + b"\x18ab")),
    "MP4: OBUs": ("video/mp4", lambda: mp4_units(b"av01", heifs.obu(2, b""))),
    "MP4: metadata OBUs": ("video/mp4", lambda: mp4_units(b"av01", heifs.obu(5, b"\x1fa"))),
    "MP4: user data": ("video/mp4", lambda: mp4_units(b"mp4v", b"\0\0\1\xb2ab")),
    "MP4: captions": ("video/mp4", lambda: mp4_units(b"mp4v", b"\0\0\1\xb2CC\1\xf8")),
    "MP4: start codes": ("video/mp4", lambda: mp4_units(b"mp4v", b"\0\0\1\0")),
    "MP4: telemetry": ("video/mp4", lambda: movies.movie(movies.Track(b"meta", b"gpmd", (b"x",) * 90_000))),
    "MP4: telemetry that overlaps": (
        "video/mp4",
        lambda: mp4_telemetry(*[b"GYROs\0\0\0"] * 6000, sizes=dict.fromkeys(range(4000), 8 * 1980)),
    ),
    "MP4: telemetry of no values": (
        "video/mp4",
        lambda: mp4_telemetry(*[b"GYROs\0\0\0" * 1900] * 2000, sizes={}),
    ),
    "MP4: telemetry of many lengths": (
        "video/mp4",
        lambda: telemetry_values(1900, lambda n: b"GYROs\0" + (n & 0xFFFF).to_bytes(2), 900),
    ),
    "MP4: telemetry of texts": (
        "video/mp4",
        lambda: telemetry_values(1900, lambda n: b"STNMc\1\0\4" + n.to_bytes(4), 60),
    ),
    "MP4: subtitles": (
        "video/mp4",
        lambda: movies.movie(movies.Track(b"text", b"tx3g", (b"\0\x0a47.1, 13.2",) * 20_000)),
    ),
    "MP4: keys of no names": (
        "video/mp4",
        lambda: movies.movie(
            movies.Track(b"meta", b"mebx", entry=movies.box(b"keys", movies.box(bytes(4)) * MIB))
        ),
    ),
    "MP4: descriptions of groups": (
        "video/mp4",
        lambda: mp4_table(b"sgpd", b"rap " + movies.u32(1, 20 * MIB) + b"\x80" * (20 * MIB), version=1),
    ),
    "MP4: vectors": (
        "video/mp4",
        lambda: movies.movie(
            movies.Track(table=movies.full(b"senc", movies.u32(1 << 18), bytes(1 << 19), flags=2) * 44)
        ),
    ),
    "MP4: boxes within boxes": ("video/mp4", lambda: movies.movie(moov=chain(50_000, atom(b"udta")))),
    "MP4: texts": (
        "video/mp4",
        lambda: movies.movie(moov=movies.box(b"udta", movies.text_atom(b"\xa9cmt", b"1,2") * 40_000)),
    ),
    "MP4: uuid boxes": (
        "video/mp4",
        lambda: movies.movie(
            after=movies.uuid(bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), xmp(b"<a/>" * 100_000)) * 30
        ),
    ),
    "MP3: packed frames": ("audio/mpeg", lambda: id3_frames(100)),
    "MP3: unsynchronised": (
        "audio/mpeg",
        lambda: sounds.id3(sounds.frame("COMM", b"\xff\0" * MIB), flags=0x80) + sounds.sound(),
    ),
    "MP3: little frames": (
        "audio/mpeg",
        lambda: sounds.id3(sounds.words("TIT2", b"1,2") * 9_999) + sounds.sound(),
    ),
    "MP3: tags behind tags": (
        "audio/mpeg",
        lambda: sounds.id3(sounds.words("COMM", b"eng\0 1,2 " * 3000)) * 200 + sounds.sound(),
    ),
    "MP3: frames": ("audio/mpeg", lambda: sounds.sound(40_000)),
    "MP3: covers": ("audio/mpeg", lambda: sounds.id3(sounds.apic(sounds.picture()) * 1000) + sounds.sound()),
    "MP3: chapters in chapters": (
        "audio/mpeg",
        lambda: (
            sounds.id3(nested(lambda b: sounds.frame("CHAP", b"one\0" + bytes(16) + b), 300)) + sounds.sound()
        ),
    ),
    "MP3: little frames in chapters": (
        "audio/mpeg",
        lambda: (
            sounds.id3(sounds.frame("CHAP", b"a\0" + bytes(16) + sounds.words("TRCK", b"a") * 9000) * 30)
            + sounds.sound()
        ),
    ),
    "MP3: long names of chapters": (
        "audio/mpeg",
        lambda: sounds.id3(sounds.frame("CHAP", b"1 2 3. 45 " * 10_000 + bytes(17)) * 30) + sounds.sound(),
    ),
    "Ogg: pages": ("audio/ogg", lambda: ogg_pages(40_000)),
    "Ogg: streams": ("audio/ogg", lambda: ogg_streams(20_000)),
    "XMP: entities": ("application/rdf+xml", lambda: ENTITIES),
    "XMP: deep": ("application/rdf+xml", lambda: sidecar(b"<a>" * (MIB - 100))),
    "XMP: elements": ("application/rdf+xml", lambda: sidecar(b"<a/>" * (MIB - 100))),
    "XMP: attributes": (
        "application/rdf+xml",
        lambda: sidecar(b"<a " + b" ".join(b"b%d='1,2'" % n for n in range(200_000)) + b"/>"),
    ),
    "XMP: a huge attribute": (
        "application/rdf+xml",
        lambda: sidecar(b"<a b='" + b"47.1, 13.2 " * 350_000 + b"'/>"),
    ),
    "XMP: open quotes": ("application/rdf+xml", lambda: sidecar(b"<a b='" * 600_000)),
    "XMP: comments": ("application/rdf+xml", lambda: sidecar(b"<!--" * 900_000)),
    "XMP: ampersands": ("application/rdf+xml", lambda: sidecar(b"<a>" + b"&#x26;" * 600_000 + b"</a>")),
    "XMP: digests": (
        "application/rdf+xml",
        lambda: long_packet(TIFF_NS + b">" + b"<t:NativeDigest/>" * 45_000),
    ),
    "XMP: namespaces, and children": (
        "application/rdf+xml",
        lambda: long_packet(
            b" ".join(b'xmlns:a%d="x"' % n for n in range(20_000)) + b">" + b'<a1:b xmlns:q="x"/>' * 20_000
        ),
    ),
    "XMP: attributes of a known namespace": (
        "application/rdf+xml",
        lambda: long_packet(TIFF_NS + b" " + b" ".join(b't:GPS%d=""' % n for n in range(99_000)) + b">"),
    ),
    "XMP: in a JPEG, again and again": ("image/jpeg", lambda: in_jpeg(xmp(b"<a/>" * 15_000))),
    "JSON: deep": ("application/x-location+json", lambda: TAKEOUT % (b"[" * (MIB - 200))),
    "JSON: deep objects": (
        "application/x-location+json",
        lambda: TAKEOUT % (b'{"a":' * 200_000 + b"1" + b"}" * 200_000)[: MIB - 200],
    ),
    "JSON: members": (
        "application/x-location+json",
        lambda: TAKEOUT % (b"{" + b",".join(b'"a%d":"1,2"' % n for n in range(50_000)) + b"}"),
    ),
    "JSON: escapes": ("application/x-location+json", lambda: TAKEOUT % (b'"' + b"\\u0031" * 170_000 + b'"')),
    "JSON: texts": (
        "application/x-location+json",
        lambda: b"[" + b",".join([b'{"title":"%s"}' % TELLING_TEXT[1:-1]] * 5) + b"]",
    ),
    "JSON: digits": ("application/x-location+json", lambda: TAKEOUT % (b"1" * 1_000_000)),
    "GIF: comments": (
        "image/gif",
        lambda: (
            b"GIF89a\1\0\1\0\0\0\0"
            + (b"!\xfe" + (b"\xff" + b"47.1, 13.2 " * 23 + b"ab") * 100 + b"\0") * 300
            + b";"
        ),
    ),
    "GIF: extensions": ("image/gif", lambda: b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\0" * 200_000 + b";"),
    **{f"{name}, sparse": (kind, lambda make=make: Sparse(make())) for name, (kind, make) in _HEADS.items()},  # type: ignore[misc]
}
"""Name of the trick -> the content kind, and what makes the file."""


def source_of(made: bytes | ByteSource) -> ByteSource:
    """What a maker made, as locators read it."""
    return MemorySource(made) if isinstance(made, bytes) else made
