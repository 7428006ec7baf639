"""Transport streams: what goes from which packet, and what stays as it was."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.mpeg import transport_stream
from policyfs.redact.registry import locate_in
from tests.support.samples import mpegs
from tests.support.samples.film_checks import assert_place_goes, assert_stays, redact
from tests.support.samples.mpegs import (
    AUD,
    DATA_PID,
    EXPOSED,
    GPS,
    PICTURE,
    PLACE,
    PLACE_NUMBERS,
    SOUND,
    SOUND_PID,
    STREAMS,
    TABLE_PID,
    TS,
    VIDEO_PID,
    packet,
    packets,
    pes,
    pmt,
    tables,
    ts,
)


@pytest.mark.parametrize("case", mpegs.TRANSPORT_HIDING)
def test_places_go(case):
    assert_place_goes(TS, mpegs.TRANSPORT_HIDING[case]())


@pytest.mark.parametrize("data", mpegs.plain(TS))
def test_what_is_not_asked_for_stays(data):
    assert_stays(TS, data)


@pytest.mark.parametrize("size", [184, 30, 12])
def test_a_camcorders_position_goes_and_its_exposure_stays(size):
    """A message in many packets: bytes of one number lie in two of them."""
    data = ts(picture=AUD + mpegs.mdpm(EXPOSED, *GPS) + PICTURE, size=size, clock=b"\0\0\0\1")
    out = redact(TS, data)
    joined = [
        b"".join(each[at + 192 - size : at + 192] for at in range(0, len(each), 192)) for each in (data, out)
    ]
    assert PLACE_NUMBERS in joined[0]
    assert PLACE_NUMBERS not in joined[1]
    assert EXPOSED in joined[1]
    assert EXPOSED not in redact(TS, ts(picture=AUD + mpegs.mdpm(EXPOSED) + PICTURE), Tells.OTHER)


def test_pictures_in_windows(monkeypatch):
    """A message goes, wherever a window of the file ends."""
    monkeypatch.setattr(transport_stream, "_WINDOW_PACKETS", 2)
    picture = AUD + mpegs.NOTE + PICTURE
    assert_place_goes(TS, ts(*(packets(VIDEO_PID, pes(0xE0, picture), 11),) * 3))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"G", bytes(400), b"G" * 100 + bytes(400)),
        tables(0, mpegs.pat(TABLE_PID)) * 4,
        tables(0, mpegs.pat(TABLE_PID)) * 3 + tables(TABLE_PID, pmt(*STREAMS)),
        ts(packet(VIDEO_PID, b"x", flags=0x80)),
        ts(packets(VIDEO_PID, b"\0\0\1\xe0\0\0\xb0\0\0" + PICTURE)),
        ts(packets(SOUND_PID, pes(0xC0, SOUND + PLACE))),
        ts(packets(SOUND_PID, pes(0xC0, SOUND)) + packets(SOUND_PID, b"ID3\4\0\0\0\0\0\x20" + bytes(9))),
        ts(tables(TABLE_PID, pmt((3, VIDEO_PID, b"")))),
        ts(tables(TABLE_PID, pmt((0x1B, TABLE_PID, b"")))),
        ts(table=pmt((0x02, VIDEO_PID, b""))),
        ts(picture=mpegs.MPEG_PICTURE),
        ts(b"x" * 188),
        ts() + b"x" * 188 + ts(),
        ts(packets(VIDEO_PID, b"no header")),
        ts(packets(VIDEO_PID, b"\0\0\1\xbe\1\x40" + PLACE * 20)),
        ts(packets(VIDEO_PID, pes(0xBD, PLACE))),
        ts(packets(SOUND_PID, pes(0xE0, PLACE))),
        ts(packets(VIDEO_PID, b"\0\0\1\xf0\0\0\x80\0\0" + PICTURE)),
    ],
)
def test_what_is_no_such_file_is_refused(data):
    with pytest.raises(NotThisKindError):
        locate_in(TS, MemorySource(data), Tells.LOCATION)


def test_too_many_streams_are_refused():
    rows = tuple((0x0F, pid, b"") for pid in range(0x300, 0x300 + 33))
    more = tuple((0x0F, pid, b"") for pid in range(0x400, 0x400 + 33))
    for data in (
        ts(tables(TABLE_PID, pmt(*rows)), tables(TABLE_PID, pmt(*more))),
        ts(tables(0, mpegs.pat(*range(0x300, 0x300 + 40))), tables(0, mpegs.pat(*range(0x400, 0x400 + 40)))),
    ):
        with pytest.raises((TooMuchError, NotThisKindError)):
            locate_in(TS, MemorySource(data), Tells.LOCATION)


def test_too_many_changes_are_refused(monkeypatch):
    monkeypatch.setattr(transport_stream, "MAX_CHANGES", 2)
    data = ts(*(packet(DATA_PID, PLACE),) * 3)
    with pytest.raises(TooMuchError):
        locate_in(TS, MemorySource(data), Tells.LOCATION)


def test_the_clock_of_a_stream_of_data_stays():
    """Players may take the time from a stream that goes."""
    clock = b"\x10\0\1\2\3\x7e\0"
    data = ts(packet(DATA_PID, pes(0xFC, PLACE), begins=True, field=clock))
    assert clock in redact(TS, data)
    assert_place_goes(TS, data)
