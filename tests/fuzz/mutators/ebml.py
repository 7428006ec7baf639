"""Matroska and WebM: elements within elements."""

from __future__ import annotations

from random import Random

from policyfs.redact.matroska.ebml import head_at
from policyfs.redact.matroska.tag_names import ELEMENTS, Form
from tests.fuzz.mutators.parts import Mutator, Part, change, some

_MASTERS = frozenset(ELEMENTS) | {
    ident
    for children in ELEMENTS.values()
    for ident, element in children.items()
    if element.form is Form.MASTER
}
_NAMES = tuple(
    ident.to_bytes((ident.bit_length() + 7) // 8, "big")
    for ident in sorted(
        _MASTERS | {ident for children in ELEMENTS.values() for ident in children} | {0xEC, 0xBF}
    )
)
_WORDS = (
    *(
        b"LOCATION",
        b"ARTIST",
        b"DATE",
        b"ENCODER",
        b"TITLE",
        b"FOO",
        b"V_VP8",
        b"S_TEXT/UTF8",
        b"S_VOBSUB",
        b"D_META",
    ),
    *(
        b"A_OPUS",
        b"A_VORBIS",
        b"V_MPEG4/ISO/AVC",
        b"V_MS/VFW/FOURCC",
        b"V_THEORA",
        b"S_TEXT/ASS",
        b"S_HDMV/PGS",
    ),
    *(
        b"image/jpeg",
        b"image/png",
        b"font/ttf",
        b"text/plain",
        b"matroska",
        b"webm",
        b"1\n00:00:01,000 --> 00:00:02",
    ),
    *(
        b"\x81\0\0\x80",
        b"\x81\0\0\x06\1\2",
        b"\x82\0\0\0",
        b"\x83\0\0\x02\1\x81",
        b"\0",
        b"\1",
        b"\x11",
        b"\x21",
        b"\2",
    ),
)
_SIZES = (1, 1, 1, 2, 4, 8)
_DEEPEST = 12


def mutate(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A film after accidents to its elements. inside: for what they hold."""
    return _level(data, rng, inside, 0)


def _level(data: bytes, rng: Random, inside: Mutator, depth: int) -> bytes:
    """Elements that stand in one, some accidents later: to them or, often, further down."""
    parts, tail = _split(data)
    masters = [part for part in parts if int.from_bytes(part.name, "big") in _MASTERS and part.body]
    for _ in some(rng) if depth else range(1):
        if masters and depth < _DEEPEST and rng.random() < 0.8:
            part = rng.choice(masters)
            part.body = _level(part.body, rng, inside, depth + 1)
        else:
            names = _siblings(parts, rng)
            change(parts, names, rng, lambda body, rng: _content(body, rng, inside))
    return b"".join(_element(part, rng) for part in parts) + tail


def _siblings(parts: list[Part], rng: Random) -> tuple[bytes, ...]:
    """Names that mostly stand beside these."""
    if not parts or rng.random() < 0.3:
        return _NAMES
    some_name = int.from_bytes(rng.choice(parts).name, "big")
    beside = [children for children in ELEMENTS.values() if some_name in children]
    return (
        tuple(name for name in _NAMES if any(int.from_bytes(name, "big") in level for level in beside))
        or _NAMES
    )


def _content(body: bytes, rng: Random, inside: Mutator) -> bytes:
    if rng.random() < 0.3:
        return rng.choice(_WORDS)
    return inside(body, rng)


def _split(data: bytes) -> tuple[list[Part], bytes]:
    """The elements, and what is behind them. One of unknown size reaches to the end."""
    parts: list[Part] = []
    at = 0
    while (head := head_at(data, at)) is not None and len(parts) < 300:
        name = head.ident.to_bytes((head.ident.bit_length() + 7) // 8, "big")
        start = at + head.length
        at = len(data) if head.size is None else min(start + head.size, len(data))
        parts.append(Part(name, data[start:at], 0 if head.size is not None else -1))
    return parts, data[at:]


def _element(part: Part, rng: Random) -> bytes:
    """Its id, its size in few bytes or many, its data. A lie of -1 makes it one of unknown size."""
    width = rng.choice(_SIZES)
    if part.lie == -1:
        return part.name + ((1 << 7 * width + 1) - 1).to_bytes(width, "big") + part.body
    size = max(0, len(part.body) + part.lie)
    while size >= (1 << 7 * width) - 1:
        width += 1
    return part.name + (size | 1 << 7 * width).to_bytes(width, "big") + part.body
