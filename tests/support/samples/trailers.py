"""Trailers that programs append to photos: builders for tests of redaction."""

from __future__ import annotations

from tests.support.samples.jpegs import iptc_place, record

RECORDS = iptc_place()


def afcp(at: int, mark: bytes = b"AXS!", moved: int = 0) -> bytes:
    """An AFCP trailer with IPTC records, behind `at` bytes of a file. moved: the error of its offset."""
    order = "big" if mark == b"AXS!" else "little"
    head = mark + b"\2\0" + (1).to_bytes(2, order) + bytes(4)
    entry = b"IPTC" + len(RECORDS).to_bytes(4, order) + (at + 24).to_bytes(4, order)
    return head + entry + RECORDS + mark + (at + moved).to_bytes(4, order) + bytes(4)


def photo_mechanic(at: int) -> bytes:
    """A trailer of Photo Mechanic: records as those of IPTC."""
    records = RECORDS + record(2, 209, bytes(4))
    return records + len(records).to_bytes(4) + b"cbipcbbl"


def foto_station(at: int) -> bytes:
    """A trailer of FotoStation: two records, each with its size behind it."""
    return b"".join(
        data + tag.to_bytes(2) + (len(data) + 10).to_bytes(4) + b"\xa1\xb2\xc3\xd4"
        for tag, data in ((1, RECORDS), (2, bytes(80)))
    )


def mie(at: int, mark: bytes = b"\x10") -> bytes:
    """A MIE trailer: elements, the last with the size. mark: \\x10 or \\x18 for the byte order."""
    name = b"City"
    body = b"~" + mark + b"\4\xfe0MIE" + bytes(4)  # size of the group: not stated here
    body += b"~\x20" + bytes((len(name), len(RECORDS))) + name + RECORDS if len(RECORDS) < 253 else RECORDS
    end = b"~\0\4\0zmie"
    size = len(body) + len(end) + 10
    return body + end + b"~\0\0\6" + size.to_bytes(4, "big" if mark == b"\x10" else "little") + mark + b"\4"


def large_mie(at: int) -> bytes:
    """A MIE trailer with a size of 8 bytes."""
    body = b"~\x10\4\xff0MIE" + bytes(8) + RECORDS + b"~\0\4\0zmie"
    return body + b"~\0\0\x0a" + (len(body) + 14).to_bytes(8) + b"\x10\x08"


TRAILERS = {
    "AFCP": afcp,
    "AFCP, little-endian": lambda at: afcp(at, b"AXS*"),
    "AFCP, moved": lambda at: afcp(at, moved=100),
    "Photo Mechanic": photo_mechanic,
    "FotoStation": foto_station,
    "MIE": mie,
    "MIE, little-endian": lambda at: mie(at, b"\x18"),
    "MIE, large": large_mie,
    "two": lambda at: photo_mechanic(at) + afcp(at + len(photo_mechanic(at))),
}
"""Builders of trailers. Each takes the length of the file before it."""
