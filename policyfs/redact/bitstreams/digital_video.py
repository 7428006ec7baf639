"""Digital video (DV, DVCPRO): each picture holds the time at which the tape was recorded.

The time and the camera's settings are in packs within the blocks of each frame (IEC 61834-4, SMPTE 314M).
Redaction does not remove this data from frames. If a rule hides times or devices, the file is refused.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import NotThisKindError

_TOLD: Final = Tells.TIME | Tells.DEVICE
_CODES: Final = re.compile(
    rb"dv(?:sd|hd|sl|25|50|is|lp|cs|cp|c |pp|pn|5[np]|h[1-6pq])|cdv[c25h]|pdvc|sl25|sldv|avd[v1]",
    re.IGNORECASE,
)
"""Codes of the codec in AVI, QuickTime and Matroska; ``dvh1`` may be Dolby Vision instead."""


def check_dated(code: bytes, hide: Tells) -> None:
    """Raise NotThisKindError for a code of digital video if times or devices must be hidden."""
    if hide & _TOLD and _CODES.fullmatch(code):
        raise NotThisKindError("each picture of digital video (DV) holds the time of its recording")
