"""Categories of a track's samples, and the removal of metadata from samples that stay.

Pictures, sound and hints stay: they are the purpose of the file. Subtitles stay if they read like subtitles.
A text track of coordinates, of digits, or of bytes that are no text is telemetry. Timed metadata stays only
if its keys or its format are known, and their categories are not hidden. An unknown format of a drone, an
action camera or a dash-cam may tell anything.
"""

from __future__ import annotations

import re
from array import array
from functools import reduce
from operator import or_
from typing import Final

from policyfs.redact.bitstreams.decoder_config import Framing, framing_in
from policyfs.redact.bitstreams.frame_table import FrameTable, check_count, form_of, look, table_of
from policyfs.redact.bitstreams.layers import named
from policyfs.redact.bitstreams.nal_units import codec_of
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.free_text import decode, tells_place, text_among_numbers
from policyfs.redact.core.patches import ByteSource, is_blank
from policyfs.redact.core.tag_names import tells_time
from policyfs.redact.isobmff.gpmf import MAX_BYTES, MAX_SAMPLES, Telemetry
from policyfs.redact.isobmff.stbl import Extents, Runs
from policyfs.redact.isobmff.stsd import PICTURE, SOUND, TEXT, TEXT_FORMATS
from policyfs.redact.isobmff.tracks import Track
from policyfs.redact.tags.sound_streams import StreamSound

MAX_TEXT_SAMPLES: Final = 20_000
MAX_TEXT_BYTES: Final = 1 << 19

_FORMATS: Final = {
    b"tmcd": Tells.TIME,
    b"camm": Tells.LOCATION | Tells.TIME | Tells.OTHER,
    b"c608": NOTHING,
    b"c708": NOTHING,
}
_GPMF: Final = b"gpmd"
_MP3: Final = re.compile(rb"\.mp[123]|mp[123] |(?:ms|TS)..", re.DOTALL)
_MPEG_SOUND: Final = re.compile(rb"\x04[\x80-\xff]{0,3}[\0-\x7f][\x69\x6b]")
"""A decoder's description that names MPEG-1 or -2 sound (ISO/IEC 14496-1 section 7.2.6.6)."""
_TIMED_METADATA: Final = b"meta"
_METADATA: Final = frozenset(
    b"camm,gpmd,rtmd,djmd,dbgi,fdsc,mebx,mett,metx,urim,CTMD,RVMI,nmea,gps ,text,tx3g,marl,priv".split(b",")
)
"""Formats of metadata, whatever the track's handler. (``gps`` has a space.)"""
_SUBTITLES: Final = TEXT_FORMATS | {b"dfxp", b"mp4s"}
"""Formats of subtitles. Any other is no text, whatever its handler states: it may be telemetry."""
_MODIFIERS: Final = frozenset(
    b"styl hlit hclr krok dlay href tbox blnk twrp encd ftab drpo drpt imag metr hclr disp".split(b" ")
)
_DATE: Final = re.compile(r"(?:19|20)\d\d[-/.: ]?[01]\d[-/.: ]?[0-3]\d|\b\d\d?[/.]\d\d?[/.](?:19|20)\d\d\b")
_TIME_OF_DAY: Final = re.compile(r"^\W*\d\d[:;.]\d\d[:;.]\d\d")


def sample_tells(
    track: Track, source: ByteSource, runs: Runs | None = None, *, sorted_out: bool = False
) -> Tells:
    """Return the categories of the data in a track's samples: NOTHING for picture, sound and hints.

    runs: the track's samples in fragments. Raises TooMuchError.

    sorted_out: True if clean_pictures() removes the hidden values from GoPro's telemetry. Then the result for
    GoPro's telemetry is OTHER (its settings): a value of any other category stays only if this category is
    not hidden.
    """
    handler, formats = track.handler, track.entries.formats
    if not formats:
        return UNKNOWN
    odd = any(kind in _METADATA for kind in formats)
    if (handler in PICTURE or handler in SOUND or handler == b"hint") and not odd:
        return NOTHING
    if is_text(track):
        return Tells.PEOPLE | _text(track, source, runs or Runs())
    if sorted_out and _is_telemetry(track):
        return Tells.OTHER
    told = NOTHING
    for kind in formats:
        told |= track.entries.tells if kind == b"mebx" else _FORMATS.get(kind, UNKNOWN)
    return told


def _is_telemetry(track: Track) -> bool:
    if track.entries.formats != (_GPMF,) or track.handler != _TIMED_METADATA:
        return False
    try:
        samples = track.samples()
    except NotThisKindError:
        return False
    few = len(samples) <= MAX_SAMPLES
    return few and sum(size for _, size in samples.places(range(len(samples)))) <= MAX_BYTES


def clean_telemetry(track: Track, source: ByteSource, inner: Inner, runs: Extents | None) -> Found:
    """Remove hidden values from the samples of GoPro's telemetry. Samples of any other track stay.

    runs: ranges of the track's samples in fragments. These ranges become zeros, because the ends of their
    samples are not known.
    """
    if not _is_telemetry(track):
        return Found()
    telemetry = Telemetry(source, inner)
    samples = track.samples()
    for at, size in dict.fromkeys(samples.places(range(len(samples)))):
        telemetry.sample(at, size)
    if runs is not None:
        for start, end in zip(runs.starts, runs.ends, strict=True):
            telemetry.blank(start, end)
    return telemetry.found()


def clean_sound(track: Track, chunks: Extents, source: ByteSource, inner: Inner) -> Found:
    """Remove the tags from a track of MP3. Samples of any other track stay.

    chunks: the ranges of its chunks, in their order. Raises NotThisKindError, TooMuchError.
    """
    named = any(map(_MP3.fullmatch, track.entries.formats))
    if not named and _MPEG_SOUND.search(track.parameters) is None:  # readers believe it in any format
        return Found()
    sound = StreamSound(Edits(source, inner, f"track {track.number}"))
    for start, end in zip(chunks.starts, chunks.ends, strict=True):
        sound.add(start, min(end, source.size))
    sound.finish()
    return sound.edits.found


def is_text(track: Track) -> bool:
    """Return True for a text track. Its categories are found by reading its samples."""
    formats = track.entries.formats
    if not formats or not _SUBTITLES.issuperset(formats):
        return False
    return track.handler in TEXT or formats[0] in (b"text", b"tx3g")


def _text(track: Track, source: ByteSource, runs: Runs) -> Tells:
    """Return the categories of a text track; UNKNOWN for more than a film's subtitles, and for zeros alone,
    which may be those of an earlier redaction.
    """
    try:
        samples = track.samples()
    except NotThisKindError:
        return UNKNOWN
    if len(samples) > MAX_TEXT_SAMPLES:
        return UNKNOWN
    starts, ends = samples.ranges(source.size)
    for run in range(len(runs.starts)):
        runs.append_samples(run, starts, ends)
        if len(starts) > MAX_TEXT_SAMPLES:
            return UNKNOWN
    told, room, blank = NOTHING, MAX_TEXT_BYTES, True
    plain = track.entries.formats[:1] in ((b"tx3g",), (b"text",))
    for at, end in zip(starts, ends, strict=True):
        room -= end - at
        if room < 0:
            return UNKNOWN
        data = source.read(at, end - at)
        blank = blank and is_blank(data)
        told |= _one_text(data, plain=plain)
        if told == UNKNOWN:
            break
    return UNKNOWN if blank else told


def _one_text(data: bytes, *, plain: bool) -> Tells:
    """Return the categories of one text sample. plain: QuickTime's or 3GPP's form, no markup."""
    if not plain:
        return _told(decode(data))
    size = int.from_bytes(data[:2])
    at = 2 + size
    if at > len(data):
        return UNKNOWN if data.strip(b"\0") else NOTHING
    text = decode(data[2:at]).strip("\ufeff")
    links = decode(text_among_numbers(data[at:]))
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] not in _MODIFIERS or length < 8:
            return UNKNOWN if data[at:].strip(b"\0") else NOTHING
        at += length
    return prose_tells(text) | _told(links)


def _told(text: str) -> Tells:
    return (Tells.LOCATION if tells_place(text) else NOTHING) | (Tells.TIME if _dated(text) else NOTHING)


def prose_tells(text: str) -> Tells:
    """Return the categories of the data in a subtitle's line; UNKNOWN for telemetry.

    A line counts as telemetry if it has control characters. A line also counts as telemetry if most of it is
    digits (more than 8), and no place and no time is found in it.
    """
    if any(not (char.isprintable() or char in "\t\r\n\v\f") for char in text):
        return UNKNOWN
    told = _told(text) | (Tells.TIME if _TIME_OF_DAY.search(text) else NOTHING)
    digits = sum(map(str.isdigit, text))
    return UNKNOWN if digits > 8 and 2 * digits > len(text) and not told else told


def _dated(text: str) -> bool:
    return _DATE.search(text) is not None or tells_time(text)


def clean_pictures(track: Track, source: ByteSource, inner: Inner, runs: Runs | None = None) -> Found:
    """Clean the metadata within a track's samples: GoPro's telemetry, SEI messages, EXIF in photo frames.

    runs: ranges of the track's samples in fragments. Raises NotThisKindError, TooMuchError.
    """
    found = clean_telemetry(track, source, inner, runs)
    found.add(look(picture_frames(track, source.size, runs), source, inner))
    return found


def picture_frames(track: Track, limit: int, runs: Runs | None = None) -> FrameTable:
    """Return the frames of a track of pictures, by its handler or by a format; no frames for any other track.

    limit: the file's size in bytes. Raises NotThisKindError, TooMuchError.
    """
    pictures = track.handler in PICTURE or any(codec_of(kind) for kind in track.entries.formats)
    return track_frames(track, limit, runs) if pictures else FrameTable()


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
