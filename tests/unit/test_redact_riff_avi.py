"""AVI: what goes from which list, and what stays as it was."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.plan import Outcome, locate
from tests.support.samples import sounds
from tests.support.samples.sound_checks import assert_refused, redact
from tests.support.samples.sounds import AVI, CITY, PLAIN


@pytest.mark.parametrize("data", [b"", PLAIN["AVI"][1][:14], sounds.avi(movie=b"\0\1\2\3 what is this?")])
def test_what_is_no_such_file_is_refused(data):
    assert_refused(AVI, data)


def test_streams_of_texts_without_padding_bytes_go():
    text = sounds.chunk(b"00tx", CITY, padding=b"")
    picture = sounds.chunk(b"00dc", b"picture?")
    out = redact(AVI, sounds.avi(movie=text + picture))
    assert CITY not in out
    assert picture in out


def test_a_list_of_a_stream_has_one_header():
    """A second one would make the next stream one more to some readers, and not to others."""
    text = sounds.chunk(b"LIST", b"strl" + sounds.chunk(b"strh", b"txts" + bytes(52)))
    twice = sounds.chunk(b"strh", b"vids" + bytes(52))
    data = sounds.avi(more=twice, movie=sounds.chunk(b"01wb", CITY))
    at = data.index(b"strl") - 8
    end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    size = (int.from_bytes(data[16:20], "little") + len(text)).to_bytes(4, "little")
    data = data[:16] + size + data[20:end] + text + data[end:]
    whole = (len(data) - 8).to_bytes(4, "little")
    out = redact(AVI, data[:4] + whole + data[8:])
    assert CITY not in out
    assert out.count(b"strh") == 2


def test_what_is_behind_a_list_of_pictures_is_not_read_with_it():
    empty = b"LIST" + bytes(4)
    data = sounds.avi(movie=empty, behind=b"RIFF" + sounds.chunk(b"", b"AVIX" + bytes(8)))
    at = data.index(empty) + 8
    tail = sounds.chunk(b"rec ", CITY)
    size = (len(data) - at + len(tail) + int.from_bytes(data[4:8], "little")).to_bytes(4, "little")
    assert CITY not in redact(AVI, data[:4] + size + data[8:at] + tail)


def test_digital_video_tells_when_in_each_picture():
    data = sounds.avi(streams=b"iavs")
    assert locate(AVI, frozenset({"location"}), MemorySource(data)).outcome is Outcome.CLEAN
    assert locate(AVI, frozenset({"time"}), MemorySource(data)).outcome is Outcome.REFUSE


@pytest.mark.parametrize("size", range(1, 13))
def test_a_list_of_pictures_that_the_end_of_a_riff_cuts(size):
    """The name of what is in it would be cut, too, once what is behind is zeros."""
    first = sounds.avi()
    second = b"LIST\x2c\0\0\0movi" + sounds.chunk(b"00dc", b"picture!")
    length = (len(first) - 8 + size).to_bytes(4, "little")
    redact(AVI, b"RIFF" + length + first[8:] + second)


_OWN = b"[= MPlayer junk data! =]" * 3 + b"[= MPlayer j"


@pytest.mark.parametrize(
    ("padding", "word", "stays"),
    [
        (b"\4\0\0\0\0\0\0\x0000dc" + bytes(500), "all-metadata", True),
        (b"\4\0\0\0\0\0\0\x0001wb" + bytes(500), "location", True),
        (b"odmldmlh\xf8\0\0\0" + bytes(244), "all-metadata", True),
        (b"\4\0\0\0\1\0\0\x0000dc" + bytes(500), "location", False),
        (b"\4\0\0\0\0\0\0\x0000dc" + bytes(60) + CITY, "location", False),
        (b"odmldmlh\xf8\0\0\0" + CITY, "device", False),
        (_OWN, "location", True),
        (_OWN, "device", False),
        (_OWN + CITY[:4], "location", False),
        (b"VirtualDub build 32842/release" + bytes(99), "people", True),
        (b"VirtualDub build 32842/release", "device", False),
        (b"VirtualDub build 32842/release" + CITY, "location", False),
        (CITY, "location", False),
        (bytes(70_000) + CITY, "location", False),
    ],
)
def test_padding_by_its_bytes(padding, word, stays):
    data = sounds.avi(more=sounds.chunk(b"JUNK", padding))
    assert padding in data
    out = redact(AVI, data, hidden_by([word]))
    assert (padding in out) is stays


def test_a_header_with_metadata_is_refused():
    """Without the header there would be no stream."""
    data = sounds.avi().replace(b"vids" + bytes(52), b"vids" + (b"jumb\0\0\0\x10jumd").ljust(52, b"\0"))
    plan = locate(AVI, frozenset({"device"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert "metadata" in plan.reason
