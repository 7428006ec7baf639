"""Targets of a PDF's cross-reference tables (ISO 32000-2, 7.5.4 and 7.5.8).

object_scan.py finds objects without tables, but not within the bytes of a string or of a stream. A table may
point to such bytes, and readers that use the table would find an object there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.pdf.objects import Node

MAX_TABLE_BYTES: Final = 4 << 20

_ENTRY: Final = re.compile(rb"(\d{10}) \d{5} n")
_UP: Final = 2
_IN_FILE: Final = 1


def table_offsets(source: ByteSource, start: int, end: int) -> Iterator[int]:
    """Yield the offsets of objects in the plain-text cross-reference table [start, end). Raises
    NotThisKindError.
    """
    if end - start > MAX_TABLE_BYTES:
        raise NotThisKindError("a table in it is too large")
    for found in _ENTRY.finditer(source.read(start, end - start)):
        yield int(found[1])


def stream_offsets(data: bytes, node: Node) -> Iterator[int]:
    """Yield the offsets of objects in a decompressed cross-reference stream. node: the stream's dictionary.

    Raises NotThisKindError.
    """
    widths = _numbers(node.get(b"W"))
    if len(widths) < 3 or sum(widths) == 0 or max(widths) > 8:
        raise NotThisKindError("a table in it is malformed")
    rows = _rows(data, sum(widths), node.get(b"DecodeParms") or node.get(b"DP"))
    for row in rows:
        kind = int.from_bytes(row[: widths[0]]) if widths[0] else _IN_FILE
        if kind == _IN_FILE:
            yield int.from_bytes(row[widths[0] : widths[0] + widths[1]])


def _rows(data: bytes, width: int, parameters: Node | None) -> Iterator[bytes]:
    """Yield the rows of a cross-reference stream, with its predictor undone.

    width: size of a row in bytes. Such streams use the predictors "none" and "up". Raises NotThisKindError
    for any other predictor.
    """
    if parameters is not None and parameters.kind == "array":
        parameters = parameters.items[0] if parameters.items else None
    predictor = 1 if parameters is None else parameters.integer(b"Predictor") or 1
    if predictor < 10:
        if predictor != 1:
            raise NotThisKindError("a table in it is packed in an unusual way")
        yield from (data[at : at + width] for at in range(0, len(data) - width + 1, width))
        return
    if parameters is None or parameters.integer(b"Columns") != width:
        raise NotThisKindError("a table in it is packed in an unusual way")
    above = bytes(width)
    for at in range(0, len(data) - width, width + 1):
        row = data[at + 1 : at + 1 + width]
        if data[at] == _UP:
            row = bytes((a + b) & 0xFF for a, b in zip(row, above, strict=True))
        elif data[at]:
            raise NotThisKindError("a table in it is packed in an unusual way")
        above = row
        yield row


def _numbers(node: Node | None) -> Sequence[int]:
    if node is None or node.kind != "array":
        return ()
    return [int(item.text) for item in node.items if item.text.isdigit() and len(item.text) < 6]
