"""Files in which a value is put into each part that may stay: parts of numbers, colours, settings of codecs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from policyfs.redact.exif.tags import EXIF_TABLE, MPF_TABLE, NESTED, POINTERS
from policyfs.redact.heif.properties import PROPERTIES
from policyfs.redact.isobmff.stsd import _CODEC
from policyfs.redact.matroska import tag_names
from policyfs.redact.matroska.tag_names import ELEMENTS, Form
from policyfs.redact.riff.info_list import NAMES as INFO_NAMES
from policyfs.redact.tags.id3_frames import FRAMES
from policyfs.redact.tags.iptc import _DATASETS, _RESOURCES
from tests.support.samples import heifs, jp2s, jpegs, matroskas, movies, pngs, sounds
from tests.support.samples.movies import box, full, u16, u32

UNDEFINED = 7


class Planted(NamedTuple):
    """A file with a value in one part. colours: True for a part of colours, which may look like digits."""

    name: str
    kind: str
    data: bytes
    colours: bool = False


def fitted(value: bytes, size: int) -> bytes:
    """The value, cut or filled with its first byte to a size."""
    return value[:size].ljust(size, value[:1])


def profile(value: bytes, kind: bytes = b"zzzz") -> bytes:
    """An ICC profile with the value in a tag of this type."""
    tag = kind + bytes(4) + value + bytes(-len(value) % 4)
    body = b"\0\0\0\1" + b"test" + u32(144, len(tag)) + tag
    head = u32(128 + len(body)) + bytes(32) + b"acsp"
    return head.ljust(128, b"\0") + body


def stills(value: bytes) -> Iterator[Planted]:
    """JPEG, PNG, GIF, BMP, WebP, JPEG 2000."""
    yield from _jpegs(value)
    yield from _pngs(value)
    yield from _others(value)


def _jpegs(value: bytes) -> Iterator[Planted]:
    def jpeg(*segments: bytes) -> bytes:
        return jpegs.with_segments(jpegs.plain(), *segments)

    for role in ("IFD", "ExifIFD"):
        for tag in EXIF_TABLE.rules[role].keys() - POINTERS.keys() - NESTED.keys():
            at = 8 if role == "IFD" else 64
            main = [jpegs.long("II", jpegs.EXIF_IFD, 64)]
            block = jpegs.tiff(
                "II",
                *([(8, jpegs.ifd("II", 8, main))] if at == 64 else []),
                (at, jpegs.ifd("II", at, [(tag, UNDEFINED, len(value), value)])),
            )
            yield Planted(f"EXIF {role} {tag:04x}", "image/jpeg", jpegs.photo_with(block))
    for tag in MPF_TABLE.rules["IFD"]:
        directory = jpegs.tiff("MM", (8, jpegs.ifd("MM", 8, [(tag, UNDEFINED, len(value), value)])))
        yield Planted(f"MPF {tag:04x}", "image/jpeg", jpeg(jpegs.segment(0xE2, b"MPF\0" + directory)))
    for number in sorted({*_RESOURCES, 2000, 2500, 2997, 0x03EC, 0x03FC, 0x0432}):
        size = -(-len(value) // 26) * 26 if 2000 <= number < 3000 else len(value)
        block = jpegs.resource(number, fitted(value, size) if size > len(value) else value)
        yield Planted(f"8BIM {number:04x}", "image/jpeg", jpeg(jpegs.photoshop_segment(block)))
    for part, datasets in _DATASETS.items():
        for number in datasets:
            block = jpegs.resource(0x0404, jpegs.record(part, number, value))
            yield Planted(f"IPTC {part}:{number}", "image/jpeg", jpeg(jpegs.photoshop_segment(block)))
    for kind in (b"zzzz", b"desc", b"curv", b"mft2", b"mAB "):
        icc = b"ICC_PROFILE\0\1\1" + profile(value, kind)
        yield Planted(f"JPEG ICC {kind!r}", "image/jpeg", jpeg(jpegs.segment(0xE2, icc)))
    thumbnail = b"JFIF\0\1\2\0\0\1\0\1\x28\x28" + fitted(value, 3 * 40 * 40)
    yield Planted("JFIF thumbnail", "image/jpeg", jpeg(jpegs.segment(0xE0, thumbnail)), colours=True)
    maps = b"urn:iso:std:iso:ts:21496:-1\0" + fitted(value[36:], 141)
    yield Planted("gain map", "image/jpeg", jpeg(jpegs.segment(0xE2, maps)))
    for number in range(4):
        table = bytes([0x10 | number]) + fitted(value[36:], 128)
        yield Planted(f"DQT {number}", "image/jpeg", jpeg(jpegs.segment(0xDB, table)), colours=True)
    symbols = bytes([0x10]) + bytes(15) + bytes([200]) + fitted(value[36:], 200)
    yield Planted("DHT", "image/jpeg", jpeg(jpegs.segment(0xC4, symbols)), colours=True)


def _pngs(value: bytes) -> Iterator[Planted]:
    for kind, (_, most, step) in pngs_sizes().items():
        data = fitted(value if len(value) <= most else value[36:], most // step * step)
        if kind not in (b"IHDR", b"CgBI", b"IEND"):
            made = pngs.plain(pngs.chunk(kind, data))
            yield Planted(f"PNG {kind!r}", "image/png", made, colours=kind in (b"PLTE", b"tRNS", b"hIST"))
    palette = b"name\0\x08" + fitted(value, -(-len(value) // 6) * 6)
    yield Planted("PNG sPLT", "image/png", pngs.plain(pngs.chunk(b"sPLT", palette)))
    for kind in (b"zzzz", b"mft2"):
        icc = b"name\0\0" + zlib.compress(profile(value, kind))
        yield Planted(f"PNG iCCP {kind!r}", "image/png", pngs.plain(pngs.chunk(b"iCCP", icc)))


def pngs_sizes() -> dict[bytes, tuple[int, int, int]]:
    from policyfs.redact.images.png import FIXED, TOLD

    return {**FIXED, **{kind: (size, size, 1) for kind, (size, _) in TOLD.items()}}


def _others(value: bytes) -> Iterator[Planted]:
    colours = fitted(value, 768)
    image = b",\0\0\0\0\1\0\1\0\x87" + colours + b"\2\2\x4c\1\0"
    yield Planted("GIF local", "image/gif", b"GIF89a\1\0\1\0\0\0\0" + image + b";", colours=True)
    whole = b"GIF89a\1\0\1\0\x87\0\0" + colours + b",\0\0\0\0\1\0\1\0\0\2\2\x4c\1\0;"
    yield Planted("GIF global", "image/gif", whole, colours=True)
    blocks = profile(value)
    parts = b"".join(bytes([len(p)]) + p for p in (blocks[i : i + 255] for i in range(0, len(blocks), 255)))
    extension = b"!\xff\x0bICCRGBG1012" + parts + b"\0"
    yield Planted("GIF ICC", "image/gif", b"GIF89a\1\0\1\0\0\0\0" + extension + whole[781:])
    for bits, used in ((8, 256), (24, 60_000)):
        table = fitted(value, 4 * used)
        head = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, bits, 0, 0, 0, 0, used, 0)
        pixels = bytes(4 * 4 * bits // 8)
        size = 14 + len(head) + len(table)
        bmp = b"BM" + struct.pack("<IHHI", size + len(pixels), 0, 0, size) + head + table + pixels
        yield Planted(f"BMP table of {bits} bits", "image/bmp", bmp, colours=bits == 8)
    chunk = sounds.chunk
    inside = (
        chunk(b"VP8X", b"\x20" + bytes(9))
        + chunk(b"ICCP", profile(value))
        + chunk(b"VP8L", b"\x2f" + bytes(9))
    )
    yield Planted("WebP ICCP", "image/webp", b"RIFF" + struct.pack("<I", len(inside) + 4) + b"WEBP" + inside)
    for kind in (
        b"creg",
        b"copt",
        b"opct",
        b"roid",
        b"rreq",
        b"drep",
        b"cmap",
        b"nlst",
        b"inst",
        b"bpcc",
        b"cdef",
    ):
        yield Planted(f"JP2 {kind!r}", "image/jp2", jp2s.jp2(box(kind, value)))
    yield Planted("JP2 pclr", "image/jp2", jp2s.jp2(box(b"jp2h", box(b"pclr", value))), colours=True)
    yield Planted("JP2 colr", "image/jp2", jp2s.jp2(box(b"jp2h", box(b"colr", b"\2\0\0" + profile(value)))))
    yield Planted("JP2 colr 1", "image/jp2", jp2s.jp2(box(b"jp2h", box(b"colr", b"\1\0\0" + value[36:96]))))
    for code in (*range(0x50, 0x5A), *range(0x5C, 0x62), 0x63, *range(0x70, 0x7C)):
        stream = jp2s.codestream(header=jp2s.marker(code, value))
        if code not in (0x57, 0x58, 0x60, 0x61):
            yield Planted(f"JPEG 2000 marker {code:02x}", "image/x-jp2-codestream", stream)
