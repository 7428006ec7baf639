"""JPEGs: segments, and what lies between and behind them."""

from __future__ import annotations

from random import Random

from tests.fuzz.mutators.parts import MOST_BYTES, Mutator, Part, change, some

_NAMES = tuple(
    bytes([marker])
    for marker in (
        *(0xE0, 0xE1, 0xE1, 0xE1, 0xE2, 0xE5, 0xEB, 0xEC, 0xED, 0xED, 0xEE, 0xEF, 0xFE, 0xFE),
        *(0xC0, 0xC2, 0xC4, 0xCC, 0xD0, 0xD8, 0xDB, 0xDC, 0xDD, 0xDE, 0x01, 0xF0, 0x00, 0xFF),
    )
)
_MOST_BODY = 65_500
_LAST = (0xDA, 0xD9)
"""Markers behind which there are no more segments, or a scan."""
_STRAY = (
    *(
        b"\xff\xd9",
        b"\xff\xda\0\x08\1\1\0\0\x3f\0",
        b"\xff\xfe\0\x05abc",
        b"\xff\xe1\0\1",
        b"\xff\xc0",
        b"\xff\xd8\xff",
    ),
    *(b"\xff\xff\xff", b"\xff\xe1\0\0", b"\xff\0", b"\xff\xd3", b"\xff\xdc\0\4\0\1", b"abc", b"\0\0"),
)
_BEHIND = (
    *(
        b"\xff\xd8\xff\xe1\0\x09Exif\0\0a",
        b"\xff\xd8\xff\xd9",
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        b"LIVE_1234567",
    ),
    *(
        b"SEFH\x6a\0\0\0\0\0\0\0\x0c\0\0\0SEFT",
        b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data",
        b"PK\3\4",
        b"\xff\xd9",
    ),
)


def mutate(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A JPEG after accidents. inside: for what its segments hold."""
    parts, rest = _split(data)
    for _ in some(rng):
        if rng.random() < 0.75:
            change(parts, _NAMES, rng, inside)
        else:
            rest = _change_rest(rest, data, rng, inside)
    out = _join(parts, rest)
    if rng.random() < 0.1:
        at = rng.randrange(len(out))
        out = out[:at] + rng.choice(_STRAY) + out[at:]
    return out


def _split(data: bytes) -> tuple[list[Part], bytes]:
    """Segments up to the first scan; and the rest, from that on."""
    parts = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in _LAST:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if size < 2:
            break
        parts.append(Part(data[at + 1 : at + 2], data[at + 4 : at + 2 + size]))
        at += 2 + size
    return parts, data[at:]


def _join(parts: list[Part], rest: bytes) -> bytes:
    segments = []
    for part in parts:
        body = part.body[:_MOST_BODY]
        size = max(0, min(len(body) + 2 + part.lie, 0xFFFF))
        segments.append(b"\xff" + part.name + size.to_bytes(2, "big") + body)
    return b"\xff\xd8" + b"".join(segments) + rest


def _change_rest(rest: bytes, whole: bytes, rng: Random, inside: Mutator) -> bytes:
    at = rng.randint(0, len(rest))
    match rng.randint(0, 4):
        case 0:
            return inside(rest, rng)
        case 1:
            return rest[:at]
        case 2:
            return rest[:at] + rng.choice(_STRAY) + rest[at:]
        case 3 if len(rest) + len(whole) < MOST_BYTES:
            return rest + rng.choice((whole, whole[: rng.randint(0, len(whole))], rest))
        case _:
            return rest + rng.choice(_BEHIND)
