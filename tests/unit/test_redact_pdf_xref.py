"""Targets of cross-reference tables, in text and in streams."""

from __future__ import annotations

import pytest

from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.pdf.objects import Node, Reader
from policyfs.redact.pdf.xref import MAX_TABLE_BYTES, stream_offsets, table_offsets


def node_of(entries: bytes) -> Node:
    return Reader(b"<<" + entries + b">>").value()


def test_a_table_in_text():
    text = b"xref\n0 3\n0000000000 65535 f \n0000000017 00000 n \n0000000081 00000 n \n12345678901 00000 n\n"
    assert list(table_offsets(MemorySource(text), 0, len(text))) == [17, 81, 2345678901]
    assert list(table_offsets(MemorySource(text), 0, 49)) == [17]


def test_a_table_too_large():
    source = MemorySource(bytes(MAX_TABLE_BYTES + 1))
    assert list(table_offsets(source, 0, MAX_TABLE_BYTES)) == []
    with pytest.raises(NotThisKindError):
        list(table_offsets(source, 0, MAX_TABLE_BYTES + 1))


ROWS = bytes([0, 0, 9, 0]) + bytes([1, 1, 2, 0]) + bytes([2, 0, 5, 1]) + bytes([1, 0, 7, 0])


@pytest.mark.parametrize(
    ("data", "entries", "offsets"),
    [
        (ROWS, b"/W[1 2 1]", [0x102, 7]),
        (ROWS[:-1], b"/W[1 2 1]", [0x102]),
        (b"", b"/W[1 2 1]", []),
        (bytes([0, 5, 1, 2]), b"/W[0 2 0]", [5, 0x102]),
        (bytes([1, 9, 9]), b"/W[1 0 2]", [0]),
        (ROWS, b"/W[1 2 1]/DecodeParms<</Predictor 1>>", [0x102, 7]),
        (ROWS, b"/W[1 2 1]/DecodeParms[]", [0x102, 7]),
    ],
)
def test_a_table_in_a_stream(data, entries, offsets):
    assert list(stream_offsets(data, node_of(entries))) == offsets


def up(rows: bytes, width: int, predictor: int = 2) -> bytes:
    """Rows as PNG's predictors write them."""
    out, above = b"", bytes(width)
    for at in range(0, len(rows), width):
        row = rows[at : at + width]
        out += bytes([predictor])
        out += bytes((a - b) & 0xFF for a, b in zip(row, above, strict=True)) if predictor else row
        above = row
    return out


@pytest.mark.parametrize("predictor", [0, 2])
def test_predictors_are_undone(predictor):
    for entries in (b"<</Predictor 12/Columns 4>>", b"[<</Predictor 15/Columns 4>>]"):
        node = node_of(b"/W[1 2 1]/DecodeParms" + entries)
        assert list(stream_offsets(up(ROWS, 4, predictor), node)) == [0x102, 7]
        assert list(stream_offsets(up(ROWS, 4, predictor)[:-1], node)) == [0x102]


@pytest.mark.parametrize(
    ("entries", "data"),
    [
        (b"", ROWS),
        (b"/W[1 2]", ROWS),
        (b"/W 4", ROWS),
        (b"/W[0 0 0]", ROWS),
        (b"/W[1 9 1]", ROWS),
        (b"/W[1 2 1]/DecodeParms<</Predictor 2>>", ROWS),
        (b"/W[1 2 1]/DecodeParms<</Predictor 12>>", ROWS),
        (b"/W[1 2 1]/DecodeParms<</Predictor 12/Columns 5>>", ROWS),
        (b"/W[1 2 1]/DP<</Predictor 12/Columns 4>>", up(ROWS, 4, 2).replace(b"\2", b"\3", 1)),
    ],
)
def test_a_table_that_is_not_understood(entries, data):
    with pytest.raises(NotThisKindError):
        list(stream_offsets(data, node_of(entries)))
