"""AIFF and AIFF-C files (Apple, "Audio Interchange File Format" 1.3, 1989; AIFF-C draft, 1991)."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import NOTHING, Tells
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.core.tag_names import is_blank, told
from policyfs.redact.riff.chunks import Chunk, Doubts, chunks, drop, holds_more, pad, printable
from policyfs.redact.riff.sound import FILES, PLAIN_TYPES, clean_sound, code_of
from policyfs.redact.tags.id3 import clean_id3, tag_size

PADDING: Final = b"FLLR"
"""Name of the padding chunks that Apple's recorders write."""
_HEADER_BYTES: Final = 12
_SOUND_AT: Final = 8
_PACKING_AT: Final = 18
_COMMON_BYTES: Final = 23
"""Size of the numbers at the start of COMM in AIFF-C; the last is the length of a name."""
_PACKINGS: Final = re.compile(
    rb"not compressed|no compression|uncompressed|(?:16|24|32)[- ]bit (?:little|big)[- ]endian"
    rb"|(?:un)?signed integer \((?:little|big)-endian\) linear pcm"
    rb"|(?:ieee )?(?:32|64)[- ]bit float(?:ing point)?"
    rb"|(?:sgi )?(?:ccitt )?(?:g\.711 )?[au\xb5][- ]?law(?: 2:1)?|(?:sgi )?ccitt g\.72[1236]|gsm 6\.10"
    rb"|mace [36](?:-to-|:)1|ace (?:2-to-1|8-to-3)|(?:apple |dvi )?ima (?:adpcm )?4:1"
    rb"|qdesign music(?: 2)?|qualcomm purevoice",
    re.IGNORECASE,
)
"""Names of the usual packings of sound. Any other name may be a program or a person."""
_CHANNELS_BYTES, _CHANNEL_BYTES, _MAX_CHANNELS = 12, 20, 64
"""CHAN: size in bytes of its head and of each channel, and the maximum number of channels."""
_PLAIN: Final = MappingProxyType({b"COMM": 512, b"FVER": 4, b"INST": 20, b"CHAN": 1292})
TEXTS: Final = MappingProxyType(
    {
        b"NAME": Tells.PEOPLE,
        b"AUTH": Tells.PEOPLE,
        b"(c) ": Tells.PEOPLE,
        b"ANNO": Tells.PEOPLE | Tells.DEVICE,
        b"COMT": Tells.PEOPLE | Tells.TIME,
        b"MARK": Tells.PEOPLE,
        b"AESD": Tells.DEVICE | Tells.TIME,
    }
)
"""Chunk of text -> categories. (COMT has the time of writing; AESD names machines and the time.)"""


def locate_aiff(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in an AIFF. Raises NotThisKindError, TooMuchError."""
    head = source.read(0, _HEADER_BYTES)
    if head[:4] != b"FORM" or head[8:] not in (b"AIFF", b"AIFC"):
        raise NotThisKindError("it does not start like an AIFF")
    edits = Edits(source, inner, "AIFF")
    at, doubts, packing = _HEADER_BYTES, Doubts("big"), b"NONE"
    sounds: list[tuple[int, int]] = []
    for chunk in chunks(source, inner, _HEADER_BYTES, source.size, "big", doubts=doubts):
        at = chunk.next
        if chunk.name == b"SSND":
            sounds.append((chunk.start + _SOUND_AT, chunk.end))
            pad(edits, chunk)
        else:
            if chunk.name == b"COMM" and head[8:] == b"AIFC":
                packing = source.read(chunk.start, min(chunk.size, _PACKING_AT + 4))[_PACKING_AT:]
            _chunk(edits, chunk)
    if not sounds:
        raise NotThisKindError("there is no sound in it")
    for start, end in sounds if packing not in PLAIN_TYPES else ():
        clean_sound(edits, FILES.get(code_of(packing), ""), start, end)
    edits.trailer(at, source.size)
    doubts.check(edits)
    return edits.found


def _chunk(edits: Edits, chunk: Chunk) -> None:
    hide = edits.inner.hide
    data = edits.source.read(chunk.start, min(chunk.size, MAX_BLOCK_BYTES))
    whole = chunk.whole and len(data) == chunk.size
    if chunk.name in _PLAIN and whole and chunk.size <= _PLAIN[chunk.name]:
        end = chunk.end
        if chunk.name == b"COMM":
            found = told(hide, _tells_of_packing(data), data[_COMMON_BYTES:])
            if found:
                edits.zero(chunk.start + _COMMON_BYTES, chunk.end, "name of the packing", found)
        elif chunk.name == b"CHAN":
            count = min(int.from_bytes(data[8:_CHANNELS_BYTES]), _MAX_CHANNELS)
            end = min(chunk.start + _CHANNELS_BYTES + count * _CHANNEL_BYTES, chunk.end)
        if chunk.name != b"COMM" and holds_more(edits, chunk.start, end):
            drop(edits, chunk, name=PADDING)
        else:
            edits.zero(end, chunk.end, "behind CHAN")
            pad(edits, chunk)
    elif chunk.name in TEXTS and whole:
        found = told(hide, TEXTS[chunk.name], data, edits.inner.budget) if data.strip(b"\0 ") else Tells(0)
        if found:
            drop(edits, chunk, found, PADDING)
        else:
            pad(edits, chunk)
    elif chunk.name in (b"ID3 ", b"id3 ") and whole and 0 < tag_size(data[:10]) <= len(data):
        size = tag_size(data[:10])
        edits.block(chunk.start, data[:size], clean_id3(data[:size], edits.inner))
        edits.zero(chunk.start + size, chunk.next, "behind ID3")
    else:
        drop(edits, chunk, name=PADDING, tag=printable(chunk.name), broken=not whole)


def _tells_of_packing(data: bytes) -> Tells:
    """Return the categories of the name of the packing in a COMM chunk, and of the bytes behind this name."""
    end = _COMMON_BYTES + (data[_COMMON_BYTES - 1] if len(data) >= _COMMON_BYTES else 0)
    name, behind = data[_COMMON_BYTES:end], data[end:]
    usual = is_blank(name) or _PACKINGS.fullmatch(name.strip(b"\0 ")) is not None
    return NOTHING if usual and is_blank(behind) else Tells.PEOPLE | Tells.DEVICE
