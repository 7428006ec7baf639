"""Places behind the bounds of pictures with layers, drawings and subtitles."""

from __future__ import annotations

from typing import Final

from tests.redaction.planted import PLACE, Plant, Plants
from tests.support.samples import jpegs, psds
from tests.support.samples.psds import block, layer, psd
from tests.support.samples.subtitles import SUBRIP, subrip

_PSDS: Final[Plants] = {
    "in layer 300 of a PSD": Plant(
        psds.KIND, "", lambda: psd(*[layer()] * 299, layer(block(b"zzzz", b"City: " + PLACE)))
    ),
    "behind 2 MiB of a pattern": Plant(
        psds.KIND, "", lambda: psd(blocks=block(b"Patt", b"\x81" * (2 << 20) + b" latitude: " + PLACE))
    ),
    "behind 17 MiB of a pattern": Plant(
        psds.KIND,
        "images/psd_layers.py _MOST_BLOCKS_BYTES",
        lambda: psd(blocks=block(b"Patt", bytes(17 << 20)) + block(b"SoCo", b" at " + PLACE)),
    ),
    "in a name behind 9 MiB": Plant(
        psds.KIND, "", lambda: psd(layer(block(b"luni", bytes(9 << 20) + psds.text(PLACE.decode()))))
    ),
    "in 9 MiB of a PSD's resources": Plant(
        psds.KIND,
        "",
        lambda: psd(
            resources=jpegs.resource(0x03ED, bytes(9 << 20)) + jpegs.resource(0x03F0, b"\x13" + PLACE)
        ),
        refused=True,
    ),
    "in a large mask": Plant(
        psds.KIND,
        "images/psd_layers.py _MASKS_BYTES",
        lambda: psd(layer(masks=bytes(64) + PLACE)),
        refused=True,
    ),
    "behind ranges": Plant(
        psds.KIND, "images/psd_layers.py _LEAST_RANGES", lambda: psd(layer(ranges=bytes(40) + PLACE))
    ),
    "behind a long table of rows": Plant(
        psds.KIND,
        "",
        lambda: psd(merged=b"\0\1" + b"\0\2" * 6 + b"\xfd\1" * 6 + PLACE),
    ),
}
_SUBTITLES: Final[Plants] = {
    "in cue 3,000 of SubRip": Plant(SUBRIP, "", lambda: subrip(*["quince"] * 3000, PLACE.decode())),
    "behind 400 KiB of cues": Plant(SUBRIP, "", lambda: subrip(*["quince " * 30] * 2000, PLACE.decode())),
    "behind 300,000 lines": Plant(
        SUBRIP,
        "documents/subtitles.py MAX_LINES",
        lambda: subrip("a\n" * 300_001 + PLACE.decode()),
        refused=True,
    ),
    "in subtitles of 17 MiB": Plant(
        SUBRIP,
        "documents/subtitles.py MAX_BYTES",
        lambda: subrip("a" * (17 << 20), PLACE.decode()),
        refused=True,
    ),
}
PLANTS: Final[Plants] = {**_PSDS, **_SUBTITLES}
SOAK: Final[Plants] = {}
