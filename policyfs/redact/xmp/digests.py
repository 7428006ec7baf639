"""Digests of EXIF and of IPTC records within XMP. A removed digest is restored if it matches the data of the
file.

A digest of data that a file does not hold (any more) would confirm a guess of that data, for example of a
place. So the cleaner of XMP may remove digests. This module restores a removed digest if it matches the
file's old data, and then writes the digest of the file's new data. A digest covers the values of the tags in
its list, in the order of the list. Sources: XMP specification part 3, Adobe's XMP toolkit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from policyfs.redact.core.digests import md5_text
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.exif.ifd import read_entries, read_header
from policyfs.redact.exif.tags import EXIF_IFD, GPS_IFD, GPS_TAGS_END, TYPE_SIZES
from policyfs.redact.tags.iptc import IRB_IPTC, resources

_NATIVE: Final = re.compile(
    rb"(?:[\w.-]+:)?NativeDigest\s*=\s*[\"'](?P<tags>(?:\d{1,5},){0,200}\d{1,5});(?P<digest>[0-9A-F]{32})[\"']"
    rb"|<(?:[\w.-]+:)?NativeDigest>(?P<tags2>(?:\d{1,5},){0,200}\d{1,5});(?P<digest2>[0-9A-F]{32})"
    rb"</(?:[\w.-]+:)?NativeDigest>"
)
_LEGACY: Final = re.compile(
    rb"(?:[\w.-]+:)?LegacyIPTCDigest\s*=\s*[\"'](?P<digest>[0-9A-F]{32})[\"']"
    rb"|<(?:[\w.-]+:)?LegacyIPTCDigest>(?P<digest2>[0-9A-F]{32})</(?:[\w.-]+:)?LegacyIPTCDigest>"
)
DIGEST_NAMES: Final = ("NativeDigest", "LegacyIPTCDigest")
_EXIF_VERSION: Final = 0x9000
_MAX_ENTRIES: Final = 1000
_MAX_DIRECTORIES: Final = 32

Values = Mapping[tuple[int, int], bytes]
"""(tag that refers to the directory, or 0; tag in it) -> the bytes of its value."""


class Held:
    """The data of a picture that digests cover: values of EXIF tags, and IPTC records of image resources."""

    __slots__ = ("records", "values")

    def __init__(self, exif: bytes, irb: bytes) -> None:
        self.values = _values(exif)
        self.records = next(
            (irb[r.start : r.end] for r in resources(irb) if r.id == IRB_IPTC and r.signature == b"8BIM"),
            None,
        )


def renewed(written: bytes, before: Held, after: Held) -> bytes | None:
    """Return an attribute or element of XMP with the digest of the new data, of the same length.

    written: the attribute or element. Return None if *written* has another form, or if its digest
    does not match the old data.
    """
    native, legacy = _NATIVE.fullmatch(written), _LEGACY.fullmatch(written)
    if native is not None:
        tags = [int(tag) for tag in (native["tags"] or native["tags2"]).split(b",")]
        return _with(written, native, _of_tags(tags, before.values), _of_tags(tags, after.values))
    if legacy is None or before.records is None or after.records is None:
        return None
    return _with(written, legacy, md5_text(before.records), md5_text(after.records))


def _with(written: bytes, found: re.Match[bytes], old: bytes, new: bytes) -> bytes | None:
    name = "digest" if found["digest"] is not None else "digest2"
    if found[name] != old:
        return None
    return written[: found.start(name)] + new + written[found.end(name) :]


def _of_tags(tags: list[int], values: Values) -> bytes:
    """Return the digest of a list of tags: of the first directory, or of the EXIF and GPS directories."""
    directory = EXIF_IFD if _EXIF_VERSION in tags else 0
    keys = ((GPS_IFD if directory and tag < GPS_TAGS_END else directory, tag) for tag in tags)
    return md5_text(b"".join(values.get(key, b"") for key in keys))


def _values(block: bytes) -> Values:
    source = MemorySource(block)
    header = read_header(source, TYPE_SIZES)
    found: dict[tuple[int, int], bytes] = {}
    waiting = [(0, header.first)] if header is not None and header.magic == 42 else []
    for _ in range(_MAX_DIRECTORIES):
        if header is None or not waiting:
            break
        role, at = waiting.pop()
        for entry in read_entries(source, at, header.frame, _MAX_ENTRIES):
            found.setdefault((role, entry.tag), block[entry.start : entry.end])
            if role == 0 and entry.tag in (EXIF_IFD, GPS_IFD):
                waiting.append((entry.tag, header.frame.number(entry.raw[8:])))
    return found
