"""Tables of the coded frames of a movie's tracks and fragments, for bitstreams/frame_table.py."""

from __future__ import annotations

import re
from array import array
from functools import reduce
from operator import or_
from typing import Final

from policyfs.redact.bitstreams.decoder_config import Framing, framing_in
from policyfs.redact.bitstreams.frame_table import FrameTable, check_count, form_of, table_of
from policyfs.redact.bitstreams.layers import named
from policyfs.redact.bitstreams.nal_units import codec_of
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.isobmff.stbl import Runs
from policyfs.redact.isobmff.tracks import Track

_FAIRPLAY: Final = b"drmi"
_ORIGINAL: Final = re.compile(rb"frma(.{4})", re.DOTALL)
"""The box that states the format of samples before their encryption."""


def track_frames(track: Track, limit: int, runs: Runs | None) -> FrameTable:
    """Return the frames of a track of pictures, in its sample tables and in fragments.

    limit: the file's size in bytes. runs: the track's samples in fragments. Raises NotThisKindError,
    TooMuchError.
    """
    encrypted = _FAIRPLAY in track.entries.formats
    samples = track.samples()
    check_count(len(samples))
    starts, ends = samples.ranges(limit)
    if runs is not None:
        for number in range(len(runs.starts)):
            runs.append_samples(number, starts, ends)
            check_count(len(starts))
    tracks = array("H", bytes(2 * len(starts)))
    return table_of(starts, ends, tracks, (form_of(_framing(track), encrypted=encrypted),))


def _framing(track: Track) -> Framing | None:
    """Return the framing that a box in the sample entry states, or bytes that look like such a box (lax
    readers use them), else start codes for a known codec. Raises NotThisKindError for several.
    """
    framings, layers = track.entries.framings, named(track.parameters)
    if len({coded[:2] for coded in framings}) > 1:
        raise NotThisKindError("the frames of a track have several codecs, or length fields of several sizes")
    for coded in framings:
        return coded._replace(layers=reduce(or_, (one.layers for one in framings), layers))
    found = framing_in(track.parameters)
    kinds = (*track.entries.formats, *_ORIGINAL.findall(track.parameters))
    codec = next((codec for kind in kinds if (codec := codec_of(kind)) is not None), None)
    if found is None and codec is not None:
        found = Framing(codec, 0)
    return None if found is None else found._replace(layers=found.layers | layers)
