"""Messages in single frames, apart from any container."""

from __future__ import annotations

import pytest

from policyfs.redact.bitstreams.decoder_config import Framing
from policyfs.redact.bitstreams.frames import (
    _READ_BYTES,
    SAMPLE_UNITS,
    Frame,
    UnitLimits,
    clean_frame,
)
from policyfs.redact.bitstreams.nal_units import (
    AV1,
    AVC,
    HEVC,
    MPEG,
    START_CODE,
    VVC,
    Codec,
    start_code_units,
)
from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.cleaners import NotThisKindError, TooMuchError
from policyfs.redact.core.patches import CHUNK_BYTES, MemorySource, apply
from tests.support.samples.heifs import obu
from tests.support.samples.inners import PLACES, Plain
from tests.support.samples.movies import CITY, SLICE, sei

MESSAGE = sei(5, bytes(range(16, 32)) + CITY)
CODED = Framing(AVC, 4)


@pytest.mark.parametrize("lead", [b"", MESSAGE[:3], MESSAGE[:5]])
def test_a_frame_behind_a_lead(lead: bytes) -> None:
    data = b"other" + (MESSAGE + SLICE)[len(lead) :]
    frame = Frame(5, len(data) - 5, lead)
    found = clean_frame(MemorySource(data), frame, CODED, PLACES, UnitLimits(9))
    out = apply(data, found.patches)
    assert CITY not in out
    assert out.startswith(b"other")
    assert out.endswith(SLICE)


def test_a_lead_with_a_message() -> None:
    data = (MESSAGE + SLICE)[30:]
    with pytest.raises(NotThisKindError):
        clean_frame(MemorySource(data), Frame(0, len(data), MESSAGE[:30]), CODED, PLACES, UnitLimits(9))


def test_start_codes_at_every_offset_of_a_chunk_s_end() -> None:
    for before in range(CHUNK_BYTES - 5, CHUNK_BYTES + 2):
        data = START_CODE + b"\x65" * (before - 3) + START_CODE + b"\x06abc"
        units = list(start_code_units(MemorySource(data), 0, len(data), AVC, Plain().budget))
        assert [(unit.start, unit.end, unit.head) for unit in units] == [
            (3, before, b"\x65"),
            (before + 3, len(data), b"\x06"),
        ]


def test_no_unit_without_a_start_code() -> None:
    for data in (b"", b"\0\0", b"abc", START_CODE):
        assert not list(start_code_units(MemorySource(data), 0, len(data), AVC, Plain().budget))


@pytest.mark.parametrize(
    ("codec", "head", "slice_"),
    [(AVC, b"\x06", b"\x65"), (HEVC, b"\x4e\1", b"\2\1"), (VVC, b"\0\xb9", b"\0\1")],
)
@pytest.mark.parametrize("within", [b"", b"a", b"a" * _READ_BYTES])
def test_small_slices_hide_no_message_at_any_offset(
    codec: Codec, head: bytes, slice_: bytes, within: bytes
) -> None:
    """within: bytes of a slice before a start code and the message."""
    unit = (slice_ + within + START_CODE if within else b"") + head + MESSAGE[5:]
    small, end = len(slice_).to_bytes(4) + slice_, len(unit).to_bytes(4) + unit
    for more in range(1, 4 + len(slice_) + 2):  # a length of 1 at the start is a start code
        pad = slice_ + b"x" * more
        data = len(pad).to_bytes(4) + pad + small * (_READ_BYTES // len(small) - 1) + end + small
        found = clean_frame(MemorySource(data), Frame(0, len(data)), Framing(codec, 4), PLACES, UnitLimits())
        assert CITY not in apply(data, found.patches)


def test_too_many_messages() -> None:
    counter = UnitLimits(9, room=60)
    counter.message(b"x" * 50)
    with pytest.raises(TooMuchError):
        counter.message(b"x\0\0\3")


@pytest.mark.parametrize(
    ("coded", "unit", "message"),
    [(CODED, b"\0\0\0\2\x09\x10", MESSAGE), (Framing(AV1, 0), obu(2, b""), obu(5, b"\x1f" + CITY))],
)
def test_a_frame_of_too_many_units_is_refused_and_never_left(coded: Framing, unit: bytes, message: bytes):
    for count in (300, SAMPLE_UNITS - 1, SAMPLE_UNITS):
        data = unit * count + message
        frame = Frame(0, len(data))
        if count == SAMPLE_UNITS:
            with pytest.raises(TooMuchError, match="units"):
                clean_frame(MemorySource(data), frame, coded, PLACES, UnitLimits())
        else:
            found = clean_frame(MemorySource(data), frame, coded, PLACES, UnitLimits())
            assert CITY not in apply(data, found.patches)


def test_bytes_before_the_first_start_code_of_mpeg() -> None:
    data = b"\xff\0\0\1\xb2" + CITY + b"\0\0\1\0slice"
    found = clean_frame(MemorySource(data), Frame(0, len(data)), Framing(MPEG, 0), PLACES, UnitLimits(9))
    assert CITY not in apply(data, found.patches)


@pytest.mark.parametrize("size", [4, 0])
@pytest.mark.parametrize("codes", [START_CODE, b"\0" + START_CODE, START_CODE * 2])
@pytest.mark.parametrize(
    ("codec", "head", "last"),
    [(AVC, b"\x06", b"\x65slice"), (HEVC, b"\x4e\1", b"\2\1slice"), (VVC, b"\0\xb9", b"\0\1slice")],
)
def test_an_empty_unit_before_a_start_code_ends_no_search(
    codec: Codec, head: bytes, last: bytes, codes: bytes, size: int
) -> None:
    """Size 4: the start code is in a unit behind its length. FFmpeg reads it."""
    unit = codes + head + MESSAGE[5:]
    data = b"".join((len(one).to_bytes(4) if size else START_CODE) + one for one in (unit, last))
    found = clean_frame(MemorySource(data), Frame(0, len(data)), Framing(codec, size), PLACES, UnitLimits(9))
    out = apply(data, found.patches)
    assert CITY not in out
    assert out.endswith(last)
    assert codes in out


def test_messages_that_become_many_patches_are_too_much() -> None:
    text = bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef") + b"\0\0\3\1ab" * 8_495 + bytes(200)
    unit = b"\x06\x05" + b"\xff" * 200 + b"\x0a" + text + b"\x80"
    unit = len(unit).to_bytes(4) + unit
    inner = Plain(hidden_by(["device"]))
    inner.budget.parts //= 10
    for count in (1, 10):
        data = unit * count
        if count == 10:
            with pytest.raises(TooMuchError, match="parts"):
                clean_frame(
                    MemorySource(data), Frame(0, len(data)), CODED, inner, UnitLimits(count, len(data) << 4)
                )
        else:
            assert clean_frame(MemorySource(data), Frame(0, len(data)), CODED, inner, UnitLimits(count)).notes
