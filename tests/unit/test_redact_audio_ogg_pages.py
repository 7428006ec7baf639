"""Pages of Ogg files: what their packets start with, and bytes that are no page."""

from __future__ import annotations

import pytest

from policyfs.redact.audio.ogg_pages import Page, first_bytes, page_checksum, walk
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import MemorySource
from tests.support.samples import sounds
from tests.support.samples.inners import Plain


def pages_of(data: bytes) -> list[Page | tuple[int, int]]:
    return list(walk(Edits(MemorySource(data), Plain(Tells.LOCATION), "Ogg")))


def test_pages_and_the_bytes_between_them() -> None:
    first, second = sounds.page(7, 0, 2, b"\3", b"abc"), sounds.page(8, 0, 0, b"", b"")
    assert pages_of(first + b"quince" + second + first[:-1]) == [
        Page(0, 2, 7, b"\3", 28, 31),
        (31, 37),
        Page(37, 0, 8, b"", 64, 64),
        (64, 94),
    ]


def test_the_checksum_of_a_page() -> None:
    page = sounds.page(7, 0, 2, b"\3", b"abc")
    assert page_checksum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")


@pytest.mark.parametrize("padding", [0, 2000])
@pytest.mark.parametrize(
    ("flags", "lacing", "firsts"),
    [
        (0, b"\2\2", b"ac"),
        (1, b"\2\2", b"c"),
        (0, b"\2\0\2", b"acc"),
        (0, b"\2\2\0", b"ac"),
        (0, b"\0", b""),
        (0, b"", b""),
        (1, b"\4", b""),
    ],
)
def test_first_bytes_of_packets(padding: int, flags: int, lacing: bytes, firsts: bytes) -> None:
    """Also of packets far from each other: a long one follows those of the list."""
    body = b"abcd"[: sum(lacing)]
    more = b"\xff" * (padding // 255) + bytes([padding % 255]) if padding else b""
    data = sounds.page(7, 0, flags, lacing + more, body + b"z" * padding)
    (page,) = pages_of(data)
    assert isinstance(page, Page)
    fresh = bool(padding) and (bool(lacing) or not flags)
    expected = firsts + b"z" * fresh
    if padding and lacing[-1:] == b"\0":
        expected += b"z"
    assert first_bytes(page, MemorySource(data)) == expected


def test_a_long_packet_has_one_first_byte() -> None:
    data = sounds.page(7, 0, 0, b"\xff\xff\7\xff", bytes(range(255)) * 3 + bytes(7))
    (page,) = pages_of(data)
    assert isinstance(page, Page)
    assert first_bytes(page, MemorySource(data)) == b"\0\7"
