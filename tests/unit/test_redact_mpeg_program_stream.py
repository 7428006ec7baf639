"""Program streams: what goes from which packet, and what stays as it was."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.mpeg import program_stream
from policyfs.redact.registry import locate_in
from tests.support.samples import mpegs
from tests.support.samples.film_checks import assert_place_goes, assert_stays, redact
from tests.support.samples.mpegs import (
    MPEG_PICTURE,
    PACK,
    PLACE,
    PS,
    SOUND,
    USER_DATA,
    other,
    pes,
    ps,
    stream_map,
)


@pytest.mark.parametrize("case", mpegs.PROGRAM_HIDING)
def test_places_go(case):
    assert_place_goes(PS, mpegs.PROGRAM_HIDING[case]())


@pytest.mark.parametrize("data", mpegs.plain(PS))
def test_what_is_not_asked_for_stays(data):
    assert_stays(PS, data)


def test_pictures_are_searched_in_parts(monkeypatch):
    monkeypatch.setattr(program_stream, "_SEARCH_BYTES", 30)
    monkeypatch.setattr("policyfs.redact.mpeg.elementary._FIRST_BYTES", 40)
    assert_place_goes(PS, ps(picture=MPEG_PICTURE + USER_DATA, size=17))
    assert_place_goes(PS, MPEG_PICTURE + USER_DATA + MPEG_PICTURE * 2)


def test_menus_of_a_dvd_stay_except_under_time():
    data = ps(other(0xBF, b"\0" + b"\1" * 979), other(0xBF, b"\1" + b"\2" * 1017))
    assert_stays(PS, data)
    assert b"\1" * 979 not in redact(PS, data, Tells.TIME)


def test_sound_of_a_dvd_and_padding_stay():
    padding = other(0xBE, b"\xff\xff\x0f" + b"\xff" * 9), other(0xBE, b"\xff" * 20), b"\0" * 40
    assert_stays(PS, ps(pes(0xBD, b"\x80\1\0\1" + SOUND), *padding))


def test_a_last_packet_that_is_cut_off():
    data = ps()
    assert_stays(PS, data[: len(data) - 20])
    assert_stays(PS, data[: len(data) - len(MPEG_PICTURE) - 10])


@pytest.mark.parametrize(
    "data",
    [
        *(b"", PACK, b"\0\0\1\xb3", PACK + bytes(100), b"\0\0\1\xba" + b"\xff" * 30),
        PACK + b"junk" * 20_000 + ps(),
        ps(b"\0\0\1\xe0\0\0\x80\0\0" + MPEG_PICTURE),
        ps(other(0xFD, b"\x80\0\0" + MPEG_PICTURE)),
        ps(other(0xE0, b"\xb0\0\0" + MPEG_PICTURE)),
        ps(other(0xE0, b"\x80\x80\0" + MPEG_PICTURE)),
        ps(pes(0xC0, SOUND + PLACE)),
        ps(pes(0xE1, b"\0\0\1\x01", sized=True)),
        stream_map((0x1B, 0xE0, b"")).join((PACK, ps())),
        stream_map((0x06, 0xE0, b"")).join((PACK, ps())),
        stream_map((0x02, 0xE0, b"")).join((PACK, ps(stream_map((0x1B, 0xE0, b""))))),
    ],
)
def test_what_is_no_such_file_is_refused(data):
    with pytest.raises(NotThisKindError):
        locate_in(PS, MemorySource(data), Tells.LOCATION)


def test_too_many_streams_are_refused(monkeypatch):
    monkeypatch.setattr(program_stream, "_MAX_STREAMS", 2)
    with pytest.raises(TooMuchError):
        locate_in(PS, MemorySource(ps(pes(0xC1, SOUND))), Tells.LOCATION)
