"""NAL units behind lengths: what is a chain of them, and what does not stay in one."""

from __future__ import annotations

import pytest

from policyfs.redact.bitstreams.layers import Layers, types_of
from policyfs.redact.bitstreams.nal_units import AV1, AVC, HEVC, MPEG, VVC, codec_of, units, walk_nals
from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.patches import MemorySource, apply
from tests.support.samples.heifs import nal, picture, user_sei
from tests.support.samples.inners import Plain


def cleaned(data: bytes, *, cut: bool = False, layers: Layers = Layers.NONE) -> bytes | None:
    source = MemorySource(data)
    found = walk_nals(source, types_of(HEVC, layers), 4, Plain(hidden_by(["location"])), cut=cut)
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


@pytest.mark.parametrize("kind", [10, 15, 38, 41, 45, 50, 63])
def test_units_that_may_hold_anything_become_filler(kind):
    out = cleaned(nal(kind, b"anything") + picture())
    assert out == nal(kind, b"\xff" * 7 + b"\x80") + picture()


@pytest.mark.parametrize("kind", [1, 33, 35])
def test_units_behind_a_start_code_in_a_unit_are_units(kind):
    """No such unit is legal, but FFmpeg reads a start code within a unit."""
    hidden = nal(kind, b"abc\x80\0\0\1" + user_sei(b"somewhere")[4:])
    out = cleaned(hidden + picture())
    assert out is not None
    assert b"somewhere" not in out
    assert out.startswith(hidden[:9])
    assert out.endswith(picture())


def test_numbers_in_a_unit_that_refers_to_others_are_no_start_code():
    data = nal(49, b"\0\0\1\x4e\1anything") + picture()
    assert cleaned(data, layers=Layers.AGGREGATES) == data


@pytest.mark.parametrize(
    ("codes", "codec"),
    [
        (b"avc1,AVC1,ai5p,ai16,AVin,aivx,rv64,xalg,avlg,dva1,dvav,H264,h264,X264,INMC", AVC),
        (b"hvc1,hev1,HEVC,X265,dvhe,hvt1,lhv1,lhe1,hvc2,hev2", HEVC),
        (b"vvc1,vvi1,vvcN,H266", VVC),
        (b"av01,AV01,dav1", AV1),
        (b"mp4v,m1v ,mp1v,m2v1,mp2v,AVmp,mx5n,hdv1,xdv9,xd5b,xdhd,xdh2,DIVX,MPG2", MPEG),
        (b"dvh1,dvc ,jpeg,apcn,vp09,AVdn,MJPG,", None),
    ],
)
def test_codecs_have_many_codes(codes, codec):
    assert {codec_of(code) for code in codes.split(b",")} == {codec}


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
