"""Subtitles beside films: words that tell data go, times stay."""

from __future__ import annotations

import re

import pytest

from policyfs.content.workers.worker import Detector
from tests.support.samples import subtitles
from tests.support.samples.media import HOME
from tests.support.samples.plants import PLANTS, tells
from tests.support.samples.redacted import redacted_if_served as redacted
from tests.support.samples.subtitles import PLACE, SBV, SCRIPT, SUBRIP, VTT, sbv, script, subrip, vtt

_TOLD = re.compile(rf"{HOME.city}|{HOME.latitude}|{HOME.longitude}".encode())
_TIMES = re.compile(rb"(?:\d{1,2}:)*\d\d[,.]\d{2,3}(?: --> |,)(?:\d{1,2}:)+\d\d[,.]\d{2,3}")


@pytest.mark.parametrize("name", subtitles.HIDING)
def test_places_go_from_every_part(name: str) -> None:
    kind, data = subtitles.HIDING[name]
    assert Detector().kind(data) == kind
    assert _TOLD.search(data.replace(b"\0", b"")), "nothing is planted"
    out = redacted(kind, data)
    assert out
    assert not _TOLD.search(out.replace(b"\0", b""))
    assert _TIMES.findall(out) == _TIMES.findall(data) or name in ("behind a time", "comment of ASS")


def test_every_number_of_a_flight_goes() -> None:
    """A fix that a receiver loses for a moment is still a part of the track."""
    out = redacted(SUBRIP, subrip(subtitles.drone(1, PLACE), "H 12.50 D 1234.5", "at 5 Rosa flies"))
    assert b"1234" not in out
    assert b"at 5 Rosa flies" in out
    assert b"2021" not in redacted(SUBRIP, subtitles.FLIGHT, "time")
    assert b"Rosa flies" in redacted(SUBRIP, subtitles.FLIGHT, "time")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (SUBRIP, subrip("Hello.", "2 quinces,\n\n1.234 or 12", "3")),
        (SUBRIP, subrip("1", "2").replace(b",900", b",900 X1:10 X2:20 Y1:1 Y2:2")),
        (VTT, vtt("Hello.", "<i>Rosa</i>", head="\n\nSTYLE\n::cue { color: #fff }\n\nREGION\nid:a")),
        (SBV, sbv("Hello.", "Rosa")),
        (SCRIPT, script("Hello.", r"{\pos(192,28)\fs12.345}Rosa")),
    ],
)
def test_words_that_tell_nothing_stay(kind: str, data: bytes) -> None:
    for word in ("location", "time", "device"):
        assert redacted(kind, data, word) == data
    people = redacted(kind, data, "people")
    assert not re.search(b"Hello|Rosa|quinces", people)
    assert _TIMES.findall(people) == _TIMES.findall(data)


def test_settings_of_a_cue_that_are_no_settings_are_words() -> None:
    plain = vtt("Hello.").replace(b"line:0", b"line:84.66%,end position:50%,line-left size:35%")
    assert b"line:84.66%,end position:50%,line-left size:35% align:left\n" in redacted(VTT, plain, "people")
    for setting in (b"region:Quincebury", b"align:Quincebury", b"line:Quincebury", b"at Quincebury"):
        out = redacted(VTT, plain.replace(b"align:left", setting), "people")
        assert out.count(b" --> 00:00.900 ") == 1
        assert b"Quincebury" not in out


@pytest.mark.parametrize("name", PLANTS)
def test_metadata_in_words_goes(name: str) -> None:
    value = re.sub(rb"[\r\n\0,]", b" ", PLANTS[name]) + b" 47.80453, 13.04229"
    for kind, data in (
        (SUBRIP, subrip("a", "WORDS")), (VTT, vtt("WORDS")), (SBV, sbv("WORDS")), (SCRIPT, script("WORDS")),
    ):  # fmt: skip
        for word in ("location", "people"):
            out = redacted(kind, data.replace(b"WORDS", value), word)
            assert not tells(out)
            assert not _TOLD.search(out)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (SUBRIP, b""),
        (SUBRIP, b"no time"),
        (SUBRIP, b"\xff\xfe\0\xd8"),
        (SUBRIP, subrip("a\0b")),
        (SUBRIP, subrip(*(["a"] * 26_000))),
        (SUBRIP, subrip("a\n" * 300_001)),
        (SCRIPT, b"[Script Info]\n"),
        (SCRIPT, script("a", behind=";\n" * (1 << 19))),
    ],
    ids=range(8),
)
def test_other_files_are_refused(kind: str, data: bytes) -> None:
    assert redacted(kind, data) == b""
