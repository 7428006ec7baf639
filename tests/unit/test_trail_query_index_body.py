"""Bodies of indexes: what is read is what the table says, whatever the file holds."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.trail.query.index_body import BLOCK, Body, WrongIndexError, digests_of

DATA = b"".join(b"%07d\n" % number for number in range(3 * BLOCK // 8 + 100))
TABLE = digests_of(DATA)
DIGEST = hashlib.sha256(TABLE).hexdigest()


def a_body(stored: bytes, again: bytes | None = None, seen: list[tuple[int, int]] | None = None) -> Body:
    def read(at: int, count: int) -> bytes:
        if seen is not None:
            seen.append((at, count))
        return stored[at : at + count]

    return Body(len(DATA), DIGEST, read, None if again is None else lambda: again)


@given(st.integers(0, len(DATA)), st.integers(0, 2 * BLOCK))
def test_any_part_is_that_of_the_bytes(at: int, count: int) -> None:
    count = min(count, len(DATA) - at)
    body = a_body(TABLE + DATA)
    for _ in range(2):
        assert body.read(at, count) == body.part(at, count) == DATA[at : at + count]


@given(st.integers(0, len(TABLE) + len(DATA) - 1), st.sampled_from(["flip", "cut"]))
def test_damage_is_found_where_it_is_read_and_made_again_once(where: int, how: str) -> None:
    whole = TABLE + DATA
    stored = whole[:where] + (bytes([whole[where] ^ 1]) + whole[where + 1 :] if how == "flip" else b"")
    with pytest.raises(WrongIndexError):
        a_body(stored).check()
    body = a_body(stored, whole)
    body.check()
    assert body.part(len(DATA) - 8, 8) == DATA[-8:]
    at = max(0, where - len(TABLE))
    assert body.part(at, 1) == DATA[at : at + 1]
    with pytest.raises(WrongIndexError):
        a_body(stored, bytes(len(whole))).check()


def test_a_few_bytes_take_a_block() -> None:
    seen: list[tuple[int, int]] = []
    body = a_body(TABLE + DATA, seen=seen)
    for at in range(BLOCK, BLOCK + 800, 8):
        assert body.part(at, 8) == DATA[at : at + 8]
    assert seen == [(0, len(TABLE)), (len(TABLE) + BLOCK, BLOCK)]
