"""Places behind the bounds of subtitles."""

from __future__ import annotations

from typing import Final

from tests.redaction.planted import PLACE, Plant, Plants
from tests.support.samples.subtitles import SUBRIP, subrip

PLANTS: Final[Plants] = {
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
SOAK: Final[Plants] = {}
