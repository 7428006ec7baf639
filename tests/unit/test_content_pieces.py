"""Replacement bytes in pieces: what is in the file already costs nothing, what is not is counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.content.pieces import (
    COPY_MIN,
    LITERAL_BYTES,
    NEUTRAL,
    Piece,
    Splitter,
    cost,
    literal_bytes_for,
)
from policyfs.domain import Patch

TEXT = b"The quick brown fox jumps over the lazy dog, and nobody knows why it should do so."
FILE = bytes(100) + TEXT + b"\1" * 50 + bytes(range(256))


def pieces(data: bytes, offset: int, file: bytes = FILE) -> list[Piece]:
    return Splitter(lambda at, size: file[at : at + size], len(file)).pieces(Patch(offset, data))


def put_together(found: list[Piece], file: bytes = FILE) -> bytes:
    """The bytes that pieces stand for."""
    out = b""
    for piece in found:
        if piece.origin >= 0:
            assert not piece.data
            out += file[piece.origin : piece.origin + piece.size]
        elif len(piece.data) == 1:
            out += piece.data * piece.size
        else:
            assert len(piece.data) == piece.size
            out += piece.data
    return out


def literal(data: bytes, offset: int = 100) -> int:
    found = pieces(data, offset)
    assert put_together(found) == data
    return sum(map(cost, found))


@settings(max_examples=20)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.tuples(st.integers(0, 480), st.integers(0, 60)).map(lambda p: FILE[p[0] : sum(p)]),
            st.tuples(st.sampled_from([b"\0", b" ", b"x"]), st.integers(1, 60)).map(lambda p: p[0] * p[1]),
        ),
        min_size=1, max_size=6,
    ).map(b"".join).filter(bool),
    st.integers(0, 300),
)  # fmt: skip
def test_pieces_are_the_patch_in_order_and_without_a_gap(data: bytes, offset: int) -> None:
    found = pieces(data, offset)
    assert put_together(found) == data
    at = offset
    for piece in found:
        assert piece.offset == at
        assert piece.size > 0
        at += piece.size


def test_a_run_costs_nothing_if_its_byte_is_neutral_else_one() -> None:
    for byte in range(256):
        assert literal(bytes([byte]) * 500) == (0 if byte in NEUTRAL else 1), byte
    assert {0, 0x20, 0x30, 0xFF} == NEUTRAL


def test_bytes_that_stay_in_their_place_cost_nothing() -> None:
    changed = bytearray(TEXT)
    changed[40] ^= 1
    assert literal(bytes(changed)) == 1
    assert [piece.origin for piece in pieces(bytes(changed), 100)] == [100, -1, 141]


def test_bytes_that_moved_cost_nothing_from_some_length_on() -> None:
    assert literal(b"ab" + TEXT) == COPY_MIN // 2
    assert literal(TEXT[20:50] + b"-" + TEXT[10:50]) <= COPY_MIN // 2
    assert literal(b"#" + TEXT[20 : 20 + COPY_MIN - 1] + b"#") == COPY_MIN + 1


def test_a_short_patch_is_literal_even_where_the_file_has_it() -> None:
    assert literal(TEXT[:16], 300) == 16
    assert literal(TEXT[:17], 300) == 0


def test_bytes_far_from_the_patch_do_not_count_as_the_files() -> None:
    far = TEXT + bytes(1 << 17)
    assert sum(map(cost, pieces(TEXT, 1 << 16, far))) == 0
    assert sum(map(cost, pieces(TEXT, (1 << 16) + 60, far))) > 0
    assert put_together(pieces(TEXT, 1 << 17, far), far) == TEXT


def test_a_patch_behind_the_end_is_literal() -> None:
    assert literal(b"new words of no file!", len(FILE)) == 21


def test_short_runs_among_others_are_no_runs() -> None:
    assert literal(b"abcdefgh" + b" " * 7 + b"ijklmnop") == 23
    assert literal(b"abcdefgh" + b" " * 8 + b"ijklmnop") == 16
    assert literal(b"abcdefgh" + b"x" * 8 + b"ijklmnop") == 17


@pytest.mark.parametrize(
    ("kind", "head", "most"),
    [
        ("application/pdf", b"%PDF-1.7", 1 << 20),
        ("application/pdf", b" %PDF-1.7", LITERAL_BYTES),
        ("image/png", b"\x89PNG\r\n\x1a\n....", 1 << 18),
        ("image/png", b"%PDF-1.7", LITERAL_BYTES),
        ("image/heic", b"\0\0\0\x18ftypheic", 1 << 16),
        ("image/heic", b"ftypheic", LITERAL_BYTES),
        ("image/jpeg", b"\xff\xd8\xff", LITERAL_BYTES),
        ("image/png", b"", LITERAL_BYTES),
        ("audio/mp4", b"\0\0\0\x18ftypM4A ", 1 << 18),
        ("audio/mpeg", b"ID3\3\0", 1 << 18),
        ("audio/mpeg", b"\xff\xfb\x90", LITERAL_BYTES),
        ("video/x-matroska", b"\x1aE\xdf\xa3", 1 << 18),
        ("text/plain", b"ID3\3\0", LITERAL_BYTES),
    ],
)
def test_a_worker_that_names_another_kind_gets_no_more(kind: str, head: bytes, most: int) -> None:
    assert literal_bytes_for(kind, head) == most


def test_the_search_for_moved_bytes_is_bounded() -> None:
    splitter = Splitter(lambda at, size: FILE[at : at + size], len(FILE))
    splitter._searched = (1 << 28) + 1
    assert sum(map(cost, splitter.pieces(Patch(300, b"ab" + TEXT)))) == 2 + len(TEXT)
