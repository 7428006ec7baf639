"""Places behind the bounds of pictures with layers, drawings and subtitles."""

from __future__ import annotations

from typing import Final

from tests.redaction.planted import PLACE, Plant, Plants
from tests.support.samples import jpegs, psds
from tests.support.samples.psds import block, layer, psd

_PSDS: Final[Plants] = {
    "in layer 300 of a PSD": Plant(
        psds.KIND, "", lambda: psd(*[layer()] * 299, layer(block(b"zzzz", b"City: " + PLACE)))
    ),
    "behind 2 MiB of a pattern": Plant(
        psds.KIND, "", lambda: psd(blocks=block(b"Patt", b"\x81" * (2 << 20) + b" latitude: " + PLACE))
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
PLANTS: Final[Plants] = {**_PSDS}
SOAK: Final[Plants] = {}
