"""Tables of streams: what each stream holds, and what stays of the tables."""

from __future__ import annotations

import pytest

from policyfs.redact.bitstreams.nal_units import AVC, HEVC, MPEG
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.mpeg import sections
from tests.support.samples import mpegs
from tests.support.samples.mpegs import PLACE, descriptor, pmt, section
from tests.unit.test_redact_registry import cleaners


def test_the_checksum_is_the_standards():
    """The checksum of a PAT that ffmpeg wrote."""
    data = bytes.fromhex("00b00d0001c100000001f0002ab104b2")
    assert sections.checksum(data[:-4]) == data[-4:]
    assert sections.programs(data, cleaners()) == {0x1000}
    assert sections.programs(data[:-1] + b"x", cleaners()) is None


@pytest.mark.parametrize(
    ("kind", "more", "codec"),
    [
        *((0x02, b"", MPEG.name), (0x10, b"", MPEG.name), (0x1B, b"", AVC.name), (0x24, b"", HEVC.name)),
        *((0x03, b"", ""), (0x81, b"", ""), (0x83, b"", None), (0x06, b"", None), (0x15, b"", None)),
        (0x83, descriptor(5, b"HDMV"), ""),
        (0x06, descriptor(5, b"HEVC"), HEVC.name),
        (0x06, descriptor(5, b"Opus"), ""),
        (0x06, descriptor(0x6A, b"\0"), ""),
        (0x06, descriptor(5, b"KLVA"), None),
    ],
)
def test_what_a_stream_holds(kind, more, codec):
    found = sections.program(pmt((kind, 0x200, more)), cleaners())
    assert found is not None
    assert found.streams == {0x200: codec}


@pytest.mark.parametrize(("kind", "more"), [(0xEA, b""), (0x33, b""), (0x06, descriptor(5, b"VC-1"))])
def test_pictures_that_are_not_searched_are_refused(kind, more):
    with pytest.raises(NotThisKindError):
        sections.program(pmt((kind, 0x200, more)), cleaners())


def test_descriptors_with_texts_become_stuffing():
    known = descriptor(5, b"HDMV") + descriptor(0x0A, b"ger\0")
    for odd in (descriptor(0xF0, b"a place"), descriptor(0x0A, b"2 km"), descriptor(5, b"HDMV, at home")):
        found = sections.program(pmt((0x1B, 0x200, odd), info=known), cleaners())
        blank = descriptor(odd[0], b"\xff" * (len(odd) - 2))
        assert found is not None
        assert found.data == pmt((0x1B, 0x200, blank), info=known)


@pytest.mark.parametrize(
    "data",
    [
        *(section(3, bytes(20)), pmt((0x1B, 0x200, b"\5\7ab")), pmt((0x1B, 0x200, b"\5"))),
        section(2, bytes(7) + b"\xf0\xff"),
        section(2, bytes(9) + b"\x1b\xe1\0\xf0\xff"),
    ],
)
def test_tables_that_are_none(data):
    assert sections.program(data, cleaners()) is None


def test_tables_with_metadata_are_refused():
    with pytest.raises(NotThisKindError):
        sections.programs(section(0, bytes(5) + b"<x:xmpmeta xx/>x"), cleaners())


def test_names_of_services():
    data = mpegs.sdt(b"Service01")
    assert not sections.services(data, cleaners())
    assert sections.services(data, cleaners(Tells.PEOPLE)) == Tells.PEOPLE
    assert sections.services(mpegs.sdt(PLACE), cleaners()) == Tells.LOCATION
    for odd in (data[:-1] + b"x", section(0x42, bytes(8) + bytes(4) + b"\xff"), section(0x4E, bytes(20))):
        assert sections.services(odd, cleaners(UNKNOWN)) == UNKNOWN


def test_the_table_of_a_recorder():
    rates = b"\xff\xff\xc1\0\0\xf0\x0a\x63\x08" + bytes(8) + b"\0\1\x80\0"
    data = section(0x7F, rates)
    data = data[:1] + b"\xf0" + data[2:-4]
    data += sections.checksum(data)
    assert sections.is_selection(data)
    assert not sections.is_selection(section(0x7F, rates + PLACE))


def test_the_map_of_a_program_stream():
    data = mpegs.stream_map((0x1B, 0xE0, b""), (0x03, 0xC0, descriptor(0xF0, b"home")))
    found = sections.stream_map(data, cleaners())
    assert found is not None
    assert found.streams == {0xE0: AVC.name, 0xC0: ""}
    assert found.data == mpegs.stream_map((0x1B, 0xE0, b""), (0x03, 0xC0, descriptor(0xF0, b"\xff" * 4)))
    for odd in (data[:-1] + b"x", b"", mpegs.stream_map((0x1B, 0xE0, b"\1\x09"))):
        assert sections.stream_map(odd, cleaners()) is None
