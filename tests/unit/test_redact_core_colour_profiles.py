"""ICC profiles: their form, and what else a writer may put into them."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.colour_profiles import is_colour, is_profile, profile_stays
from tests.redaction.planted_parts import profile
from tests.support.samples.inners import Plain
from tests.support.samples.plants import PLANTS

KINDS = [b"desc", b"text", b"zzzz", b"curv", b"mft2", b"mAB "]


@pytest.mark.parametrize(
    ("change", "is_one"),
    [
        (lambda data: data, True),
        (lambda data: data + b"\0\0\0", True),
        (lambda data: data + b"\0\0\1", False),
        (lambda data: data + bytes(5), False),
        (lambda data: data[:-1], False),
        (lambda data: data.replace(b"acsp", b"acsq"), False),
        (lambda _: b"", False),
    ],
)
def test_the_form_of_a_profile(change, is_one):
    assert is_profile(change(profile(b"plain words"))) is is_one


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PLANTS)
def test_other_data_in_a_profile_is_found_in_every_tag(kind, name):
    assert profile_stays(profile(b"Copyright 1998 Quince Company", kind), Plain())
    assert not profile_stays(profile(PLANTS[name], kind), Plain())
    is_text = "text" in name
    assert profile_stays(profile(PLANTS[name], kind), Plain(Tells.DEVICE)) is is_text


def test_numbers_of_a_table_are_no_text():
    """Colours of a dark picture look like digits."""
    table = b"8d6' 2,003;)=1,331 5*16' 47.80 13.04"
    assert profile_stays(profile(bytes(range(0x20, 0x7F)) + table[:6], b"mft2"), Plain())
    assert not profile_stays(b"", Plain())


def test_a_list_of_tags_that_is_too_long_or_leads_outside_is_searched_whole():
    for name, value in PLANTS.items():
        data = bytearray(profile(value, b"mft2"))
        data[128:132] = b"\xff\xff\xff\xff"
        assert not profile_stays(bytes(data), Plain()), name


def box_profile(size: int, stated: int | None = None, mark: bytes = b"acsp") -> bytes:
    head = (size if stated is None else stated).to_bytes(4) + bytes(32) + mark
    return head.ljust(size, b"p")


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (b"nclx" + bytes(7), True),
        (b"nclx" + bytes(8), False),
        (b"nclc" + bytes(6), True),
        (b"nclc", True),
        (b"prof", True),
        (b"rICC", True),
        (b"prof" + box_profile(128), True),
        (b"rICC" + box_profile(500), True),
        (b"prof" + box_profile(127), False),
        (b"prof" + box_profile(200, 201), False),
        (b"prof" + box_profile(200, 196), True),  # up to four bytes of padding
        (b"prof" + box_profile(200, 195), False),
        (b"prof" + box_profile(200, mark=b"acsq"), False),
        (b"prof" + b"\0\0\0\x80", False),
        (b"what" + box_profile(200), False),
        (b"", False),
    ],
)
def test_what_is_a_colour_description(data: bytes, colour: bool) -> None:
    assert is_colour(data, Plain()) is colour
