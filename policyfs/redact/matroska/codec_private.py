"""Cleaner of a track's CodecPrivate: the settings of its decoder, and other data there.

Most of the data is numbers that decoding needs. Xiph's codecs keep comments there, and FLAC keeps pictures.
H.265 and AV1 keep messages there, as in their frames. Subtitles keep the header of a script there. Sources:
the codec mappings of matroska.org; Vorbis I section 5; FLAC (RFC 9639) section 8; ISO/IEC 14496-15.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

from policyfs.redact.bitstreams.decoder_config import FULL_BOX, clean_config
from policyfs.redact.bitstreams.frames import clean_settings
from policyfs.redact.bitstreams.nal_units import AVC, HEVC, VVC, codec_of, is_byte_stream
from policyfs.redact.core.categories import NOTHING, Tells
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.free_text import told_in
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.core.tag_names import told
from policyfs.redact.matroska.tag_names import tag_tells

MAX_PRIVATE_BYTES: Final = 1 << 20

_NUMBERS: Final = (
    *("V_MPEG4/ISO/AVC", "V_VP8", "V_VP9", "V_FFV1", "V_PRORES", "V_MS/VFW/FOURCC", "V_REAL/"),
    *("V_MJPEG", "V_UNCOMPRESSED", "V_AVS", "V_DIRAC", "V_QUICKTIME", "A_MS/ACM", "A_AAC", "A_MPEG", "A_AC3"),
    *("A_EAC3", "A_DTS", "A_TRUEHD", "A_MLP", "A_WAVPACK4", "A_TTA1", "A_ALAC", "A_REAL/"),
    *("A_QUICKTIME", "A_OPUS", "A_ATRAC", "S_DVBSUB", "S_HDMV/PGS", "V_MPEG4/MS/V3", "V_SNOW"),
)
"""Codecs with settings that are only numbers: the same numbers for all files of an encoder."""
_CONFIGS: Final = MappingProxyType(
    {"V_MPEGH/ISO/HEVC": b"hvcC", "V_MPEGI/ISO/VVC": b"vvcC", "V_AV1": b"av1C"}
)
"""Codec -> type of the box in MP4 whose decoder configuration its settings are."""
_STREAMS: Final = MappingProxyType(
    {"V_MPEG4/ISO/AVC": AVC, "V_MPEGH/ISO/HEVC": HEVC, "V_MPEGI/ISO/VVC": VVC, "V_MS/VFW/FOURCC": None}
)
"""Codec -> kind of the units behind start codes that its settings may be (None: they state it)."""
BITMAP_HEADER_BYTES: Final = 40
"""Size of a BITMAPINFOHEADER; the codec's own settings follow it (V_MS/VFW/FOURCC)."""

_USER_DATA: Final = re.compile(rb"(\x00\x00\x01\xb2)(.*?)(?=\x00\x00\x01|\Z)", re.DOTALL)
_QUIRKS: Final = re.compile(rb"(?:XviD\d{4}|DivX\d{3,4}b?\d{0,5}p?|Lavc\d{1,3}[.\d]{0,12})[\x00C]*")
"""Names of encoders that decoders need to know, to work around the errors of these encoders."""

_STREAMINFO, _PADDING, _COMMENT = 0, 1, 4
_TEXT: Final = re.compile(rb"[\x20-\x7e]{8,}")
_MAX_LINE_BYTES: Final = 1024
_LINE_PARTS: Final = 10
"""Cost of a line that is searched, in parts of the file's budget (cleaners.Budget)."""
_SCRIPT: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\[(?:Script Info|V4\+? Styles|V4 Styles\+|Events)\]"
    rb"|(?:ScriptType|PlayRes[XY]|LayoutRes[XY]|WrapStyle|ScaledBorderAndShadow|Collisions|Timer|PlayDepth"
    rb"|YCbCr Matrix|Kerning):[ \t]{0,8}[A-Za-z0-9.+ ]{0,20}"
    rb"|Format:[A-Za-z, ]{0,400}"
    rb"|Style:(?P<name>[^,\r\n]{0,60}),[^,\r\n]{0,60},[-&A-Za-z0-9,. ]{0,200}"
)
_VOBSUB: Final = re.compile(
    rb"(?:size|org|scale|alpha|smooth|fadein/out|align|time offset|forced subs|palette|custom colors|langidx)"
    rb":[0-9A-Za-z ,:%/]{0,200}"
)


def clean_private(codec: str, data: bytes, inner: Inner) -> bytes | None:
    """Clean the settings of a codec, and return them in the same length. Return None if the element must be
    removed.

    codec: the codec's id.
    """
    if len(data) > MAX_PRIVATE_BYTES:
        return None
    if codec in ("A_VORBIS", "V_THEORA"):
        return _xiph(data, inner)
    if codec == "A_FLAC":
        return _flac(data, inner)
    if codec in _CONFIGS and data and not (codec in _STREAMS and is_byte_stream(data)):
        kind = _CONFIGS[codec]
        head = FULL_BOX if kind == b"vvcC" else b""
        cleaned = clean_config(kind, head + data, inner)
        return None if cleaned is None else _numbers(cleaned[len(head) :], inner)
    if codec in _STREAMS:
        data = _stream_settings(codec, data, inner)
    if codec.startswith(("V_MPEG1", "V_MPEG2", "V_MPEG4/ISO/")) and codec != "V_MPEG4/ISO/AVC":
        return _numbers(_USER_DATA.sub(_user_data, data), inner)
    if codec.startswith(("S_TEXT/ASS", "S_TEXT/SSA", "S_ASS", "S_SSA")):
        return _lines(data, _SCRIPT, inner)
    if codec == "S_VOBSUB":
        return _lines(data, _VOBSUB, inner)
    return _numbers(data, inner) if codec.startswith((*_NUMBERS, *_CONFIGS)) else None


def _stream_settings(codec: str, data: bytes, inner: Inner) -> bytes:
    """Clean the SEI messages in settings that are a stream of units, as in AVI."""
    old = codec == "V_MS/VFW/FOURCC"
    known = codec_of(data[16:20]) if old else _STREAMS[codec]
    if known is None:
        return data
    found = clean_settings(MemorySource(data), BITMAP_HEADER_BYTES if old else 0, len(data), known, inner)
    return apply(data, found.patches)


def _numbers(data: bytes, inner: Inner) -> bytes | None:
    """Return settings with zeros for texts of a hidden time or device; None for metadata and places."""
    if told_in_kept(data, inner.hide & Tells.LOCATION, inner.budget):
        return None
    asked = inner.hide & (Tells.TIME | Tells.DEVICE)
    return _TEXT.sub(lambda run: bytes(len(run[0])) if _told(run[0], asked, inner) else run[0], data)


def _told(text: bytes, asked: Tells, inner: Inner) -> bool:
    """Return True if a text holds data of the categories *asked*, or if the budget for texts is used up."""
    return bool(asked) and (not inner.budget.look(len(text)) or bool(told_in(text, asked)))


def _user_data(found: re.Match[bytes]) -> bytes:
    return found[0] if _QUIRKS.fullmatch(found[2]) else found[1] + b" " * len(found[2])


def _lines(data: bytes, kept: re.Pattern[bytes], inner: Inner) -> bytes:
    return b"".join(_line(line, kept, inner) for line in data.splitlines(keepends=True))


def _line(line: bytes, kept: re.Pattern[bytes], inner: Inner) -> bytes:
    """Return a line of a header that matches *kept* and holds no data to hide, else spaces."""
    text = line.rstrip()
    if not text:
        return line
    found = kept.fullmatch(text) if len(text) <= _MAX_LINE_BYTES else None
    if found is None:
        return _blank_line(line)
    inner.budget.part(_LINE_PARTS)
    if told(inner.hide, NOTHING, text, inner.budget):
        return _blank_line(line)
    if inner.hide & Tells.PEOPLE and found.groupdict().get("name"):
        start, end = found.span("name")
        return line[:start] + b" " * (end - start) + line[end:]
    return line


def _blank_line(line: bytes) -> bytes:
    inside = line.rstrip(b"\r\n")
    return b" " * len(inside) + line[len(inside) :]


def _xiph(data: bytes, inner: Inner) -> bytes | None:
    """Clean the three packets of Xiph's codecs (identification, comments, setup), joined by Xiph lacing."""
    if data[:1] != b"\2":
        return None
    at, sizes = 1, []
    for _ in range(2):
        size = 0
        while data[at : at + 1] == b"\xff":
            size, at = size + 255, at + 1
        if at >= len(data):
            return None
        sizes.append(size + data[at])
        at += 1
    start, end = at + sizes[0], at + sum(sizes)
    comments = data[start:end]
    if end > len(data) or comments[:7] not in (b"\3vorbis", b"\x81theora"):
        return None
    asked = inner.hide & Tells.LOCATION
    if any(told_in_kept(packet, asked, inner.budget) for packet in (data[at:start], data[end:])):
        return None
    return data[: start + 7] + clean_comments(comments[7:], inner) + data[end:]


def clean_comments(data: bytes, inner: Inner) -> bytes:
    """Clean Vorbis comments: the vendor, then NAME=value, each behind its length. The length of the data
    stays.

    A removed comment becomes a comment without a meaning. A list that cannot be understood becomes a list
    without comments, with spaces as its vendor.
    """
    out = bytearray(data)
    end = number = 0
    for number, (start, stop) in enumerate(_comment_spans(data)):
        if stop > len(data):
            return _no_comments(len(data))
        piece, end = data[start:stop], stop
        if _comment_goes(piece, number == 0, inner):
            blank = b" " * len(piece) if number == 0 else b"X=".ljust(len(piece))[: len(piece)]
            out[start:stop] = blank
    if data[end + 4 * (number == 0) :].strip(b"\0") not in (b"", b"\1"):
        return _no_comments(len(data))
    return bytes(out)


def _comment_goes(piece: bytes, is_vendor: bool, inner: Inner) -> bool:
    """Return True if a comment (or the vendor: its date has no time of day) goes, by name or value."""
    inner.budget.part(2)
    if is_vendor:
        return bool(tag_tells(b"VENDOR") & inner.hide) or _told(piece, inner.hide, inner)
    name, _, value = piece.partition(b"=")
    return bool(tag_tells(name, value) & inner.hide or told(inner.hide, NOTHING, value, inner.budget))


def _comment_spans(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the ranges of the vendor and of each comment; if cut off, the last ends behind the data."""
    size = int.from_bytes(data[:4], "little")
    at = 4 + size
    yield 4, at if len(data) >= 8 else len(data) + 1
    count, at = int.from_bytes(data[at : at + 4], "little"), at + 4
    for _ in range(count):
        if at + 4 > len(data):
            yield at, len(data) + 1
            return
        size = int.from_bytes(data[at : at + 4], "little")
        yield at + 4, at + 4 + size
        at += 4 + size


def _no_comments(size: int) -> bytes:
    if size < 9:
        return bytes(size)
    return (size - 9).to_bytes(4, "little") + b" " * (size - 9) + bytes(4) + b"\1"


def _flac(data: bytes, inner: Inner) -> bytes | None:
    """Clean FLAC's metadata blocks; those that the decoder does not need (also the seek table) become
    padding.
    """
    if data[:4] != b"fLaC":
        return None
    out, at, last = bytearray(data), 4, False
    while not last and at + 4 <= len(data):
        last, kind = bool(data[at] & 0x80), data[at] & 0x7F
        end = at + 4 + int.from_bytes(data[at + 1 : at + 4])
        if end > len(data):
            break
        if kind == _COMMENT:
            out[at + 4 : end] = clean_comments(data[at + 4 : end], inner)
        elif kind != _STREAMINFO:
            out[at] = _PADDING | (data[at] & 0x80)
            out[at + 4 : end] = bytes(end - at - 4)
        at = end
    out[at:] = bytes(len(data) - at)
    return bytes(out)
