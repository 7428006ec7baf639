"""NAL units behind lengths: what is a chain of them, and what does not stay in one."""

from __future__ import annotations

import pytest

from policyfs.redact.bitstreams.nal_units import AVC, HEVC, units, walk_nals
from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.patches import MemorySource, apply
from tests.support.samples.heifs import nal, picture, user_sei
from tests.support.samples.inners import Plain


def cleaned(data: bytes, *, cut: bool = False) -> bytes | None:
    source = MemorySource(data)
    found = walk_nals(source, HEVC, 4, Plain(hidden_by(["location"])), cut=cut)
    return None if found is None else apply(data, found.patches)


def test_units_are_cut_by_their_lengths():
    data = b"\0\2\x65a\0\0\0\3\6bc\0"
    found = [(unit.start, unit.end, unit.head) for unit in units(MemorySource(data), 0, AVC, 2)]
    assert found == [(2, 4, b"\x65"), (6, 6, b"\0"), (8, 11, b"\6"), (13, 13, b"")]


def test_a_picture_stays_and_what_tells_in_it_goes():
    assert cleaned(picture()) == picture()
    out = cleaned(user_sei(b"somewhere") + picture())
    assert out is not None
    assert b"somewhere" not in out
    assert out.endswith(picture())


@pytest.mark.parametrize("kind", [38, 41, 45, 50, 63])
def test_units_that_may_hold_anything_become_filler(kind):
    out = cleaned(nal(kind, b"anything") + picture())
    assert out == nal(kind, b"\xff" * 7 + b"\x80") + picture()


def test_long_ones_become_zeros_unread():
    assert cleaned(nal(39, b"x" * 70_000) + picture()) == nal(39, bytes(70_000)) + picture()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        nal(33, b"parameters only"),
        picture()[:-1],
        picture() + b"\0\0\0\1\x28",
        picture() + b"\0\0\0\5\xa8\1abc",
        picture() + b"\0\0",
        picture() + b"\0\0\0\x09abc",
    ],
)
def test_what_is_no_chain_with_a_picture(data):
    assert cleaned(data + b"?" * (data == b"")) is None


def test_zeros_behind_the_last_unit_and_a_cut_file():
    assert cleaned(picture() + bytes(40)) == picture() + bytes(40)
    assert cleaned(picture()[:-5], cut=True) == picture()[:-5]
    assert cleaned(picture() + b"\0\0\1", cut=True) == picture() + bytes(3)
