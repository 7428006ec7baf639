"""Headers of PES packets: clocks stay, other data becomes stuffing."""

from __future__ import annotations

import pytest

from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.mpeg import pes
from tests.support.samples import mpegs

CLOCK = b"\x21\0\1\0\1"


def head(flags: int, fields: bytes) -> bytes:
    return pes.cleaned_header(mpegs.pes(0xE0, b"data", flags=flags, fields=fields))[pes.LEAST_BYTES :]


@pytest.mark.parametrize(
    ("flags", "fields", "kept"),
    [
        (0x80, CLOCK + b"abc", CLOCK + b"\xff" * 3),
        (0x80, CLOCK + b"\0\0", CLOCK + b"\0\0"),
        (0x01, b"\x80" + b"a place at home!" + b"ab", b"\x80" + b"\xff" * 18),
        (0x01, b"\x40\4home" + b"\xff", b"\x40\4" + b"\xff" * 5),
        (0x01, b"\x01\x84\x55abc", b"\x01\x84\x55" + b"\xff" * 3),
        (0x01, b"\x30abcd", b"\x30abcd"),
        (0xFE, bytes(range(23)), bytes(range(23))),
    ],
)
def test_known_fields_stay(flags, fields, kept):
    assert head(flags, fields) == kept


@pytest.mark.parametrize(
    "data",
    [
        *(b"", mpegs.pes(0xE0, b"")[:8], mpegs.old(0xE0, b"data"), mpegs.pes(0xE0, b"x", flags=0x80)),
        *(mpegs.pes(0xE0, b"x", flags=1), mpegs.pes(0xE0, b"x", flags=1, fields=b"\x80abc")),
        *(mpegs.pes(0xE0, b"", fields=b"abc")[:-1], b"\0\0\1\xe0\0\0\xb0\0\0"),
    ],
)
def test_other_headers_are_refused(data):
    with pytest.raises(NotThisKindError):
        pes.cleaned_header(data)


@pytest.mark.parametrize(
    ("rest", "size"),
    [(b"\x0fdata", 1), (b"\xff\xff\x0f", 3), (b"\x60\x20\x21\0\1\0\1", 7), (b"\x31" + bytes(9), 10)],
)
def test_headers_of_mpeg_1(rest, size):
    assert pes.old_header_size(mpegs.other(0xE0, rest)) == 6 + size


@pytest.mark.parametrize("rest", [b"", b"\xff" * 17 + b"\x0f", b"\x21\0", b"\x40", b"\x80"])
def test_other_headers_of_mpeg_1_are_refused(rest):
    with pytest.raises(NotThisKindError):
        pes.old_header_size(mpegs.other(0xE0, rest))
