"""Sound files put together byte by byte, with a place where a lazy parser does not look: threats A5.

CASES holds whole files that each hold media.HOME's city (or its coordinates), PLAIN files without
anything to hide.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable
from typing import Final

from tests.support.samples import jpegs
from tests.support.samples.media import HOME

CITY: Final = HOME.city.encode()
PLACE: Final = b"47.80453, 13.04229"
LOCATION: Final = b"LOCATION=" + CITY


def picture() -> bytes:
    """A JPEG with a place in its EXIF."""
    return jpegs.photo_with(jpegs.exif("MM"))


# --- MP3 ---


def syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def frame(name: str, data: bytes, flags: int = 0, version: int = 3) -> bytes:
    """An ID3v2 frame."""
    if version == 2:
        return name.encode() + len(data).to_bytes(3) + data
    size = syncsafe(len(data)) if version == 4 else len(data).to_bytes(4)
    return name.encode() + size + flags.to_bytes(2) + data


def id3(*frames: bytes, version: int = 3, flags: int = 0, padding: int = 0, extra: bytes = b"") -> bytes:
    """An ID3v2 tag; with a footer where the flags say so."""
    body = extra + b"".join(frames) + bytes(padding)
    head = bytes([version, 0, flags]) + syncsafe(len(body))
    return b"ID3" + head + body + (b"3DI" + head if flags & 0x10 else b"")


def words(name: str, value: bytes) -> bytes:
    """A frame of text in Latin-1."""
    return frame(name, b"\0" + value)


def user(name: bytes, value: bytes) -> bytes:
    """A TXXX frame."""
    return frame("TXXX", b"\0" + name + b"\0" + value)


def apic(image: bytes, about: bytes = b"front") -> bytes:
    return frame("APIC", b"\0image/jpeg\0\3" + about + b"\0" + image)


def sound(count: int = 5) -> bytes:
    """Frames of MPEG 1 layer 3, 128 kbit/s, 44.1 kHz."""
    return (b"\xff\xfb\x90\xc4" + bytes(range(1, 200)) + bytes(214)) * count


def old(title: bytes = b"Quince", year: bytes = b"2024", comment: bytes = b"") -> bytes:
    """An ID3v1 tag."""
    return b"TAG" + title.ljust(30, b"\0") + bytes(60) + year + comment.ljust(30, b"\0") + b"\1"


def ape(*items: tuple[bytes, bytes], kind: int = 0, header: bool = True) -> bytes:
    """An APEv2 tag."""
    made = [len(v).to_bytes(4, "little") + bytes([kind << 1, 0, 0, 0]) + k + b"\0" + v for k, v in items]
    body = b"".join(made)
    size, count = (len(body) + 32).to_bytes(4, "little"), len(items).to_bytes(4, "little")

    def end(flag: int) -> bytes:
        return b"APETAGEX" + (2000).to_bytes(4, "little") + size + count + bytes([0, 0, 0, flag]) + bytes(8)

    return (end(0xA0) if header else b"") + body + end(0x80 if header else 0)


def lyrics(text: bytes) -> bytes:
    body = b"LYRICSBEGINLYR%05d" % len(text) + text
    return body + b"%06dLYRICS200" % len(body)


# --- FLAC ---


def crc(data: bytes, polynomial: int, bits: int) -> int:
    """A checksum bit by bit."""
    value = 0
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> (bits - 1) & 1 else 0)
    return value & ((1 << bits) - 1)


def flac_frame() -> bytes:
    """16 samples of silence."""
    head = b"\xff\xf8\x69\x08\0\x0f"
    body = head + bytes([crc(head, 0x107, 8)]) + b"\0\x12\x34"
    return body + crc(body, 0x18005, 16).to_bytes(2)


def comments(*texts: bytes, vendor: bytes = b"quill") -> bytes:
    """A Vorbis comment list."""
    listed = (len(text).to_bytes(4, "little") + text for text in texts)
    head = len(vendor).to_bytes(4, "little") + vendor + len(texts).to_bytes(4, "little")
    return head + b"".join(listed)


def picture_block(image: bytes, about: bytes = b"front") -> bytes:
    sizes = (3).to_bytes(4) + (10).to_bytes(4) + b"image/jpeg" + len(about).to_bytes(4) + about + bytes(16)
    return sizes + len(image).to_bytes(4) + image


def flac(*blocks: tuple[int, bytes], before: bytes = b"", behind: bytes = b"") -> bytes:
    """A FLAC file; blocks: (type, content) of those behind the first."""
    info = b"\0\x10\0\x10" + bytes(6) + b"\x0a\xc4\x40\xf0\0\0\0\x10" + bytes(16)
    parts = [(0, info), *blocks]
    out = before + b"fLaC"
    for number, (kind, data) in enumerate(parts):
        last = 0x80 if number == len(parts) - 1 else 0
        out += bytes([kind | last]) + len(data).to_bytes(3) + data
    return out + flac_frame() + behind


# --- Ogg ---


def page(serial: int, number: int, flags: int, lacing: bytes, body: bytes) -> bytes:
    head = b"OggS\0" + bytes([flags]) + bytes(8) + serial.to_bytes(4, "little") + number.to_bytes(4, "little")
    whole = head + bytes(4) + bytes([len(lacing)]) + lacing + body
    return whole[:22] + crc(whole, 0x104C11DB7, 32).to_bytes(4, "little") + whole[26:]


def pages(serial: int, *packets: bytes, most: int = 255) -> bytes:
    """Each packet on pages of its own, of at most so many segments."""
    out, number = b"", 0
    for index, packet in enumerate(packets):
        lacing = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
        at = 0
        for start in range(0, len(lacing), most):
            laces = lacing[start : start + most]
            flags = (1 if start else 0) | (2 if not index and not start else 0)
            out += page(serial, number, flags, laces, packet[at : at + sum(laces)])
            at += sum(laces)
            number += 1
    return out


def vorbis(listed: bytes, serial: int = 7, most: int = 255) -> bytes:
    """A Vorbis stream whose tables and sound are no more than marks."""
    first = b"\x01vorbis" + bytes(22) + b"\1"
    return pages(serial, first, b"\x03vorbis" + listed + b"\1", b"\x05vorbis tables", b"\0sound", most=most)


def opus(listed: bytes, serial: int = 8) -> bytes:
    return pages(serial, b"OpusHead\1\2" + bytes(9), b"OpusTags" + listed, b"\xfcsound")


# --- RIFF ---


def chunk(name: bytes, data: bytes, padding: bytes = b"\0") -> bytes:
    return name + len(data).to_bytes(4, "little") + data + padding * (len(data) % 2)


def wav(*parts: bytes, behind: bytes = b"", data: bytes = bytes(range(100))) -> bytes:
    form = chunk(b"fmt ", b"\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0")
    body = b"WAVE" + form + b"".join(parts) + chunk(b"data", data)
    return b"RIFF" + len(body).to_bytes(4, "little") + body + behind


def info(**texts: bytes) -> bytes:
    return chunk(b"LIST", b"INFO" + b"".join(chunk(k.encode(), v) for k, v in texts.items()))


def bext(**fields: bytes) -> bytes:
    places = {"description": (0, 256), "originator": (256, 32), "umid": (348, 64), "reserved": (422, 180)}
    out = bytearray(602)
    for name, value in fields.items():
        at, size = places[name]
        out[at : at + size] = value.ljust(size, b"\0")
    return chunk(b"bext", bytes(out))


def avi(
    *parts: bytes, movie: bytes = b"", streams: bytes = b"vids", more: bytes = b"", behind: bytes = b""
) -> bytes:
    """An AVI of one stream; movie: chunks behind its one picture; more: chunks in the stream's header."""
    stream = chunk(b"LIST", b"strl" + chunk(b"strh", streams + bytes(52)) + chunk(b"strf", bytes(40)) + more)
    headers = chunk(b"LIST", b"hdrl" + chunk(b"avih", bytes(56)) + stream)
    pictures = chunk(b"LIST", b"movi" + chunk(b"00dc", b"picture!") + movie)
    body = b"AVI " + headers + b"".join(parts) + pictures
    return b"RIFF" + len(body).to_bytes(4, "little") + body + behind


def deflated_frame() -> bytes:
    plain = b"\0" + CITY
    return frame("TIT2", len(plain).to_bytes(4) + zlib.compress(plain), 0x80)


UTF16 = "Zirbelstadt".encode("utf-16")
MP3, FLAC, OGG, WAV, AVI = "audio/mpeg", "audio/flac", "audio/ogg", "audio/x-wav", "video/x-msvideo"
CASES: Final[dict[str, tuple[str, Callable[[], bytes]]]] = {
    "MP3: a user's text": (MP3, lambda: id3(user(b"location", CITY)) + sound()),
    "MP3: a user's text that nobody knows": (MP3, lambda: id3(user(b"foo", CITY)) + sound()),
    "MP3: a user's text in UTF-16": (
        MP3,
        lambda: id3(frame("TXXX", b"\1" + "place\0".encode("utf-16") + UTF16)) + sound(),
    ),
    "MP3: coordinates in a comment": (MP3, lambda: id3(words("COMM", b"eng\0" + PLACE)) + sound()),
    "MP3: an object": (MP3, lambda: id3(frame("GEOB", b"\0text/plain\0a\0b\0" + CITY)) + sound()),
    "MP3: a private frame": (MP3, lambda: id3(frame("PRIV", b"XMP\0<x>" + CITY)) + sound()),
    "MP3: a frame nobody knows": (MP3, lambda: id3(frame("XYZ9", CITY)) + sound()),
    "MP3: a deflated frame": (MP3, lambda: id3(deflated_frame()) + sound()),
    "MP3: a picture": (MP3, lambda: id3(apic(picture())) + sound()),
    "MP3: a picture that is none": (MP3, lambda: id3(apic(CITY)) + sound()),
    "MP3: a picture's description": (MP3, lambda: id3(apic(jpegs.plain(), PLACE)) + sound()),
    "MP3: in padding": (MP3, lambda: id3(words("TIT2", b"Quince"), bytes(20) + CITY, padding=30) + sound()),
    "MP3: ID3v2.2": (
        MP3,
        lambda: id3(frame("TXX", b"\0place\0" + CITY, version=2), version=2) + sound(),
    ),
    "MP3: ID3v2.4 with a footer": (
        MP3,
        lambda: id3(frame("TXXX", b"\0place\0" + CITY, version=4), version=4, flags=0x10) + sound(),
    ),
    "MP3: ID3v2.4 with plain sizes": (
        MP3,
        lambda: id3(words("TPE1", b"x" * 200), user(b"place", CITY + b" " * 200), version=4) + sound(),
    ),
    "MP3: unsynchronised": (
        MP3,
        lambda: id3(user(b"place", b"\xff\0\xe0" + CITY), words("TIT2", b"\xff\0\xe1"), flags=0x80) + sound(),
    ),
    "MP3: an extended header": (
        MP3,
        lambda: id3(user(b"place", CITY), flags=0x40, extra=(6).to_bytes(4) + bytes(6)) + sound(),
    ),
    "MP3: an extended header that lies": (
        MP3,
        lambda: id3(user(b"place", CITY), flags=0x40, extra=b"\xff" * 8) + sound(),
    ),
    "MP3: a chapter": (
        MP3,
        lambda: id3(frame("CHAP", b"one\0" + bytes(16) + words("TIT2", PLACE))) + sound(),
    ),
    "MP3: a second tag": (MP3, lambda: id3(words("TIT2", b"a")) + id3(user(b"place", CITY)) + sound()),
    "MP3: a tag between frames": (MP3, lambda: sound() + id3(user(b"place", CITY)) + sound()),
    "MP3: a tag at the end": (
        MP3,
        lambda: sound() + id3(frame("TXXX", b"\0place\0" + CITY, version=4), version=4, flags=0x10),
    ),
    "MP3: ID3v1": (MP3, lambda: sound() + old(comment=PLACE)),
    "MP3: ID3v1 with more": (MP3, lambda: sound() + b"TAG+" + PLACE.ljust(223, b"\0") + old()),
    "MP3: APE": (MP3, lambda: sound() + ape((b"Title", b"Quince"), (b"Location", CITY)) + old()),
    "MP3: APE without a header": (MP3, lambda: sound() + ape((b"Location", CITY), header=False)),
    "MP3: APE at the start": (MP3, lambda: ape((b"Location", CITY)) + sound()),
    "MP3: APE with a binary": (MP3, lambda: sound() + ape((b"Any", CITY), kind=1)),
    "MP3: APE's cover": (
        MP3,
        lambda: sound() + ape((b"Cover Art (Front)", b"a.jpg\0" + picture()), kind=1),
    ),
    "MP3: lyrics": (MP3, lambda: sound() + lyrics(CITY) + old()),
    "MP3: older lyrics": (MP3, lambda: sound() + b"LYRICSBEGIN" + CITY + b"LYRICSEND" + old()),
    "MP3: before the sound": (MP3, lambda: id3(words("TIT2", b"a")) + CITY + sound()),
    "MP3: between frames": (MP3, lambda: sound() + CITY + sound()),
    "MP3: behind the sound": (MP3, lambda: sound() + CITY * 40),
    "MP3: FLAC behind a tag": (MP3, lambda: flac((4, comments(LOCATION)), before=id3(user(b"a", CITY)))),
    "FLAC: a comment": (FLAC, lambda: flac((4, comments(b"TITLE=a", LOCATION, b"GENRE=Folk")))),
    "FLAC: an unknown comment": (FLAC, lambda: flac((4, comments(b"FOO=" + CITY)))),
    "FLAC: a comment without a name": (FLAC, lambda: flac((4, comments(CITY)))),
    "FLAC: the vendor": (FLAC, lambda: flac((4, comments(vendor=PLACE)))),
    "FLAC: behind the comments": (FLAC, lambda: flac((4, comments(b"TITLE=a") + CITY))),
    "FLAC: broken comments": (FLAC, lambda: flac((4, b"\xff\xff\xff\xff" + CITY))),
    "FLAC: a picture": (FLAC, lambda: flac((6, picture_block(picture())))),
    "FLAC: a picture's description": (FLAC, lambda: flac((6, picture_block(jpegs.plain(), PLACE)))),
    "FLAC: behind a picture": (FLAC, lambda: flac((6, picture_block(jpegs.plain()) + CITY))),
    "FLAC: a picture in a comment": (
        FLAC,
        lambda: flac((4, comments(b"METADATA_BLOCK_PICTURE=" + base64.b64encode(picture_block(picture()))))),
    ),
    "FLAC: padding": (FLAC, lambda: flac((1, CITY))),
    "FLAC: application": (FLAC, lambda: flac((2, b"riff" + CITY))),
    "FLAC: a block nobody knows": (FLAC, lambda: flac((77, CITY))),
    "FLAC: a cue sheet that is none": (FLAC, lambda: flac((5, CITY))),
    "FLAC: a seek table that is none": (FLAC, lambda: flac((3, CITY))),
    "FLAC: tags around": (FLAC, lambda: flac(before=id3(user(b"a", CITY)), behind=old(comment=PLACE))),
    "Vorbis: a comment": (OGG, lambda: vorbis(comments(b"TITLE=a", LOCATION))),
    "Vorbis: comments over pages": (
        OGG,
        lambda: vorbis(comments(b"TITLE=" + b"a" * 900, LOCATION, b"COMMENT=" + PLACE + b"x" * 700), most=1),
    ),
    "Vorbis: behind the comments": (OGG, lambda: vorbis(comments(b"TITLE=a") + b"\1" + CITY)),
    "Vorbis: broken comments": (OGG, lambda: vorbis(b"\xff\xff\xff\xff" + CITY)),
    "Vorbis: a picture": (
        OGG,
        lambda: vorbis(comments(b"METADATA_BLOCK_PICTURE=" + base64.b64encode(picture_block(picture())))),
    ),
    "Opus: a comment": (OGG, lambda: opus(comments(LOCATION) + CITY)),
    "Ogg: a second stream behind": (OGG, lambda: opus(comments()) + vorbis(comments(LOCATION))),
    "Ogg: captions": (OGG, lambda: opus(comments()) + pages(9, b"\x80kate\0\0\0", CITY)),
    "Ogg: between pages": (OGG, lambda: opus(comments()) + CITY + vorbis(comments())),
    "Ogg: a page of no stream": (OGG, lambda: opus(comments()) + page(99, 1, 0, bytes([len(CITY)]), CITY)),
    "Ogg: behind": (OGG, lambda: opus(comments()) + CITY),
    "FLAC in Ogg: a comment": (
        OGG,
        lambda: pages(
            3,
            b"\x7fFLAC\1\0\0\2" + flac()[:42],
            b"\4\0\0\x50" + comments(LOCATION).ljust(0x50, b" "),
            b"\x82\0\0\x0b" + CITY,
            b"\xff\xf8sound",
        ),
    ),
    "WAV: a list": (WAV, lambda: wav(info(INAM=b"Quince", IARL=CITY, ICMT=PLACE))),
    "WAV: an unknown text": (WAV, lambda: wav(info(IXYZ=CITY))),
    "WAV: behind the texts of a list": (WAV, lambda: wav(chunk(b"LIST", b"INFO\0\0\0" + CITY))),
    "WAV: an odd list": (WAV, lambda: wav(info(INAM=b"odd", IARL=CITY + b"!"), info(ICMT=PLACE + b"!"))),
    "WAV: padding bytes": (WAV, lambda: wav(*(chunk(b"fact", b"\0", padding=b"%c" % c) for c in CITY))),
    "WAV: bext": (WAV, lambda: wav(bext(description=PLACE, umid=bytes(32) + CITY, reserved=CITY))),
    "WAV: iXML": (WAV, lambda: wav(chunk(b"iXML", b"<LOCATION_NAME>" + CITY))),
    "WAV: XMP": (
        WAV,
        lambda: wav(chunk(b"_PMX", jpegs.xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>"))),
    ),
    "WAV: ID3": (WAV, lambda: wav(chunk(b"id3 ", id3(user(b"place", CITY))))),
    "WAV: JUNK": (WAV, lambda: wav(chunk(b"JUNK", CITY))),
    "WAV: behind": (WAV, lambda: wav(behind=CITY)),
    "WAV: a chunk behind": (WAV, lambda: wav(behind=info(ICMT=PLACE))),
    "WAV: sound without a length": (
        WAV,
        lambda: wav()[:-104] + b"\xff\xff\xff\xff" + bytes(range(100)) + info(ICMT=PLACE),
    ),
    "WAV: behind numbers": (
        WAV,
        lambda: wav(
            chunk(b"cue ", (1).to_bytes(4, "little") + bytes(24) + CITY),
            chunk(b"smpl", bytes(36) + CITY),
            chunk(b"inst", bytes(7) + CITY),
        ),
    ),
    "AVI: behind numbers": (
        AVI,
        lambda: avi(more=chunk(b"dmlh", bytes(4) + CITY) + chunk(b"vprp", bytes(256) + CITY)),
    ),
    "Vorbis: behind the first header": (
        OGG,
        lambda: pages(
            7,
            b"\x01vorbis" + bytes(22) + b"\1" + CITY,
            b"\x03vorbis" + comments() + b"\1",
            b"\x05vorbis",
            b"\0sound",
        ),
    ),
    "MP3: a picture's kind": (
        MP3,
        lambda: id3(frame("APIC", b"\0" + CITY + b"/x\0\3\0" + jpegs.plain())) + sound(),
    ),
    "AVI: a list": (AVI, lambda: avi(info(INAM=b"Quince", IARL=CITY))),
    "AVI: a maker's note": (AVI, lambda: avi(more=chunk(b"strd", CITY))),
    "AVI: a stream's name": (AVI, lambda: avi(more=chunk(b"strn", PLACE))),
    "AVI: JUNK": (AVI, lambda: avi(chunk(b"JUNK", CITY))),
    "AVI: JUNK between pictures": (AVI, lambda: avi(movie=chunk(b"JUNK", CITY))),
    "AVI: an unknown chunk between pictures": (AVI, lambda: avi(movie=chunk(b"gps0", CITY))),
    "AVI: a stream of texts": (AVI, lambda: avi(movie=chunk(b"01tx", CITY) + chunk(b"00tx", CITY))),
    "AVI: a list of a maker": (AVI, lambda: avi(chunk(b"LIST", b"ncdt" + chunk(b"nctg", CITY)))),
    "AVI: never ended": (
        AVI,
        lambda: re.sub(rb"....movi", b"\0\0\0\0movi", avi(movie=chunk(b"JUNK", CITY))),
    ),
    "AVI: behind": (AVI, lambda: avi(behind=CITY)),
    "AVI: a second RIFF": (
        AVI,
        lambda: avi(behind=b"RIFF" + chunk(b"", b"AVIX" + chunk(b"JUNK", CITY))),
    ),
}
PLAIN: Final[dict[str, tuple[str, bytes]]] = {
    "MP3": (MP3, id3(words("TIT2", b"Quince"), user(b"replaygain_x", b"1"), padding=50) + sound() + old()),
    "MP3 with pictures": (MP3, id3(apic(jpegs.plain())) + sound() + ape((b"Title", b"Quince"))),
    "FLAC": (FLAC, flac((4, comments(b"TITLE=a", b"DATE=2024")), (1, bytes(9)), (3, bytes(18)))),
    "Vorbis": (OGG, vorbis(comments(b"TITLE=a" * 200), most=1)),
    "Opus": (OGG, opus(comments(b"TITLE=a"))),
    "WAV": (WAV, wav(info(INAM=b"Quince", ICMT=b"x"), bext(description=b"Quince"))),
    "AVI": (AVI, avi(info(INAM=b"Quince"), chunk(b"IDIT", b"now"), movie=chunk(b"00dc", b"more"))),
}
