"""Pictures within XMP properties, as base64: previews, portrait originals, depth maps.

Such a picture may have EXIF of its own, so it is cleaned like any embedded picture. The new text has the same
number of characters, with line breaks in the same places. Sources: XMP specification part 2 (Thumbnail);
Google's pages on depth map metadata and Photo Sphere.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from policyfs.redact.core.cleaners import Inner

_BREAKS: Final = re.compile(r"((?:[ \t\r\n]|&#(?:10|13|[xX][aAdD]);)+)")


def cleaned_picture(text: str, inner: Inner) -> str | None:
    """Return the text of a property with its picture cleaned; the length stays.

    Return None if the text is no picture in base64, or if the picture cannot be cleaned.
    """
    pieces = _BREAKS.split(text)
    joined = "".join(pieces[::2])
    padded = joined + "=" * (-len(joined) % 4)
    try:
        data = base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        return None
    if base64.b64encode(data).decode("ascii") != padded:
        return None  # the last character has bits that no decoder reads
    cleaned = inner.image(data)
    if cleaned is None or len(cleaned.data) != len(data):
        return None
    new, at = base64.b64encode(cleaned.data).decode("ascii")[: len(joined)], 0
    for index in range(0, len(pieces), 2):
        size = len(pieces[index])
        pieces[index] = new[at : at + size]
        at += size
    return "".join(pieces)
