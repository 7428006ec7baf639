"""Positions as drones and dash-cams write them into films, read by exiftool's decoders: none is left.

exiftool decodes some sixty formats (QuickTimeStream.pl). Each sample here is one that it decodes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import pytest

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.redaction.oracles import about, exiftool
from tests.support.samples.movies import Track, box, full, movie, u16, u32

_RMC: Final = b"$GPRMC,112233.000,A,4748.2718,N,01302.5374,E,12.5,87.8,170524,,,A*57"
_ROADHAWK: Final = (
    b".;;;;D?JL;6+;;;D;R?;4;;;;DBB;;O;;;=D;L;;HO71G>F;-?=J-F:FNJJ;DPP-JF3F;;PL=DBRLBF0F;"
    b"=?DNF-RD-PF;N;?=JF;;?D=F:*6F~"
)
_TEXTS: Final = {
    "NMEA": _RMC,
    "DJI": b"F/3.5, SS 1000, ISO 100, EV 0, GPS (13.0423, 47.8045, 18), D 24.26m, H 6.00m, H.S 2.10m/s",
    "Mini 0806": b"A,270519,201555.000,4748.2718,N,01302.5374,W,000.0,331.0M,+01.84,-09.80,-00.61;\n",
    "Roadhawk": _ROADHAWK,
    "Thinkware": b"gsensori,4,512,-67,-12,100;"
    b"GNRMC,161313.00,A,4748.27489,N,01302.01215,E,6.225,35.34,310819,,,A*52..;",
    "$G": b"$G:2024-05-17 11:22:33-N47.80453-E13.04228-S12",
}
_LATITUDE, _LONGITUDE = 47.80453, 13.04229
_CAMM5: Final = u16(0) + struct.pack("<H3d", 5, _LATITUDE, _LONGITUDE, 437.0)
_CAMM6: Final = u16(0) + struct.pack("<HdI3d6f", 6, 1.4e9, 3, _LATITUDE, _LONGITUDE, 437.0, *(1.0,) * 6)[:58]
_GARMIN: Final = b"\0\0\0\x14PNDM" + bytes(4) + struct.pack(">Hh2i", 30, 0, 0x21FD4C40, 0x094632AC)
_ISO: Final = b"+47.8045+013.0423+437.250/"
_ISO_SAMPLE: Final = u32(8 + len(_ISO), 1) + _ISO
_ISO_KEYS: Final = box(
    b"keys",
    box(u32(1), box(b"keyd", b"mdtacom.apple.quicktime.location.ISO6709"), box(b"dtyp", u32(0, 1))),
)
_SAMPLES: Final = [
    *(Track(b"text", b"text", (text,), number=2) for text in _TEXTS.values()),
    *(Track(b"text", b"text", (u16(len(text)) + text,), number=2) for text in _TEXTS.values()),
    Track(b"text", b"text", (_GARMIN,), number=2),
    Track(b"sbtl", b"tx3g", (u16(29) + b"Lat:47.8045 Lon:13.0423 Alt:7",), number=2),
    Track(b"meta", b"camm", (_CAMM5,), number=2),
    Track(b"camm", b"camm", (_CAMM6,), number=2),
    Track(b"meta", b"mebx", (_ISO_SAMPLE,), _ISO_KEYS, number=2),
]


def _free_gps() -> bytes:
    """A block of Novatek's, as dash-cams list it in a box of their own."""
    numbers = (
        struct.pack("<6I", 11, 22, 33, 24, 5, 17)
        + b"ANE\0"
        + struct.pack("<4f", 4748.2718, 1302.5374, 12.5, 87.8)
    )
    return b"\0\0\x80\0freeGPS " + (b"\x4c\0\0\0" + bytes(32) + numbers).ljust(0x8000 - 12, b"\0")


def _films() -> dict[str, bytes]:
    films = {f"{number}": movie(Track(), track) for number, track in enumerate(_SAMPLES)}
    listed = full(b"gps ", u32(1, len(movie(moov=bytes(24))) + 8, 0x8000))
    films["listed"] = movie(moov=listed, after=box(b"free", _free_gps()))
    films["between"] = movie(between=_free_gps())
    films["NMEA in a box"] = movie(after=box(b"free", box(b"gps ", b"[1]" + _RMC)))
    return films


@pytest.mark.timeout(120)
def test_no_decoder_finds_a_position(tmp_path: Path) -> None:
    outputs = {}
    for name, data in _films().items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(data)
        plan = locate("video/mp4", frozenset({"location"}), MemorySource(data))
        assert plan.outcome is Outcome.PATCH, (name, plan.reason)
        outputs[path] = tmp_path / f"redacted {name}.mp4"
        outputs[path].write_bytes(apply(data, plan.patches))
    tags = exiftool([*outputs, *outputs.values()])
    assert {path.name for path in outputs if not about(tags[path], "location")} == set()
    left = {
        path.name: found for path, output in outputs.items() if (found := about(tags[output], "location"))
    }
    assert not left
