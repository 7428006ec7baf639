"""ICC profiles: their form, and what else a writer may put into them."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.colour_profiles import is_profile, profile_stays
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
