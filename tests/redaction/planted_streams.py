"""Places behind the bounds of MPEG's streams, and of ASF."""

from __future__ import annotations

from typing import Final

from tests.redaction.planted import PLACE, Plant, Plants
from tests.support.samples import asfs, mpegs
from tests.support.samples.asfs import FRAMES, PACKET_BYTES, asf, made, packet
from tests.support.samples.mpegs import PS, TS, ps, ts

_SIZE: Final = PACKET_BYTES.to_bytes(4, "little")
_HUGE: Final = (2 << 20).to_bytes(4, "little")

PLANTS: Final[Plants] = {
    "in numbers of ASF of 64 KiB": Plant(
        asfs.KIND,
        "asf/asf.py _MAX_NUMBERS_BYTES",
        lambda: asf(made("stream bitrates", bytes(1 << 16) + PLACE)),
    ),
    "behind packets of ASF of 2 MiB": Plant(
        asfs.KIND,
        "asf/asf.py _MAX_PACKET_BYTES",
        lambda: asf(packets=FRAMES + PLACE).replace(_SIZE, _HUGE),
        refused=True,
    ),
    "in a long header of a payload": Plant(
        asfs.KIND,
        "asf/streams.py _MAX_MORE_BYTES",
        lambda: asf(packets=packet((1, b"abc"), more=bytes(64) + PLACE)),
    ),
    "behind a program stream": Plant(
        PS, "mpeg/program_stream.py _MAX_TAIL_BYTES", lambda: ps() + b"x" * 70_000 + PLACE, refused=True
    ),
    "shortly behind a program stream": Plant(PS, "", lambda: ps() + b"x" * 60_000 + PLACE),
    "behind a transport stream": Plant(
        TS, "mpeg/transport_stream.py _MAX_TAIL_BYTES", lambda: ts() + b"x" * 188 * 400 + PLACE, refused=True
    ),
    "before tables that begin at 8 MiB": Plant(
        TS,
        "mpeg/transport_stream.py _TABLES_BYTES",
        lambda: mpegs.packet(0x1FFF, b"\xff" * 184) * 45_000 + ts(names=PLACE),
        refused=True,
    ),
    "in a message that two parts of a film share": Plant(
        TS, "", lambda: ts(picture=mpegs.PICTURE * 400 + mpegs.NOTE + mpegs.PICTURE * 400, size=90)
    ),
}
SOAK: Final[Plants] = {}
