"""Places behind the bounds of MPEG's streams."""

from __future__ import annotations

from typing import Final

from tests.redaction.planted import PLACE, Plant, Plants
from tests.support.samples import mpegs
from tests.support.samples.mpegs import PS, TS, ps, ts

PLANTS: Final[Plants] = {
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
