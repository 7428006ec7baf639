"""Sound in RIFF files, if its coding is a file of its own: MP3, AAC, FLAC or Ogg inside a WAV.

Such sound may begin and end with tags, as a file does. Source: RFC 2361 (codes of formats in WAV and AVI).
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import SliceSource
from policyfs.redact.tags.sound_streams import TAG_START, StreamSound

MPEG: Final = "audio/mpeg"
_AAC: Final = "audio/aac"
_OGG: Final = "audio/ogg"
FILES: Final = MappingProxyType(
    {
        **dict.fromkeys((0x0050, 0x0055), MPEG),
        **dict.fromkeys((0x00FF, 0x1600, 0x1610, 0x4143, 0xA106), _AAC),
        **dict.fromkeys((0x566F, 0x674F, 0x6750, 0x6751, 0x676F, 0x6770, 0x6771), _OGG),
        0xF1AC: "audio/flac",
    }
)
"""A dictionary from the code of a format to the content kind of its sound."""
_WHOLE: Final = frozenset({"audio/flac", _OGG})


def clean_sound(
    edits: Edits, kind: str, start: int, end: int, *, starts: re.Pattern[bytes] = TAG_START
) -> None:
    """Clean the sound [start, end) of a file. kind: the content kind of the sound; "" if it is unknown.
    starts: as in StreamSound.

    Sound that is no sequence of frames stays, except its tags. Raises NotThisKindError, TooMuchError.
    """
    found = edits.inner.file(kind, SliceSource(edits.source, start, end - start)) if kind else None
    if found is not None:
        edits.found.add(found, start)
        return
    if kind in _WHOLE:
        raise NotThisKindError("its sound is not understood")
    sound = StreamSound(edits, starts)
    sound.add(start, end)
    sound.finish()
