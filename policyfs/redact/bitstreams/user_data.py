"""User data of MPEG-1, MPEG-2 and MPEG-4 part 2: the bytes from a start code of type 0xB2 to the next one.

Cameras and encoders write texts there, or anything. Captions, the picture's format and the names of encoders
that decoders need to know stay. Removed user data becomes blanks of the same length. Sources: ISO/IEC 13818-2
section 6.3.4, 14496-2 section 6.3.2; ATSC A/53 part 4; SCTE 20; mpeg4videodec.c and mpeg12dec.c of FFmpeg.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.bitstreams.sei import Blanked, told_once
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.reader import Fields

_MAX_CAPTION_BYTES: Final = 255
_CAPTIONS_AND_FORMAT: Final = re.compile(
    rb"GA94[\x03\x06]|CC\x01\xf8|DTG1.{1,4}\Z|JP3D\x03.{1,4}\Z", re.DOTALL
)
"""Captions (ATSC, DVD) and the picture's format: bars, the active part of the picture, stereo."""
_CAPTIONS_OF_CABLE: Final = (b"\x03\x81", b"\x03\x01")
"""First bytes of captions in the form of American cable television (SCTE 20)."""
_COUNT_BITS, _CAPTION_BITS, _RAW_LINES_BITS, _MAX_FILLER_BITS = 5, 26, 4, 23
_QUIRKS: Final = re.compile(
    rb"(?:XviD\d{4}|DivX\d{3,4}(?:[Bb]|Build)?\d{0,5}p?|Lavc\d{1,3}[.\d]{0,12}|ffmpeg"
    rb"|FFmpeg(?:CVS|SVN|0\.\d{1,2}\.\d{1,2}(?:-pre\d)?)b\d{4}"
    rb"|FFmpeg v0\.\d{1,2}\.\d{1,2} / libavcodec build: \d{4})[\x00C]*"
)
"""Names of encoders that decoders need to know, to work around the errors of these encoders."""
_MARK: Final = re.compile(rb".{0,19}?(\0TMPGEXS\0)", re.DOTALL)
"""A mark by which FFmpeg recognises films of another quantisation. It must be among the first 28 bytes."""
_VERSION: Final = re.compile(rb"encoded by TMPGEnc \(ver\. \d(?:\.\d{1,3}){3}\)")
"""The default text of an encoder. The numbers of its version may look like coordinates."""
_ENCODER: Final = re.compile(
    rb"(?=[\x20-\x7e\t\r\n]*\0*\Z).*?(?i:encod|codec|ffmpe|mpeg|tmpg|cinema craft|\bCCE\b|\bHC\b|version)",
    re.DOTALL,
)
"""Pattern of a text with the name of an encoder."""
_UNITS: Final = re.compile(rb"(\x00\x00\x01)(\xb2.*?)(?=\x00\x00\x01|\Z)", re.DOTALL)


def blanked(unit: bytes, header: int, inner: Inner) -> Blanked | None:
    """Return a unit of user data with blanks in place of its bytes; None if it has nothing to hide.

    unit: the unit from its type (0xB2) on. header: size of the type in bytes. Zeros at the end stay: they may
    belong to the next start code. Raises TooMuchError.
    """
    inner.budget.search(len(unit))
    said = unit[header:].rstrip(b"\0")
    tells, end = _tells(said, inner), header + len(said)
    inner.budget.part(tells != NOTHING)
    if not tells & inner.hide:
        return None
    out = bytearray(unit[:header] + b" " * len(said) + unit[end:])
    mark = _MARK.match(unit, header)
    if mark is not None:
        out[mark.start(1) : mark.end(1)] = mark[1]
    return Blanked(bytes(out), tells) if out != unit else None


def without_user_data(settings: bytes, inner: Inner) -> bytes:
    """Return settings (units, or the body of ``esds``) with blanks for hidden data. Raises TooMuchError."""
    out = bytearray(settings)
    _, start, end = decoder_info(settings)
    for found in _UNITS.finditer(settings, start, end):
        new = blanked(found[2], 1, inner)
        if new is not None:
            out[found.start(2) : found.end(2)] = new.data
    return bytes(out)


def decoder_info(data: bytes) -> tuple[int, int, int]:
    """Return the codec's number in the body of an ``esds`` box, and the range of the decoder's settings
    (ISO/IEC 14496-1, 7.2.6).

    The number is 0 if there is none. Return the range of all bytes if there are no settings.
    """
    fields, end, codec = Fields(data, 4), len(data), 0
    try:
        for tag, fixed in ((3, 3), (4, 13), (5, 0)):
            if fields.number(1) != tag:
                return codec, 0, len(data)
            size = fields.number(1)
            while size & 0x80:
                size = (size & 0x7F) << 7 | fields.number(1)
            end = fields.at + size
            taken = fields.take(fixed)
            codec, flags = taken[0] if tag == 4 else codec, taken[-1:]
            if tag == 3 and flags != b"\0":  # it refers to another stream
                fields.take(2 * (flags[0] >> 7) + 2 * (flags[0] >> 5 & 1))
                fields.take(fields.number(1) if flags[0] & 0x40 else 0)
    except ValueError:
        return codec, 0, len(data)
    return codec, fields.at, min(end, len(data))


def _tells(payload: bytes, inner: Inner) -> Tells:
    if not payload.strip(b" \xff") or _QUIRKS.fullmatch(payload):
        return NOTHING
    captions = _CAPTIONS_AND_FORMAT.match(payload) and len(payload) <= _MAX_CAPTION_BYTES
    if captions or (payload.startswith(_CAPTIONS_OF_CABLE) and _are_captions(payload[2:])):
        return told_in_kept(payload, inner.hide, inner.budget, numbers=True)
    if _VERSION.fullmatch(payload):
        return Tells.DEVICE | Tells.OTHER
    if len(payload) <= _MAX_CAPTION_BYTES and _ENCODER.match(payload):
        return Tells.DEVICE | Tells.OTHER | told_once(payload, inner)
    return UNKNOWN


def _are_captions(data: bytes) -> bool:
    """Return True if data is a count (5 bits), so many captions of SCTE 20 of 26 bits, each with its last bit
    set, and at most two bytes of filler: no raw lines of video.
    """
    size = _COUNT_BITS + (data[0] >> 3 if data else 0) * _CAPTION_BITS
    lines = size + _RAW_LINES_BITS
    if 8 * len(data) > lines + _MAX_FILLER_BITS:
        return False
    bits = "".join(f"{byte:08b}" for byte in data).ljust(lines, "0")
    marked = all(bits[at - 1] == "1" for at in range(size, _COUNT_BITS, -_CAPTION_BITS))
    return marked and bits[size:lines].strip("0") == "" and len(set(bits[lines:])) <= 1
