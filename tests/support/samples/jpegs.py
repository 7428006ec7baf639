"""JPEGs put together byte by byte, and what to look for in them: builders for tests of redaction.

All places in them are media.HOME, so that one search for leaks serves every test.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.support.samples import exiftool as kept
from tests.support.samples.media import HOME, picture

APP1: Final = 0xE1
APP2: Final = 0xE2
APP13: Final = 0xED
COM: Final = 0xFE
SOI: Final = b"\xff\xd8"
EOI: Final = b"\xff\xd9"
XMP_HEADER: Final = b"http://ns.adobe.com/xap/1.0/\0"
XMP_MORE_HEADER: Final = b"http://ns.adobe.com/xmp/extension/\0"

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
EXIF_IFD, GPS_IFD, SUB_IFDS, INTEROP_IFD = 0x8769, 0x8825, 0x014A, 0xA005
LATITUDE: Final = (47, 1, 48, 1, 163116, 10000)
LONGITUDE: Final = (13, 1, 2, 1, 322332, 10000)
TEXT_COORDINATES: Final = f"{HOME.latitude}, {HOME.longitude}"

Entry = tuple[int, int, int, bytes]
"""Tag, type, count, value (inline if at most 4 bytes)."""


def segment(code: int, payload: bytes) -> bytes:
    """A marker segment with a true length."""
    return b"\xff" + bytes([code]) + (len(payload) + 2).to_bytes(2) + payload


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """The JPEG with segments right behind SOI."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


@cache
def plain(seed: int = 1, size: int = 48) -> bytes:
    """A small JPEG as an encoder writes it: a JFIF segment and a picture."""
    with TemporaryDirectory() as directory:
        return picture(Path(directory) / "p.jpg", width=size, height=size, seed=seed).read_bytes()


def pack(order: str, *numbers: int, size: int = 4) -> bytes:
    """Numbers of size bytes in a TIFF's byte order (II or MM)."""
    return b"".join(n.to_bytes(size, "little" if order == "II" else "big") for n in numbers)


def ifd(order: str, at: int, entries: Iterable[Entry], following: int = 0) -> bytes:
    """A directory at an offset of its TIFF; long values follow it."""
    entries = sorted(entries, key=lambda e: e[0])
    head, values = pack(order, len(entries), size=2), b""
    start = at + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        head += pack(order, tag, kind, size=2) + pack(order, count)
        if len(value) <= 4:
            head += value.ljust(4, b"\0")
        else:
            head += pack(order, start + len(values))
            values += value + b"\0" * (len(value) % 2)
    return head + pack(order, following) + values


def long(order: str, tag: int, *numbers: int) -> Entry:
    return (tag, LONG, len(numbers), pack(order, *numbers))


def text(tag: int, value: str) -> Entry:
    return (tag, ASCII, len(value) + 1, value.encode() + b"\0")


def gps(order: str) -> list[Entry]:
    """What a GPS directory holds."""
    return [
        (0, BYTE, 4, b"\2\3\0\0"),
        (1, ASCII, 2, b"N\0"),
        (2, RATIONAL, 3, pack(order, *LATITUDE)),
        (3, ASCII, 2, b"E\0"),
        (4, RATIONAL, 3, pack(order, *LONGITUDE)),
        (0x1C, UNDEFINED, 8 + len(HOME.city), b"ASCII\0\0\0" + HOME.city.encode()),
    ]


def tiff(order: str, *blocks: tuple[int, Callable[[int], bytes] | bytes]) -> bytes:
    """A TIFF of blocks at the offsets given; the first directory is at 8."""
    out = bytearray(order.encode() + pack(order, 42, size=2) + pack(order, 8))
    for at, block in blocks:
        data = block if isinstance(block, bytes) else block(at)
        assert len(out) <= at, f"block at {at} overlaps the one before, which ends at {len(out)}"
        out += b"\0" * (at - len(out)) + data
    return bytes(out)


def exif(order: str = "II", *, more: Iterable[Entry] = (), place: bool = True) -> bytes:
    """An ordinary EXIF structure: a camera's name, a date, and a GPS directory."""
    main = [text(0x010F, "Testmaker"), text(0x0110, "Modell 7"), long(order, EXIF_IFD, 0x200), *more]
    if place:
        main.append(long(order, GPS_IFD, 0x300))
    blocks = [
        (8, ifd(order, 8, main)),
        (0x200, ifd(order, 0x200, [text(0x9003, "2024:05:17 11:22:33")])),
    ]
    if place:
        blocks.append((0x300, ifd(order, 0x300, gps(order))))
    return tiff(order, *blocks)


def exif_segment(block: bytes) -> bytes:
    return segment(APP1, b"Exif\0\0" + block)


def photo_with(block: bytes) -> bytes:
    """A small JPEG with this TIFF as its EXIF."""
    return with_segments(plain(), exif_segment(block))


def xmp_packet(properties: str, *, attributes: str = "", encoding: str = "utf-8") -> bytes:
    """An XMP packet around properties in element form and attributes of its Description."""
    namespaces = {
        "dc": "http://purl.org/dc/elements/1.1/",
        "exif": "http://ns.adobe.com/exif/1.0/",
        "photoshop": "http://ns.adobe.com/photoshop/1.0/",
        "xmp": "http://ns.adobe.com/xap/1.0/",
        "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
        "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "drone-dji": "http://www.dji.com/drone-dji/1.0/",
        "xmpNote": "http://ns.adobe.com/xmp/note/",
    }
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in namespaces.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        f'<rdf:Description rdf:about="" {declared} xmp:Rating="4" {attributes}>\n'
        f"<dc:format>image/jpeg</dc:format>{properties}</rdf:Description>\n"
        '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
    ).encode(encoding)


def xmp_segment(packet: bytes) -> bytes:
    return segment(APP1, XMP_HEADER + packet)


def more_xmp_segments(packet: bytes, size: int) -> tuple[str, list[bytes]]:
    """An extended XMP packet cut into segments of size bytes each; its digest and those."""
    digest = hashlib.md5(packet).hexdigest().upper()
    head = XMP_MORE_HEADER + digest.encode() + len(packet).to_bytes(4)
    return digest, [
        segment(APP1, head + at.to_bytes(4) + packet[at : at + size]) for at in range(0, len(packet), size)
    ]


def record(number: int, dataset: int, value: bytes) -> bytes:
    """One IPTC-IIM record."""
    return bytes([0x1C, number, dataset]) + len(value).to_bytes(2) + value


def iptc_place() -> bytes:
    """IPTC records, some of which tell a place."""
    return b"".join(
        [
            record(2, 0, b"\0\4"),
            record(2, 27, HOME.city.encode()),
            record(2, 80, b"Rosa Kamera"),
            record(2, 90, HOME.city.encode()),
            record(2, 92, HOME.sublocation.encode()),
            record(2, 95, HOME.state.encode()),
            record(2, 101, HOME.country.encode()),
            record(2, 120, b"a quince"),
        ]
    )


def resource(number: int, data: bytes, name: bytes = b"") -> bytes:
    """One Photoshop image resource block."""
    pascal = bytes([len(name)]) + name
    head = b"8BIM" + number.to_bytes(2) + pascal + b"\0" * (len(pascal) % 2)
    return head + len(data).to_bytes(4) + data + b"\0" * (len(data) % 2)


def photoshop_segment(block: bytes) -> bytes:
    return segment(APP13, b"Photoshop 3.0\0" + block)


def mpf_segment(order: str, offsets: Iterable[tuple[int, int]], mpf_at: int) -> bytes:
    """A multi-picture directory; offsets and sizes of images in the file, it itself at mpf_at."""
    base = mpf_at + 8  # marker, length, "MPF\0"
    images = b"".join(
        pack(order, 0, size, offset - base if offset else 0) + pack(order, 0, 0, size=2)
        for offset, size in offsets
    )
    entries = [
        (0xB000, UNDEFINED, 4, b"0100"),
        long(order, 0xB001, len(images) // 16),
        (0xB002, UNDEFINED, len(images), images),
    ]
    return segment(APP2, b"MPF\0" + tiff(order, (8, ifd(order, 8, entries))))


def needles() -> dict[str, bytes]:
    """What a leaked place looks like in bytes, in every encoding these builders use."""
    found: dict[str, bytes] = {}
    texts = [*HOME.names, str(HOME.latitude), str(HOME.longitude), "47,48.27", "13,2.53", "48.27186"]
    for word in texts:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"):
            found[f"{word} ({encoding})"] = word.encode(encoding)
        found[f"{word} (entities)"] = "".join(f"&#{ord(c)};" for c in word).encode()
    for order in ("II", "MM"):
        found[f"latitude {order}"] = pack(order, *LATITUDE[:4])
        found[f"longitude {order}"] = pack(order, *LONGITUDE[:4])
        found[f"seconds {order}"] = pack(order, *LATITUDE[4:])
    return found


def leaks(data: bytes) -> list[str]:
    """Names of the needles that are in the bytes."""
    return [name for name, needle in needles().items() if needle in data]


@functools.lru_cache(maxsize=2)  # a photo and what is shown of it, again and again
def pixels(data: bytes) -> bytes:
    """The picture as djpeg (libjpeg) decodes it, as far as it gets. AssertionError if nowhere. Warnings and
    errors behind the picture do not count: viewers show it all the same."""
    done = subprocess.run(["djpeg", "-pnm"], input=data, capture_output=True, check=False, timeout=30)
    assert done.stdout, done.stderr
    return done.stdout


def exiftool(*paths: Path) -> list[dict[str, object]]:
    """All tags that exiftool finds, by group and name, duplicates and embedded files too."""
    done = kept.run("-a", "-u", "-U", "-ee", "-n", "-G3:1", "-j", *map(str, paths))
    answer: list[dict[str, object]] = json.loads(done.stdout)
    return answer
