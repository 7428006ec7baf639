"""Held heads: what a write makes of the first bytes, and what they can still become."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.fs.checked.head import HEAD_BYTES, kind_in, may_become, meets, overlay
from policyfs.fs.inodes.pending_writes import Head

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
BEGINNINGS = {
    "image/jpeg": JPEG,
    "image/png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\x10\x00\x00\x00WEBPVP8 ",
    "image/tiff": b"MM\x00*\x00\x00\x00\x08",
    "image/heic": b"\x00\x00\x00\x18ftypheic",
    "video/mp4": b"\x00\x00\x00\x20ftypisom",
    "video/x-matroska": b"\x1aE\xdf\xa3\x93B\x82",
    "application/pdf": b"%PDF-1.7\n",
}


def one(*kinds: str) -> tuple[frozenset[str], ...]:
    return (frozenset(kinds),)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=30)), max_size=8),
    st.sampled_from([0, HEAD_BYTES - 20]),
)
def test_overlay_is_what_a_file_would_begin_with(writes: list[tuple[int, bytes]], base: int) -> None:
    file, head = bytearray(), b""
    for offset, data in [(0, b"x" * base), *((base + at, data) for at, data in writes)]:
        if offset > len(file):
            file += b"\0" * (offset - len(file))
        file[offset : offset + len(data)] = data
        head = overlay(head, offset, data)
        assert head == bytes(file[:HEAD_BYTES]), (offset, data)


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_every_beginning_of_a_kind_may_become_it(kind: str) -> None:
    """In whatever steps a file is written: no right file is refused on the way."""
    for length in range(len(BEGINNINGS[kind]) + 1):
        assert may_become(BEGINNINGS[kind][:length], one(kind))
        assert may_become(BEGINNINGS[kind][:length], one(f"{kind.partition('/')[0]}/*"))


@pytest.mark.parametrize("head", [b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"])
def test_a_large_tiff_may_become_one_from_its_first_byte(head: bytes) -> None:
    """BigTIFF has another number in its head, and is image/tiff to libmagic."""
    assert all(may_become(head[:length], one("image/tiff")) for length in range(len(head) + 1))


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_what_begins_otherwise_may_not(kind: str) -> None:
    for other, head in BEGINNINGS.items():
        # Some formats share their first bytes.
        mine = BEGINNINGS[kind]
        shared = mine[4:8] == b"ftyp" == head[4:8] or mine[:4] == b"RIFF" == head[:4]
        assert may_become(head, one(kind)) is (other == kind or shared), other


def test_unknown_signatures_are_given_some_bytes_and_then_none() -> None:
    assert may_become(b"a", one("text/*"))
    assert may_become(b"a" * 511, one("text/*"))
    assert not may_become(b"a" * 512, one("text/*"))
    assert not may_become(JPEG + b"\0" * HEAD_BYTES, one("image/jpeg"))


def test_every_requirement_counts() -> None:
    both = (*one("image/*"), *one("image/jpeg", "image/png"))
    assert may_become(JPEG, both)
    assert not may_become(BEGINNINGS["image/gif"].ljust(600, b"\0"), both)
    assert meets("image/jpeg", both)
    assert not meets("image/gif", both)
    assert not meets(None, both)
    assert meets(None, ())
    assert kind_in("image/jpeg", frozenset({"*"}))
    assert not kind_in("image/jpeg", frozenset({"video/*", "jpeg"}))


def test_a_head_counts_in_the_size_only_while_it_is_held() -> None:
    head = Head(0, created=True)
    assert head.size(0) == 0
    head.held = b"12345"
    assert head.size(0) == 5
    assert head.size(9) == 9
    head.held = None
    assert head.size(3) == 3
    assert Head(1).held is None
