"""Bytes without a structure that is known here, and text: words that locators look for, and stray bytes."""

from __future__ import annotations

from random import Random
from typing import Literal

WORDS = (
    *(
        b"\0",
        b" ",
        b"\n",
        b"\r\n",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\1",
        b"\1\0\0\0",
        b"\x7f\xff\xff\xff",
    ),
    *(
        b"Exif\0\0",
        b"http://ns.adobe.com/xap/1.0/\0",
        b"Photoshop 3.0\0",
        b"8BIM\4\4\0\0\0\0\0\x05",
        b"MPF\0",
    ),
    *(
        b"II*\0\x08\0\0\0",
        b"MM\0*\0\0\0\x08",
        b"\xff\xd8\xff\xe1",
        b"\xff\xd9",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF",
    ),
    *(b"\x1c\2\x5a\0\3abc", b"\x1c\1\x5a\0\3\x1b%G", b"\x1c\2\0\x80\4", b"\x1c\2\x37"),
    *(
        b"Raw profile type exif\0",
        b"Raw profile type iptc\0",
        b"XML:com.adobe.xmp\0\0\0\0\0",
        b"\xff\xfe",
        b"\xfe\xff",
    ),
    *(
        b"<?xpacket begin='' ?>",
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>",
        b"\xef\xbb\xbf",
        b"<!--",
        b"<![CDATA[",
    ),
    *(
        b"Location\0",
        b"Comment\0",
        b"Software\0",
        b"Creation Time\0",
        b"LOCATION=",
        b"ARTIST=",
        b"DATE=2024-05-17",
    ),
    *(
        b"47.80453, 13.04229",
        b"+47.8045+013.0423/",
        b"$GPRMC,112233,A,4748.27,N,01302.54,E",
        b"geo:47.8,13.04",
    ),
    *(
        b"2024:05:17 11:22:33",
        b"2024-05-17T11:22:33Z",
        b"Created with GIMP",
        b"https://maps.google.com/?q=47.8,13.04",
    ),
    *(
        b"ftypmp42\0\0\0\0",
        b"moov",
        b"mdat",
        b"LIVE_1234567",
        b"SEFH",
        b"SEFT",
        b"ID3\3\0\0\0\0\0\x0a",
        b"APETAGEX",
    ),
    *(b"TAG", b"LYRICSBEGIN", b"OggS\0\2", b"fLaC", b"%PDF-1.4\n", b"GIF89a", b"PK\3\4"),
)


def mutate(data: bytes, rng: Random) -> bytes:
    """One accident to bytes of any sort."""
    if not data:
        return rng.choice(WORDS)
    at = rng.randrange(len(data))
    word = rng.choice(WORDS)
    size = rng.randint(1, 8)
    match rng.randint(0, 8):
        case 0:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case 2:
            return data[:at] + data[at + size :]
        case 3:
            start = rng.randrange(len(data))
            return data[:at] + data[start : start + rng.randint(1, 40)] + data[at:]
        case 4:
            return data[:at] + word + data[at + len(word) :]
        case 5:
            return data[:at] + word + data[at:]
        case 6:
            return data[:at] + bytes(size) + data[at + size :]
        case 7:
            order: Literal["little", "big"] = rng.choice(("little", "big"))
            width = rng.choice((1, 2, 4))
            number = int.from_bytes(data[at : at + width], order) + rng.choice(
                (1, -1, 2, 12, -12, rng.randint(-99, 99))
            )
            return data[:at] + (number % (1 << 8 * width)).to_bytes(width, order) + data[at + width :]
        case _:
            return data[:at] if rng.random() < 0.3 else word + data
