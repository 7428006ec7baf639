"""Packets of ASF: where payloads and padding lie."""

from __future__ import annotations

import struct

import pytest

from policyfs.redact.asf.packets import Payload, packet
from tests.support.samples import asfs


def test_payloads_and_padding():
    data = asfs.packet((0x81, b"picture"), (2, b"sound"), padding=b"home", more=b"abc")
    found = packet(data)
    assert [data[one.start : one.end] for one in found.payloads] == [b"picture", b"sound"]
    assert [data[one.more : one.more_end] for one in found.payloads] == [b"abc", b"abc"]
    assert [one.stream for one in found.payloads] == [1, 2]
    assert data[found.padding :].startswith(b"home")
    assert found.corrected == (1, 3)


def test_one_payload_reaches_to_the_padding():
    """Without correction, with the length of the packet, and with numbers of all sizes."""
    head = b"\x48\x7f" + struct.pack("<HBIH", 60, 8, 0, 40)
    data = head + b"\3" + struct.pack("<III", 0, 0, 8) + bytes(8) + b"data"
    assert packet(data.ljust(80, b"x")).payloads == [Payload(3, 32, 32, 32, 52)]


def test_compressed_payloads():
    data = b"\x82\0\0\0\x5d" + bytes(6) + b"\1\1" + bytes(4) + b"\1" + b"\x55" + b"\4data"
    (one,) = packet(data).payloads
    assert (one.more, one.more_end, data[one.start : one.end]) == (19, 19, b"\4data")


@pytest.mark.parametrize(
    "data", [b"", b"\xe2" + bytes(40), b"\x82" + bytes(5), b"\0\x5d" + bytes(6) + b"\1\1"]
)
def test_other_bytes_are_no_packet(data):
    with pytest.raises(ValueError, match=r"short|larger|correction"):
        packet(data)


def test_a_payload_beyond_its_packet():
    data = asfs.packet((1, b"picture"))
    at = data.index(b"\7\0picture")
    for size in (b"\xff\0", b"\0\1"):
        with pytest.raises(ValueError, match="larger"):
            packet(data[:at] + size + data[at + 2 :])
