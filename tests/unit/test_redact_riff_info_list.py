"""Lists of texts in RIFF: which texts stay, and where."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from tests.support.samples import sounds
from tests.support.samples.sound_checks import (
    place_in,
    redact,
)
from tests.support.samples.sounds import CITY, WAV


def test_a_list_that_got_shorter_is_followed_by_padding():
    out = redact(WAV, sounds.wav(sounds.info(IARL=CITY, INAM=b"Quince")))
    kept = sounds.info(INAM=b"Quince")
    at = out.index(b"LIST")
    assert out[at : at + len(kept)] == kept
    assert out[at + len(kept) :].startswith(b"JUNK")


@pytest.mark.parametrize("name", ["IXYZ", "IARL"])
def test_a_list_without_its_padding_byte_leaves_the_next_chunk_where_it_is(name):
    for texts in (sounds.info(INAM=b"Quince", IARL=CITY), sounds.info(INAM=b"Quince", IARL=b"47.8, 13")):
        odd = sounds.chunk(b"LIST", texts[8:] + b"x", padding=b"")
        out = redact(WAV, sounds.wav(odd + sounds.info(**{name: CITY})))
        assert b"Quince" in out
        assert CITY not in out
        assert out.endswith(sounds.wav()[-108:])


def test_named_texts_of_riff_stay():
    data = sounds.wav(sounds.info(STAR=b"Rosa", TLEN=b"1000", AGES=b"6", ISMP=b"10:00:00:00"))
    assert redact(WAV, data) == data
    told = sounds.wav(sounds.info(STAR=b"47.80453, 13.04229", LOCA=CITY, WHAT=CITY))
    assert not place_in(redact(WAV, told))


def test_the_name_of_a_tape_and_the_version_of_a_program():
    data = sounds.wav(sounds.info(TAPE=b"Rosas Band", VMAJ=b"19"))
    assert b"Rosas" not in redact(WAV, data, Tells.PEOPLE)
    assert b"VMAJ" not in redact(WAV, data, Tells.DEVICE)
    assert redact(WAV, data) == data
