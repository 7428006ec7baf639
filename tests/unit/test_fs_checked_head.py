"""Held heads: what a write makes of the first bytes, and what they can still become."""

from __future__ import annotations

import io
import json
import random
import zipfile
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.content.workers.worker import Detector
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


def _box(name: bytes, data: bytes) -> bytes:
    return (8 + len(data)).to_bytes(4, "big") + name + data


def _office() -> bytes:
    """Return a document of a word processor. libmagic needs its third file to name it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, size in (("[Content_Types].xml", 6000), ("_rels/.rels", 3000), ("word/document.xml", 9000)):
            archive.writestr(name, random.Random(7).randbytes(size))
    return made.getvalue()


_MOOV: Final = _box(b"moov", _box(b"mvhd", bytes(100)))
LATE: Final = {
    "film with a gap": (_box(b"free", bytes(20_000)) + _MOOV, {"image/*", "video/*"}),
    "film without ftyp": (_box(b"wide", b"") + _box(b"mdat", bytes(3000)) + _MOOV, {"video/quicktime"}),
    "large WAV": (b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0" + bytes(5000), {"audio/x-wav"}),
    "PDF behind a newline": (b"\n%PDF-1.4\n" + b"x" * 5000, {"application/pdf"}),
    "PDF with a BOM": (b"\xef\xbb\xbf%PDF-1.4\n" + b"x" * 5000, {"application/pdf"}),
    "JSON": (json.dumps({"list": [{"name": f"img{n}"} for n in range(900)]}).encode(), {"application/json"}),
    "office": (_office(), {"application/vnd.openxmlformats-officedocument.wordprocessingml.document"}),
}


@pytest.mark.parametrize("case", LATE)
@pytest.mark.parametrize("step", [4, 512, 4096, 8192])
def test_an_allowed_file_is_refused_in_no_steps(case: str, step: int) -> None:
    """It depended on the size of the writes whether such a file could be stored."""
    data, kinds = LATE[case]
    detector, content = Detector(), one(*kinds)
    assert meets(detector.kind(data[:HEAD_BYTES]), content)
    for end in range(step, len(data) + step, step):
        head = data[:end]
        if end <= 64 or end % 512 == 0 or end >= len(data):
            assert may_become(head, content) or meets(detector.kind(head), content), end


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
