"""Accidents that know the shape of a file: its checksums stay right, its parts change places and contents.

libFuzzer by itself changes bytes; nearly all that it makes of a file of chunks with checksums, or of
directories with offsets, is refused at the first look. `MUTATORS` has for each kind what makes files that
still look like files.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.fuzz.mutators import boxes, chunks, documents, ebml, jpeg, sound, streams, tiff, xml
from tests.fuzz.mutators.inside import inside
from tests.fuzz.mutators.parts import MOST_BYTES, Mutator

__all__ = ["MOST_BYTES", "MUTATORS", "Mutator"]


def _with(family: Callable[[bytes, Random, Mutator], bytes]) -> Mutator:
    """A family's mutator for whole files: its parts are changed by what they look like."""
    return lambda data, rng: family(data, rng, inside)[:MOST_BYTES]


MUTATORS: dict[str, Mutator] = {
    "image/jpeg": _with(jpeg.mutate),
    "image/tiff": _with(tiff.mutate),
    "image/x-canon-cr2": _with(tiff.mutate),
    "image/x-olympus-orf": _with(tiff.mutate),
    "image/x-panasonic-rw2": _with(tiff.mutate),
    "image/png": _with(chunks.png),
    "image/webp": _with(chunks.riff),
    "audio/x-wav": _with(chunks.riff),
    "video/x-msvideo": _with(chunks.riff),
    "audio/mpeg": _with(sound.mpeg),
    "audio/aac": _with(sound.mpeg),
    "audio/flac": _with(sound.flac),
    "audio/ogg": _with(sound.ogg),
    "video/x-matroska": _with(ebml.mutate),
    "video/mp2t": _with(streams.transport),
    "video/mpeg": _with(streams.program),
    "application/pdf": _with(documents.pdf),
    "image/gif": _with(documents.gif),
    "application/x-location+json": _with(documents.json),
    "application/rdf+xml": xml.mutate,
    "image/x-fuji-raf": _with(tiff.fuji),
    **dict.fromkeys(("image/heic", "image/heif", "image/avif", "image/x-canon-cr3"), _with(boxes.mutate)),
    **dict.fromkeys(("video/mp4", "video/quicktime"), _with(boxes.mutate)),
    **dict.fromkeys(("image/jp2", "image/jxl"), _with(boxes.mutate)),
}
"""By content kind. What a mutator makes depends on nothing but what it is given."""
