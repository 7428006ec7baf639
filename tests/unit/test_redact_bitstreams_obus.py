"""OBUs of AV1: metadata that tells becomes padding of the same size."""

from __future__ import annotations

import pytest

from policyfs.redact.bitstreams.obus import walk_obus
from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.patches import MemorySource, apply
from tests.support.samples.heifs import obu
from tests.support.samples.inners import Plain

FRAME = obu(1, b"\1\2\3\4") + obu(6, bytes(range(1, 60)))


def cleaned(data: bytes, word: str = "location", **how: bool) -> bytes | None:
    found = walk_obus(MemorySource(data), Plain(hidden_by([word])), **how)
    return None if found is None else apply(data, found.patches)


@pytest.mark.parametrize(
    ("payload", "word", "goes"),
    [
        (b"\1\0\1\0\1\x80", "all-metadata", False),  # brightness
        (b"\5\1\2\3\x80", "location", False),  # a time code
        (b"\5\1\2\3\x80", "time", True),
        (b"\4\xb5anything\x80", "location", True),
        (b"\4\xb5\0\x3c\0\1numbers\x80", "all-metadata", False),  # dynamic range
        (b"\x1fanything\x80", "device", True),
    ],
)
def test_metadata_goes_by_its_type(payload, word, goes):
    out = cleaned(obu(5, payload) + FRAME, word)
    assert out is not None
    assert (payload not in out) == goes
    assert out.endswith(FRAME)
    assert not goes or out.startswith(obu(15, bytes(len(payload) - 1) + b"\x80"))


def test_numbers_that_are_too_long_may_be_anything():
    long = bytes((5 << 3 | 2, 0xAC, 0x02)) + b"\1" + b"x" * 299  # 300 bytes
    out = cleaned(long + FRAME)
    assert out is not None
    assert b"x" not in out


@pytest.mark.parametrize(
    "data",
    [
        b"\x92\0", obu(6, b"abc")[:-1], b"\x32" + b"\x80" * 11, obu(5, b"\1"), b"\x32",
        obu(3, b"47.80453, 13.04229\x80"),  # its only frame becomes padding
    ],
)  # fmt: skip
def test_what_is_no_picture(data):
    assert cleaned(data) is None


def test_what_the_end_of_the_file_cuts_off():
    assert cleaned(FRAME[:-3], cut=True) == FRAME[:-3]
    assert cleaned(obu(5, b"\1\0\1\0\1\x80"), picture=False) is not None
