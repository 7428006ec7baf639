"""Fonts in Matroska files: a font has a sound directory, and nothing besides its tables."""

from __future__ import annotations

import pytest

from policyfs.redact.matroska.fonts import is_font, is_font_type
from tests.support.samples.matroskas import font

TEXT = b"true north at 47.80453,13.04229 by Rosa Quince on 2024-05-17 11:22:33"
ONE = font(b"a table", b"", b"another")


def woff(kind: bytes, *, tables: int = 3, about: bytes = bytes(20), behind: bytes = b"") -> bytes:
    """A WOFF file; about: the numbers of its metadata and private data."""
    between = bytes(10 if kind == b"wOFF" else 14)
    data = b"packed tables"
    size = 14 + len(between) + 20 + len(data)
    return kind + b"OTTO" + size.to_bytes(4) + tables.to_bytes(2) + between + about + data + behind


def collection(*, version: bytes = b"\0\1\0\0", behind: bytes = b"") -> bytes:
    """A collection of two fonts."""
    first = font(b"a table", at=20)
    second = font(b"a table", at=20 + len(first))
    offsets = (20).to_bytes(4) + (20 + len(first)).to_bytes(4)
    return b"ttcf" + version + (2).to_bytes(4) + offsets + first + second + behind


def signed() -> bytes:
    """A collection of one font with a signature behind it."""
    one = font(b"a table", at=28)
    about = b"DSIG" + (9).to_bytes(4) + (28 + len(one)).to_bytes(4)
    return b"ttcf\0\2\0\0" + (1).to_bytes(4) + (28).to_bytes(4) + about + one + b"signature"


@pytest.mark.parametrize(
    "data",
    [
        ONE,
        font(b"a table", kind=b"\0\1\0\0"),
        font(b"a table", kind=b"true") + bytes(3),
        font(*[b"a table"] * 64),
        collection(),
        collection(behind=bytes(2)),
        signed(),
        woff(b"wOFF"),
        woff(b"wOF2"),
    ],
)
def test_fonts(data: bytes) -> None:
    assert is_font(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"OTTO",
        TEXT,
        b"OTTO" + TEXT,
        b"\0\1\0\0" + TEXT,
        b"ttcf" + TEXT,
        b"wOFF" + TEXT,
        font(),
        font(*[b"a table"] * 65),
        ONE[:-1],
        ONE + TEXT,
        ONE.replace(b"name", b"na\xefe", 1),
        font(b"a table", at=4),
        collection(behind=TEXT),
        collection(version=b"\0\2\0\0"),
        signed() + TEXT,
        woff(b"wOFF", behind=TEXT),
        woff(b"wOFF", tables=0),
        woff(b"wOFF", tables=65),
        woff(b"wOFF", about=bytes(19) + b"\1"),
        woff(b"wOF2", about=b"\1" + bytes(19)),
    ],
)
def test_what_is_no_font(data: bytes) -> None:
    assert not is_font(data)


@pytest.mark.parametrize(
    ("mime", "known"),
    [
        (b"font/ttf", True),
        (b"font/collection\0", True),
        (b"application/x-truetype-font", True),
        (b"application/x-font-ttf", True),
        (b"application/vnd.ms-opentype", True),
        (b"application/octet-stream", True),
        (b"application/x-font", True),
        (b"application/x-note", False),
        (b"application/font-Rosa", False),
        (b"font/Rosa", False),
        (b"text/plain", False),
        (b"", False),
    ],
)
def test_types_of_fonts(mime: bytes, known: bool) -> None:
    assert is_font_type(mime) is known
