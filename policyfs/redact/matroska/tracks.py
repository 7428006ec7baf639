"""Tracks of a Matroska file: the treatment of their blocks, and the coding of their frames."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.redact.bitstreams.decoder_config import Framing, framing_in, stream_framing
from policyfs.redact.bitstreams.layers import named
from policyfs.redact.bitstreams.nal_units import AV1, AVC, HEVC, MPEG, VVC, codec_of
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.matroska import tag_names
from policyfs.redact.matroska.codec_private import BITMAP_HEADER_BYTES
from policyfs.redact.matroska.ebml import VOID
from policyfs.redact.matroska.elements import child_data, children
from policyfs.redact.tags.sound_streams import PLAIN, may_begin_tag

_VIDEO, _AUDIO, _SUBTITLE = 1, 2, 17
_PICTURES_OF_TEXT: Final = (b"S_VOBSUB", b"S_HDMV/PGS", b"S_DVBSUB", b"S_IMAGE/BMP", b"S_ARIBSUB")
_PICTURES: Final = (b"V_MJPEG", b"V_MS/VFW/FOURCC", b"V_QUICKTIME")
"""Codecs of frames that may be whole pictures: Motion JPEG, and those of AVI or QuickTime."""
_MPEG: Final = (b"V_MPEG1", b"V_MPEG2", b"V_MPEG4/ISO/SP", b"V_MPEG4/ISO/ASP", b"V_MPEG4/ISO/AP")
_TEXTS: Final = (b"S_TEXT/", b"S_SSA", b"S_ASS", b"D_WEBVTT/")
_TAGGED: Final = (b"A_MPEG", b"A_QUICKTIME")
_ENCRYPTION: Final = 1
_FRAMES: Final = 1
_STRIPPED: Final = 3


class Role(enum.Enum):
    """The treatment of a track's blocks by redaction."""

    MEDIA = "they stay"
    TEXT = "they are read"
    OTHER = "they become zeros"


class Coding(NamedTuple):
    """The coding of a track's pictures.

    framing: the codec and the size of the length field before each unit; None if each frame may be a whole
    picture (Motion JPEG). lead: the bytes at the start of each frame that are not stored in its block
    (ContentCompAlgo 3).
    """

    framing: Framing | None
    lead: bytes


class Track(NamedTuple):
    """A track of the file.

    packed: True if its blocks are compressed or encrypted. coding: set only if its frames may have
    messages, or be whole pictures. tagged: True for sound that may have tags (MP3).
    """

    role: Role
    packed: bool = False
    coding: Coding | None = None
    tagged: bool = False


def tracks_of(data: bytes) -> dict[int, Track]:
    """Read the data of a Tracks element; return a dictionary from the numbers of tracks to the tracks.

    If two tracks have the same number, the role is OTHER. Raises NotThisKindError if frames that must be
    searched (for messages, or as whole pictures) are compressed by zlib or the like.
    """
    tracks: dict[int, Track] = {}
    for child in children(data):
        if child.head.ident != tag_names.TRACK:
            continue
        entry = child.payload(data)
        number = int.from_bytes(child_data(entry, tag_names.TRACK_NUMBER) or b"")
        packed = child_data(entry, tag_names.ENCODINGS) is not None
        track = Track(_role(entry), packed, _coding(entry), _is_tagged(entry))
        tracks[number] = track if number not in tracks else Track(Role.OTHER, packed)
    return tracks


def codes_of(data: bytes) -> Iterator[bytes]:
    """Yield the codes of AVI's and QuickTime's codecs in the data of a Tracks element."""
    for child in children(data):
        entry = child.payload(data)
        codec, settings = _codec(entry)
        if codec.startswith(b"V_MS/VFW/FOURCC"):
            yield settings[16:20]
        elif codec.startswith(b"V_QUICKTIME"):
            yield from (settings[:4], settings[4:8])


def _codec(entry: bytes) -> tuple[bytes, bytes]:
    codec, settings = (child_data(entry, i) or b"" for i in (tag_names.CODEC_ID, tag_names.CODEC_PRIVATE))
    return codec.rstrip(b"\0"), settings


def _role(entry: bytes) -> Role:
    kind, codec = _number(entry, tag_names.TRACK_TYPE), _codec(entry)[0]
    if (kind == _VIDEO and codec.startswith(b"V_")) or (kind == _AUDIO and codec.startswith(b"A_")):
        return Role.MEDIA
    if kind == _SUBTITLE and codec.startswith(_PICTURES_OF_TEXT):
        return Role.MEDIA
    return Role.TEXT if codec.startswith(_TEXTS) else Role.OTHER


def _coding(entry: bytes) -> Coding | None:
    """Return the coding of pictures; None if frames are not searched: encrypted ones match by chance."""
    codec, settings = _codec(entry)
    coded = _framing(codec, settings)
    if (coded is None and not codec.startswith(_PICTURES)) or _role(entry) is not Role.MEDIA:
        return None
    lead = _lead(child_data(entry, tag_names.ENCODINGS) or b"")
    if coded is not None:  # the entry names Dolby Vision beside the codec's settings
        coded = coded._replace(layers=coded.layers | named(entry))
    return None if lead is None else Coding(coded, lead)


def _is_tagged(entry: bytes) -> bool:
    """Return True if readers find tags in the sound: MPEG, or coded sound of AVI. Raises NotThisKindError."""
    codec, settings = _codec(entry)
    wave = codec.startswith(b"A_MS/ACM") and int.from_bytes(settings[:2], "little") not in PLAIN
    if _role(entry) is not Role.MEDIA or not (wave or codec.startswith(_TAGGED)):
        return False
    lead = _lead(child_data(entry, tag_names.ENCODINGS) or b"")
    if lead and may_begin_tag(lead):
        raise NotThisKindError("a tag may begin in the bytes that its header compression removes")
    return lead is not None


def _framing(codec: bytes, settings: bytes) -> Framing | None:
    if codec == b"V_MPEG4/ISO/AVC":
        return stream_framing(AVC, settings)
    if codec == b"V_MPEGH/ISO/HEVC":
        return stream_framing(HEVC, settings)
    if codec == b"V_MPEGI/ISO/VVC":
        return stream_framing(VVC, settings)
    if codec == b"V_AV1":
        return Framing(AV1, 0)
    if codec.startswith(_MPEG):
        return Framing(MPEG, 0)
    if codec == b"V_QUICKTIME":
        known = codec_of(settings[:4]) or codec_of(settings[4:8])
        return framing_in(settings) or (None if known is None else Framing(known, 0))
    known = codec_of(settings[16:20]) if codec == b"V_MS/VFW/FOURCC" else None
    return None if known is None else stream_framing(known, settings[BITMAP_HEADER_BYTES:])


def _lead(encodings: bytes) -> bytes | None:
    """Return the bytes removed from the start of each frame; None if encrypted. Raises NotThisKindError for
    any other encoding, and for several.
    """
    some = [child.payload(encodings) for child in children(encodings) if child.head.ident != VOID]
    if not some:
        return b""
    kind = _number(some[0], tag_names.ENCODING_TYPE)
    packing = child_data(some[0], tag_names.COMPRESSION) or b""
    if len(some) == 1 and kind == _ENCRYPTION:
        return None
    stripped = kind == 0 and _number(packing, tag_names.COMPRESSION_ALGORITHM) == _STRIPPED
    if len(some) == 1 and stripped and _number(some[0], tag_names.ENCODING_SCOPE, _FRAMES) == _FRAMES:
        return child_data(packing, tag_names.COMPRESSION_SETTINGS) or b""
    raise NotThisKindError("its frames are compressed a second time, and policyfs cannot search them")


def _number(data: bytes, ident: int, default: int = 0) -> int:
    found = child_data(data, ident)
    return default if found is None else int.from_bytes(found)
