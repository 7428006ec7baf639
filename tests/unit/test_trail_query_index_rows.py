"""Rows of an index. tests/property/test_audit_index.py compares selections with the lines."""

from __future__ import annotations

import pytest

from policyfs.trail.query.index_rows import chosen, fixed_parts, is_all


@pytest.mark.parametrize(
    ("glob", "prefix", "needle"),
    [
        ("/DCIM/a.jpg", b"/DCIM/a.jpg", b""),
        ("/DCIM/*.jpg", b"/DCIM", b"DCIM"),
        ("*.jpg", b"", b".jpg"),
        ("a.jpg", b"", b"a.jpg"),
        ("/a/**/bcd", b"/a", b"bcd"),
        ("/a/**/b", b"/a", b"a"),
        ("/{a,b}/c", b"", b"c"),
        ("/D*/***", b"/D", b"D"),
        ("/a\\*b/c", b"/a", b"b/c"),
        ("*", b"", b""),
        ("/**", b"", b""),
    ],
)
def test_the_fixed_parts_of_a_glob(glob: str, prefix: bytes, needle: bytes) -> None:
    assert fixed_parts(glob) == (prefix, needle)


def test_sets_of_rows() -> None:
    rows = int.from_bytes(b"\1\0\1", "little")
    assert chosen(rows, 3) == [0, 2]
    assert chosen(0, 3) == []
    assert not is_all(rows, 3)
    assert is_all(0x010101, 3)
    assert is_all(0, 0)
