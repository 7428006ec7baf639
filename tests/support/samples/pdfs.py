"""PDFs made object by object, with tables that are right."""

from __future__ import annotations

import zlib
from typing import Final

PLACE: Final = b"47.80453, 13.04229"
CATALOG: Final = b"<</Type/Catalog/Pages 2 0 R%s>>"
PAGES: Final = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
PAGE: Final = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R%s>>"


def stream(data: bytes, entries: bytes = b"", length: bytes | None = None) -> bytes:
    """A stream with its dictionary."""
    size = b"%d" % len(data) if length is None else length
    return b"<<" + entries + b"/Length " + size + b">>\nstream\n" + data + b"\nendstream"


def packed(data: bytes, entries: bytes = b"", room: int = 0) -> bytes:
    """A compressed stream; room: zeros behind the end of the compressed data."""
    return stream(zlib.compress(data) + bytes(room), entries + b"/Filter/FlateDecode")


def objects(numbered: dict[int, bytes], start: int) -> tuple[bytes, dict[int, int]]:
    """Objects as they stand in a file from start on, and where each is."""
    out, places = b"", {}
    for number, value in numbered.items():
        places[number] = start + len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, value)
    return out, places


def pdf(
    more: dict[int, bytes] | None = None,
    *,
    catalog: bytes = b"",
    page: bytes = b"",
    trailer: bytes = b"",
    head: bytes = b"%PDF-1.7\n",
    gap: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """A document of one page with further objects, entries, and bytes between and behind."""
    numbered = {1: CATALOG % catalog, 2: PAGES, 3: PAGE % page, 4: stream(b"0 0 m 9 9 l S"), **(more or {})}
    body, places = objects(numbered, len(head))
    return head + body + gap + table(places, len(head + body + gap), trailer) + tail


def table(places: dict[int, int], at: int, trailer: bytes) -> bytes:
    """A cross-reference table with its trailer."""
    lines = [b"xref\n0 1\n0000000000 65535 f \n"]
    lines += [b"%d 1\n%010d 00000 n \n" % pair for pair in sorted(places.items())]
    size = max(places) + 1
    return b"".join(lines) + b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (
        size,
        trailer,
        at,
    )


def object_stream(numbered: dict[int, bytes], room: int = 0) -> bytes:
    """Objects in a compressed object stream."""
    head, body = b"", b""
    for number, value in numbered.items():
        head += b"%d %d " % (number, len(body))
        body += value + b" "
    entries = b"/Type/ObjStm/N %d/First %d" % (len(numbered), len(head))
    return packed(head + body, entries, room)


def revised(data: bytes, changed: dict[int, bytes], trailer: bytes = b"") -> bytes:
    """The document with a revision behind it."""
    body, places = objects(changed, len(data))
    return data + body + table(places, len(data) + len(body), b"/Prev 0" + trailer)
