"""ASF files (WMV, WMA) put together object by object.

HIDING holds files with a place where a lazy parser does not look.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from policyfs.redact.asf.objects import GUIDS
from tests.support.samples import jpegs

PLACE: Final = b"47.80453, 13.04229"
KIND: Final = "video/x-ms-asf"
PACKET_BYTES: Final = 160
UNKNOWN: Final = bytes(range(16))


def wide(text: bytes) -> bytes:
    """ASCII as UTF-16, with a zero at its end."""
    return text.decode("ascii").encode("utf-16-le") + b"\0\0"


WIDE: Final = wide(PLACE)


def made(name: str | bytes, *data: bytes, size: int = 0) -> bytes:
    """An object. name: in GUIDS, or a GUID."""
    body = b"".join(data)
    guid = GUIDS[name] if isinstance(name, str) else name
    return guid + struct.pack("<Q", size or 24 + len(body)) + body


def properties(*, file_id: bytes = bytes(16), packets: int = 1, size: int = PACKET_BYTES) -> bytes:
    numbers = struct.pack("<QQQQQQIIII", 0, 0, packets, 10_000_000, 10_000_000, 0, 2, size, size, 64_000)
    return made("file properties", file_id + numbers)


def stream(sort: str | bytes, settings: bytes, number: int, correction: bytes = b"") -> bytes:
    guid = GUIDS[sort] if isinstance(sort, str) else sort
    sizes = struct.pack("<QIIHI", 0, len(settings), len(correction), number, 0)
    return made("stream properties", guid, bytes(16), sizes, settings, correction)


def pictures(code: bytes = b"WMV2", settings: bytes = b"\1\2\3\4", number: int = 1) -> bytes:
    header = struct.pack("<IiiHH4s20x", 40 + len(settings), 64, 48, 1, 24, code) + settings
    return stream("pictures", struct.pack("<IIBH", 64, 48, 2, len(header)) + header, number)


def sound(code: int = 0x161, number: int = 2) -> bytes:
    settings = struct.pack("<HHIIHHH", code, 1, 44_100, 8_000, 371, 16, 10) + bytes(10)
    return stream("sound", settings, number, b"\1\x73\1\x73\1\1\0\0")


def titles(*texts: bytes) -> bytes:
    """Title, author, copyright, description and rating, in UTF-16."""
    parts = [*texts, *(b"",) * (5 - len(texts))]
    return made("content description", struct.pack("<5H", *map(len, parts)), *parts)


def extended(*values: tuple[bytes, int, bytes]) -> bytes:
    """Named values: name, type and data."""
    rows = [
        struct.pack("<H", len(wide(name))) + wide(name) + struct.pack("<HH", kind, len(data)) + data
        for name, kind, data in values
    ]
    return made("extended content description", struct.pack("<H", len(rows)), *rows)


def library(name: str, *values: tuple[bytes, int, bytes]) -> bytes:
    rows = [
        struct.pack("<HHHHI", 0, 1, len(wide(key)), kind, len(data)) + wide(key) + data
        for key, kind, data in values
    ]
    return made(name, struct.pack("<H", len(rows)), *rows)


def extension(*objects: bytes) -> bytes:
    body = b"".join(objects)
    return made("header extension", bytes(16) + b"\6\0" + struct.pack("<I", len(body)), body)


def cover(image: bytes, about: bytes = b"front") -> bytes:
    return b"\3" + struct.pack("<I", len(image)) + wide(b"image/jpeg") + wide(about) + image


def described(*, name: bytes = b"", system: bytes = b"", behind: bytes = b"") -> bytes:
    """Extended properties of a stream, with a name, a system of payloads and an object."""
    names = struct.pack("<HH", 0, len(name)) + name if name else b""
    systems = UNKNOWN + struct.pack("<HI", 2, len(system)) + system if system else b""
    counts = struct.pack("<HHQHH", 1, 0, 0, bool(name), bool(system))
    return made("extended stream properties", bytes(48), counts, names, systems, behind)


def codecs(name: bytes = b"Windows Media Video V8", about: bytes = b"") -> bytes:
    texts = b"".join(struct.pack("<H", len(text) // 2) + text for text in (wide(name), wide(about)))
    return made("codec list", bytes(16) + struct.pack("<IH", 1, 1), texts, struct.pack("<H", 4) + b"WMV2")


def packet(
    *payloads: tuple[int, bytes], padding: bytes = b"", more: bytes = b"", corrected: bytes = b"\0\0"
) -> bytes:
    """A packet of payloads: number of the stream, and data. more: further data in each payload's header."""
    rows = b"".join(
        bytes([number, 1]) + struct.pack("<IBII", 0, 8 + len(more), len(data), 0) + more
        + struct.pack("<H", len(data)) + data
        for number, data in payloads
    )  # fmt: skip
    fixed = 1 + len(corrected) + 2 + 2 + 6 + 1
    room = PACKET_BYTES - fixed - len(rows)
    assert room >= 0
    head = bytes([0x80 | len(corrected)]) + corrected + b"\x11\x5d" + struct.pack("<HIH", room, 0, 40)
    return head + bytes([0x80 | len(payloads)]) + rows + padding.ljust(room, b"\0")


FRAMES: Final = packet((0x81, b"picture" * 4), (2, b"sound" * 4))


def asf(
    *more: bytes, streams: bytes = b"", packets: bytes = FRAMES, behind: bytes = b"",
    file_id: bytes = bytes(16), in_data: bytes = bytes(16),
) -> bytes:  # fmt: skip
    """A film. more: further objects of its header."""
    objects = [properties(file_id=file_id, packets=len(packets) // PACKET_BYTES)]
    objects += [streams or pictures() + sound(), *more]
    header = made("header", struct.pack("<IBB", len(objects), 1, 2), *objects)
    numbers = in_data + struct.pack("<QH", len(packets) // PACKET_BYTES, 0x101)
    return header + made("data", numbers, packets) + behind


_PHOTO: Final = jpegs.photo_with(jpegs.exif("MM"))
HIDING: Final[dict[str, Callable[[], bytes]]] = {
    "the title": lambda: asf(titles(wide(b"at " + PLACE))),
    "the description": lambda: asf(titles(wide(b"a"), b"", b"", WIDE)),
    "behind the titles": lambda: asf(made("content description", bytes(10), PLACE)),
    "attributes of a place": lambda: asf(
        extended((b"WM/GPSLatitude", 0, WIDE), (b"WM/Genre", 0, wide(b"Folk")))
    ),
    "an attribute of bytes": lambda: asf(extended((b"WM/MCDI", 1, PLACE))),
    "a genre": lambda: asf(extended((b"WM/Genre", 0, WIDE))),
    "a number that is too long": lambda: asf(extended((b"IsVBR", 2, PLACE))),
    "behind the attributes": lambda: asf(made("extended content description", bytes(2), PLACE)),
    "attributes that are cut off": lambda: asf(made("extended content description", b"\7\0", PLACE)),
    "a name of an attribute": lambda: asf(extended((PLACE, 3, bytes(4)))),
    "a place in a known name": lambda: asf(extended((b"Comment " + PLACE, 3, bytes(4)))),
    "the head of the extension": lambda: asf(made("header extension", PLACE.ljust(22))),
    "metadata": lambda: asf(extension(library("metadata", (b"City", 0, WIDE)))),
    "the library": lambda: asf(extension(library("metadata library", (b"WM/Lyrics", 0, WIDE)))),
    "a cover": lambda: asf(extended((b"WM/Picture", 1, cover(_PHOTO, PLACE)))),
    "script commands": lambda: asf(made(UNKNOWN, WIDE)),
    "a marker": lambda: asf(made("marker", bytes(24), WIDE)),
    "padding": lambda: asf(made("padding", PLACE)),
    "padding of the extension": lambda: asf(extension(made("padding", PLACE))),
    "a codec's name": lambda: asf(codecs(about=b"at " + PLACE)),
    "behind the codecs": lambda: asf(made("codec list", bytes(20), PLACE)),
    "no list of codecs": lambda: asf(made("codec list", PLACE)),
    "a language": lambda: asf(extension(made("languages", b"\1\0" + bytes([len(WIDE)]), WIDE))),
    "the name of a stream": lambda: asf(extension(described(name=WIDE))),
    "a system of payloads": lambda: asf(extension(described(system=PLACE))),
    "behind a description": lambda: asf(extension(described(behind=PLACE))),
    "numbers of streams": lambda: asf(made("stream bitrates", PLACE)),
    "an extension of an extension": lambda: asf(extension(extension(made("padding", PLACE)))),
    "an object that is cut off": lambda: asf(made(UNKNOWN, PLACE, size=999)),
    "a stream of commands": lambda: asf(
        streams=pictures() + stream(UNKNOWN, PLACE, 3), packets=packet((1, b"picture"), (3, WIDE))
    ),
    "payloads of no stream": lambda: asf(packets=packet((1, b"picture"), (9, PLACE))),
    "padding of a packet": lambda: asf(packets=packet((1, b"picture"), padding=PLACE)),
    "the header of a payload": lambda: asf(packets=packet((1, b"picture"), more=PLACE)),
    "correction of errors": lambda: asf(packets=packet((1, b"picture"), corrected=b"47.80453, 13.04")),
    "the id of the file": lambda: asf(file_id=b"47.80453,13.0422"),
    "the id in the data": lambda: asf(in_data=b"47.80453,13.0422"),
    "behind the packets": lambda: asf(packets=FRAMES + PLACE),
    "an index": lambda: asf(behind=made("simple index", PLACE)),
    "an unknown object behind": lambda: asf(behind=made(UNKNOWN, PLACE)),
    "behind the objects": lambda: asf(behind=PLACE),
}

PLAIN: Final = (
    asf(),
    asf(
        *(titles(wide(b"a quince"), wide(b"Rosa")), codecs()),
        extended((b"WM/Genre", 0, wide(b"Folk")), (b"IsVBR", 2, bytes(4)), (b"WM/Year", 0, wide(b"2001"))),
        extension(
            made("languages", b"\1\0\x0c", wide(b"en-us")),
            *(made("compatibility", b"\2\0"), library("metadata", (b"IsVBR", 2, bytes(2)))),
            *(described(name=wide(b"a name")), described(behind=b"")),
        ),
        made("stream bitrates", b"\1\0\1\0\0\xfa\0\0"),
        behind=made("simple index", bytes(32)),
    ),
)
