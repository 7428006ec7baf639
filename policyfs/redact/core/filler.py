"""Detection of filler: bytes without information, such as padding, one repeated byte, or the text ``Auto``.

Redaction leaves filler in the file, whatever data the policy hides. So bytes count as filler only if they
cannot hold a place, a day or a serial number. Each of these needs more than three bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.redact.core.free_text import bytes_tell_place
from policyfs.redact.core.intervals import Extents
from policyfs.redact.core.patches import CHUNK_BYTES, MAX_ZEROS_BYTES, ByteSource, is_blank

MOST_BYTES: Final = 3
"""Up to this number of bytes, with any values, count as filler if all bytes around them are zero."""
MAX_FILLER_BYTES: Final = 1 << 16
"""Maximum size of a range tested for all filler; a longer one is a run, or a few bytes among zeros."""
_SHORT_BYTES: Final = 256

_HEADERS: Final = frozenset(
    {
        b"\0\0\0\x08wide",  # QuickTime: room for a longer header of the next box
        b"\0\0\0\x08mdat",
        b"\0\0\0\x08free",
        b"\0\0\0\x08skip",
        b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x10",
        b"\0\0\0\x08wide\0\0\0\0mdat",
        b"II*\0\x08",  # a TIFF, which Pillow writes before each further page
        b"MM\0*\0\0\0\x08",
        b"ExifMeta",  # ExifTool, behind the header of EXIF in a WebP
        b"NHW_0001",  # Nokia's HEIF writer, between its pictures
        b"\x1c\xea\0\0\0\x08",  # the start of EXIF padding from Microsoft's programs
    }
)
_CORES: Final = frozenset(header.strip(b"\0") for header in _HEADERS)
_WORDS: Final = frozenset(
    b"0 1 {} [] () - -- --- auto manual on off yes no none null nil normal standard default unknown n/a"
    b" undef true false std low high hard soft fine".split()
)
"""Texts that cameras write for "no value", in upper or lower case."""
_CODES: Final = frozenset({b"NO", b"ON"})
"""Texts in capitals that do not count as "no value", because they are codes of places (Norway, Ontario)."""
_MAX_WORD_BYTES: Final = 8
_PRODUCED: Final = b"IsoMedia File Produced with "
_MAX_PRODUCED_BYTES: Final = 96


def is_uniform(data: bytes) -> bool:
    """Return True if all bytes are the same (True for no bytes)."""
    return data == data[:1] * len(data)


def is_empty_header(data: bytes) -> bool:
    """Return True if bytes are the header of an empty box, or of padding, among zeros."""
    return data.strip(b"\0") in _CORES


def is_word(data: bytes) -> bool:
    """Return True for a text of _WORDS ("no value"), blanks and zeros."""
    text = data.rstrip(b"\0 ")
    return not text or (len(text) <= _MAX_WORD_BYTES and text.lower() in _WORDS and text not in _CODES)


def says_nothing(data: bytes) -> bool:
    """Return True for filler: one repeated byte, three bytes between zeros, an empty box's header."""
    core = data.strip(b"\0")
    return len(core) <= MOST_BYTES or is_uniform(core) or is_empty_header(data)


def names_a_muxer(data: bytes) -> bool:
    """Return True for the text with which a muxer names itself in free space."""
    text = data.strip(b"\0")
    short = len(text) <= _MAX_PRODUCED_BYTES and text.startswith(_PRODUCED)
    return short and text.isascii() and text.decode("ascii").isprintable() and not bytes_tell_place(text)


def range_says_nothing(source: ByteSource, start: int, end: int) -> bool:
    """Return True if the range [start, end) of a source is filler (see says_nothing). Read as little as the
    answer needs.

    For a range of more than MAX_ZEROS_BYTES, return False without a read: the range may be a hole of many
    terabytes.
    """
    size = end - start
    if size > MAX_ZEROS_BYTES:
        return False
    head = source.read(start, min(size, _SHORT_BYTES))
    core = head.strip(b"\0")
    if len(core) > MOST_BYTES and not is_uniform(core) and not is_empty_header(head):
        return False
    return (
        says_nothing(source.read(start, size))
        if size <= MAX_FILLER_BYTES
        else _is_one_run(source, start, end)
    )


def _is_one_run(source: ByteSource, start: int, end: int) -> bool:
    """Return True if [start, end) is one repeated byte, or up to three bytes among zeros."""
    byte, ended = b"", False
    for at in range(start, end, CHUNK_BYTES):
        chunk = source.read(at, min(CHUNK_BYTES, end - at))
        if is_blank(chunk):
            ended = bool(byte)
            continue
        core = chunk.strip(b"\0")
        short = len(core) <= MOST_BYTES and not byte
        if ended or not (short or is_uniform(core)) or (byte and chunk[:1] != byte):
            return False
        byte, ended = core[:1], chunk[-1] == 0 or not is_uniform(core)
    return True


class Leftover(NamedTuple):
    """Unreferenced bytes [start, end) of a block. stays: they hold no information."""

    start: int
    end: int
    stays: bool


def leftovers(block: bytes, claimed: Extents, gone: Extents) -> Iterator[Leftover]:
    """Yield the unreferenced ranges of a block that are not all zero.

    claimed: referenced bytes. gone: removed bytes. A range beside removed bytes does not stay, because the
    range may belong to the removed data.
    """
    for start, end in claimed.gaps(len(block)):
        data = block[start:end]
        if data.count(0) < len(data):
            beside = gone.hits(start - 1, start) or gone.hits(end, end + 1)
            yield Leftover(start, end, not beside and says_nothing(data))
