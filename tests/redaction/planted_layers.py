"""Places behind the bounds of pictures with layers, drawings and subtitles."""

from __future__ import annotations

from typing import Final

from tests.redaction.planted import PLACE, Plant, Plants
from tests.support.samples import jpegs, psds, svgs
from tests.support.samples.psds import block, layer, psd
from tests.support.samples.subtitles import SUBRIP, subrip
from tests.support.samples.svgs import svg

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
_SVGS: Final[Plants] = {
    "in a title behind 2 MiB of an SVG's references": Plant(
        svgs.KIND,
        "documents/svg.py _LONG",
        lambda: svg("<title>" + "&#65;" * 400_000 + PLACE.decode() + "</title>"),
    ),
    "in an SVG of 17 MiB": Plant(
        svgs.KIND,
        "documents/svg.py MAX_BYTES",
        lambda: svg(" " * (17 << 20) + f"<title>{PLACE.decode()}</title>"),
        refused=True,
    ),
    "300 elements deep": Plant(
        svgs.KIND,
        "documents/svg.py MAX_DEPTH",
        lambda: svg("<g>" * 300 + f"<title>{PLACE.decode()}</title>" + "</g>" * 300),
        refused=True,
    ),
    "behind 300 namespaces": Plant(
        svgs.KIND,
        "documents/svg.py MAX_NAMESPACES",
        lambda: svg(
            "<g "
            + " ".join(f'xmlns:a{n}="urn:{n}"' for n in range(300))
            + f'><desc a:x="{PLACE.decode()}"/></g>'
        ),
        refused=True,
    ),
    "behind 5,000 styles": Plant(
        svgs.KIND,
        "documents/svg.py _MOST_SEARCHED, documents/svg.py _SHORT",
        lambda: svg(
            *(f'<g style="a{n}"/>' for n in range(5000)),
            f'<g style="{" " * 300}"/><g style="{" " * 300}gps: {PLACE.decode()}"/>',
        ),
        refused=True,
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
PLANTS: Final[Plants] = {**_PSDS, **_SVGS, **_SUBTITLES}
SOAK: Final[Plants] = {}
