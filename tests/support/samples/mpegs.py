"""MPEG transport streams and program streams put together packet by packet.

TRANSPORT_HIDING and PROGRAM_HIDING hold files with a place where a lazy parser does not look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from policyfs.redact.mpeg.sections import checksum

PLACE: Final = b"47.80453, 13.04229"
TS, PS = "video/mp2t", "video/mpeg"
TABLE_PID, VIDEO_PID, SOUND_PID, DATA_PID = 0x100, 0x1011, 0x1100, 0x1200
AVC_TYPE, SOUND_TYPE, DATA_TYPE = 0x1B, 0x0F, 0x15
MDPM: Final = bytes.fromhex("17ee8c60f84d11d98cd60800200c9a66") + b"MDPM"
GPS: Final = (
    *(b"\xb0\2\3\0\0", b"\xb1N\0\0\0", b"\xb2\0\x2f\0\1", b"\xb3\0\x30\0\1", b"\xb4\x3f\x2e\0\x7b"),
    *(b"\xb5E\0\0\0", b"\xb6\0\x0d\0\1", b"\xb7\0\2\0\1", b"\xb8\x7f\x5c\0\x3d"),
)
"""Entries of MDPM with a position. The numbers are in PLACE_NUMBERS, too."""
PLACE_NUMBERS: Final = b"\x3f\x2e\0\x7b"
EXPOSED: Final = b"\xa0\0\1\0\x19"


def start(unit: bytes) -> bytes:
    return b"\0\0\0\1" + unit


def sei(payload: bytes, kind: int = 5) -> bytes:
    """A message of H.264."""
    size = b"\xff" * (len(payload) // 255) + bytes([len(payload) % 255])
    return start(b"\x06" + bytes([kind]) + size + payload + b"\x80")


def mdpm(*entries: bytes) -> bytes:
    """A message of a camcorder."""
    return sei(MDPM + bytes([len(entries)]) + b"".join(entries))


AUD: Final = start(b"\x09\xf0")
SETTINGS: Final = start(b"\x67\x42\xc0\x1e\xda\x02\x80") + start(b"\x68\xce\x06\xe2")
SLICE: Final = start(b"\x65\x88" + b"slice of a picture" * 8)
PICTURE: Final = AUD + SETTINGS + SLICE
NOTE: Final = sei(bytes(range(128, 144)) + b"at " + PLACE)
MPEG_PICTURE: Final = (
    b"\0\0\1\xb3\x14\0\xc8\x11\xff\xff\xe0\xa4" + b"\0\0\1\0\0\x0f\xff\xf8\0\0\1\1" + b"#\xf0" * 40
)
USER_DATA: Final = b"\0\0\1\xb2at " + PLACE
SOUND: Final = b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(range(8))


# --- transport streams ---


def packet(
    pid: int, payload: bytes, *, begins: bool = False, field: bytes | None = None, flags: int = 0
) -> bytes:
    """A packet. field: its adaptation field, from the flags on; made longer if the payload is short."""
    room = 184 - len(payload) - (0 if field is None else 1 + len(field))
    assert room >= 0
    if room:
        field = b"" if field is None and room == 1 else (field or b"\0")
        field = field.ljust(183 - len(payload), b"\xff")
    control = (0x10 * bool(payload)) | (0x20 * (field is not None)) | flags
    head = bytes([0x47, begins << 6 | pid >> 8, pid & 0xFF, control])
    return head + (b"" if field is None else bytes([len(field)]) + field) + payload


def packets(pid: int, payload: bytes, size: int = 184) -> bytes:
    """A payload in packets, the last of which may be short. size: bytes in each."""
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    return b"".join(packet(pid, part, begins=not number) for number, part in enumerate(parts))


def section(table: int, body: bytes) -> bytes:
    """A section with its checksum."""
    data = bytes([table]) + (0xB000 | (len(body) + 4)).to_bytes(2) + body
    return data + checksum(data)


def tables(pid: int, *sections: bytes, behind: bytes = b"") -> bytes:
    return packet(pid, (b"\0" + b"".join(sections) + behind).ljust(184, b"\xff"), begins=True)


def descriptor(tag: int, body: bytes) -> bytes:
    return bytes([tag, len(body)]) + body


def pat(*pids: int) -> bytes:
    listed = b"".join(bytes([0, n + 1]) + (0xE000 | pid).to_bytes(2) for n, pid in enumerate(pids))
    return section(0, b"\0\1\xc1\0\0" + listed)


def pmt(*streams: tuple[int, int, bytes], info: bytes = b"") -> bytes:
    """The table of a program. streams: type, PID and descriptors."""
    rows = [
        bytes([kind]) + (0xE000 | pid).to_bytes(2) + (0xF000 | len(more)).to_bytes(2) + more
        for kind, pid, more in streams
    ]
    head = b"\0\1\xc1\0\0" + (0xE000 | VIDEO_PID).to_bytes(2) + (0xF000 | len(info)).to_bytes(2)
    return section(2, head + info + b"".join(rows))


STREAMS: Final = (
    (AVC_TYPE, VIDEO_PID, b""),
    (SOUND_TYPE, SOUND_PID, descriptor(0x0A, b"ger\0")),
    (DATA_TYPE, DATA_PID, b""),
)


def sdt(name: bytes) -> bytes:
    body = b"\1" + bytes([6]) + b"FFmpeg" + bytes([len(name)]) + name
    service = descriptor(0x48, body)
    return section(
        0x42, b"\0\1\xc1\0\0\xff\1\xff" + b"\0\1\xfc" + (0x8000 | len(service)).to_bytes(2) + service
    )


def pes(code: int, data: bytes, *, flags: int = 0, fields: bytes = b"", sized: bool = False) -> bytes:
    """A PES packet with the fields behind its flags. sized: True if one of pictures states its length."""
    length = 0 if code >= 0xE0 and not sized else 3 + len(fields) + len(data)
    return b"\0\0\1" + bytes([code]) + length.to_bytes(2) + bytes([0x80, flags, len(fields)]) + fields + data


def ts(
    *more: bytes, picture: bytes = PICTURE, table: bytes = b"", names: bytes = b"policyfs", size: int = 184,
    clock: bytes = b"",
) -> bytes:  # fmt: skip
    """A transport stream of two pictures and some sound. more: packets between them."""
    table = table or pmt(*STREAMS)
    parts = [
        tables(0x11, sdt(names)),
        tables(0, pat(TABLE_PID)),
        tables(TABLE_PID, table),
        packets(VIDEO_PID, pes(0xE0, picture), size),
        packets(SOUND_PID, pes(0xC0, SOUND * 5)),
        *more,
        packets(VIDEO_PID, pes(0xE0, PICTURE)),
    ]
    data = b"".join(parts)
    return b"".join(clock + data[at : at + 188] for at in range(0, len(data), 188))


_EXTENDED: Final = b"\0\0" + PLACE.ljust(20)
TRANSPORT_HIDING: Final[dict[str, Callable[[], bytes]]] = {
    "a message": lambda: ts(picture=NOTE + PICTURE),
    "a message in small packets": lambda: ts(picture=AUD + NOTE + PICTURE, size=20),
    "a message of an M2TS": lambda: ts(picture=AUD + NOTE + PICTURE, size=20, clock=b"\1\2\3\4"),
    "before the first picture": lambda: ts(picture=PLACE + PICTURE),
    "packets before the first start": lambda: tables(0, pat(TABLE_PID)) + packet(VIDEO_PID, PLACE) + ts(),
    "a stream of data": lambda: ts(packets(DATA_PID, pes(0xFC, PLACE * 20))),
    "a stream that no table lists": lambda: ts(packets(0x1E4, PLACE * 20)),
    "packets without data": lambda: ts(packet(0x1FFF, PLACE.ljust(184, b"x"))),
    "the table of events": lambda: ts(tables(0x12, section(0x4E, b"\0\1\xc1\0\0" + PLACE))),
    "the name of the service": lambda: ts(names=b"at " + PLACE),
    "behind a section": lambda: ts(tables(0, pat(TABLE_PID), behind=b"\xff" + PLACE)),
    "a section that goes on": lambda: ts(tables(0, b"\0\xb0\xff" + PLACE)),
    "a section of an unknown table": lambda: ts(tables(TABLE_PID, section(0x99, PLACE))),
    "a section with a wrong checksum": lambda: ts(
        tables(TABLE_PID, pmt(*STREAMS)[:-1] + b"x", section(3, PLACE))
    ),
    "an unknown descriptor": lambda: ts(table=pmt(*STREAMS, info=descriptor(0xF0, PLACE))),
    "a long descriptor": lambda: ts(
        table=pmt(*STREAMS[1:], (AVC_TYPE, VIDEO_PID, descriptor(5, b"HDMV" + PLACE)))
    ),
    "private data of an adaptation field": lambda: ts(
        packet(VIDEO_PID, b"", field=b"\2" + bytes([len(PLACE)]) + PLACE)
    ),
    "stuffing of an adaptation field": lambda: ts(packet(VIDEO_PID, b"", field=b"\0" + PLACE)),
    "extension of an adaptation field": lambda: ts(packet(VIDEO_PID, b"", field=b"\1\x1f\x1f" + PLACE)),
    "behind an adaptation field": lambda: ts(
        bytes([0x47, VIDEO_PID >> 8, VIDEO_PID & 0xFF, 0x20, 1, 0]) + PLACE.ljust(182)
    ),
    "private data of a packet header": lambda: ts(
        packets(VIDEO_PID, pes(0xE0, PICTURE, flags=1, fields=b"\x80" + PLACE[:16] + PLACE))
    ),
    "stuffing of a packet header": lambda: ts(packets(VIDEO_PID, pes(0xE0, PICTURE, fields=PLACE))),
    "extension of a packet header": lambda: ts(
        packets(VIDEO_PID, pes(0xE0, PICTURE, flags=1, fields=b"\x01" + bytes([0x80 + len(PLACE)]) + PLACE))
    ),
    "behind the packets": lambda: ts() + PLACE,
    "behind three packets": lambda: ts(table=pmt((AVC_TYPE, VIDEO_PID, b"")))[188 : 188 * 4] + b"G" + PLACE,
    "a last packet that is none": lambda: ts() + PLACE.ljust(188),
}


# --- program streams ---

PACK: Final = b"\0\0\1\xba\x44\0\4\0\4\1\0\0\3\xf8"
OLD_PACK: Final = b"\0\0\1\xba\x21\0\1\0\1\x80\0\1"
SYSTEM: Final = b"\0\0\1\xbb\0\x0c\x80\0\1\4\xe1\xff\xe0\xe0\xe8\xc0\xc0\x20"


def ps(*more: bytes, picture: bytes = MPEG_PICTURE, pack: bytes = PACK, size: int = 2000) -> bytes:
    """A program stream of pictures and sound. size: bytes of the pictures in each packet."""
    return b"".join(
        (
            *(pack, SYSTEM, *_in_packets(picture * 2, size), pack, pes(0xC0, b"\xff\xfd" + SOUND * 5)),
            *(*more, pack, *_in_packets(MPEG_PICTURE, size), b"\0\0\1\xb9"),
        )
    )


def _in_packets(data: bytes, size: int) -> Iterator[bytes]:
    return (pes(0xE0, data[at : at + size], sized=True) for at in range(0, len(data), size))


def other(code: int, data: bytes) -> bytes:
    """A packet without a header of clocks."""
    return b"\0\0\1" + bytes([code]) + len(data).to_bytes(2) + data


def old(code: int, data: bytes) -> bytes:
    """A packet of MPEG-1."""
    return other(code, b"\xff\xff\x60\x20\x21\0\1\0\1" + data)


def stream_map(*rows: tuple[int, int, bytes], info: bytes = b"") -> bytes:
    listed = b"".join(bytes([kind, code]) + len(more).to_bytes(2) + more for kind, code, more in rows)
    body = b"\xe0\xff" + len(info).to_bytes(2) + info + len(listed).to_bytes(2) + listed
    data = b"\0\0\1\xbc" + (len(body) + 4).to_bytes(2) + body
    return data + checksum(data)


def old_ps(*more: bytes) -> bytes:
    """A system stream of MPEG-1."""
    return b"".join(
        (OLD_PACK, SYSTEM, old(0xE0, USER_DATA + MPEG_PICTURE), old(0xC0, b"\xff\xfd" + SOUND), *more)
    )


PROGRAM_HIDING: Final[dict[str, Callable[[], bytes]]] = {
    "user data": lambda: ps(picture=USER_DATA + MPEG_PICTURE),
    "user data in small packets": lambda: ps(picture=MPEG_PICTURE + USER_DATA, size=11),
    "user data of MPEG-1": old_ps,
    "a message of H.264": lambda: ps(picture=AUD + NOTE + PICTURE).replace(MPEG_PICTURE, PICTURE),
    "subtitles": lambda: ps(pes(0xBD, b"\x20" + PLACE)),
    "private data": lambda: ps(other(0xBF, b"\0" + PLACE.ljust(979))),
    "menus of a DVD with a place": lambda: ps(other(0xBF, b"\1" + PLACE.ljust(1017, b"\0"))),
    "padding": lambda: ps(other(0xBE, b"\xff" + PLACE)),
    "a system header": lambda: ps(other(0xBB, SYSTEM[6:] + PLACE)),
    "a map": lambda: ps(stream_map((2, 0xE0, b""), info=descriptor(0xF0, PLACE))),
    "a map that is none": lambda: ps(other(0xBC, PLACE)),
    "a directory": lambda: ps(other(0xFF, PLACE)),
    "metadata": lambda: ps(other(0xFC, PLACE)),
    "private data of a packet header": lambda: ps(
        pes(0xE0, MPEG_PICTURE, flags=1, fields=b"\x80" + PLACE[:16] + PLACE, sized=True)
    ),
    "stuffing of a pack": lambda: ps(pack=PACK[:-1] + b"\xff" + PLACE[:7]),
    "behind the packets": lambda: ps() + PLACE,
    "pictures without packets": lambda: MPEG_PICTURE + USER_DATA + MPEG_PICTURE,
}


def plain(kind: str) -> Sequence[bytes]:
    """Files of a kind in which nothing tells a place."""
    if kind == TS:
        return ts(picture=AUD + mdpm(EXPOSED) + PICTURE), ts(clock=b"\0\1\2\3"), ts(size=9)
    return ps(), ps(stream_map((2, 0xE0, b""), (3, 0xC0, descriptor(0x0A, b"ger\0")))), MPEG_PICTURE * 3
