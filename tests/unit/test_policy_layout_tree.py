"""Trees of YAML files, with places."""

from __future__ import annotations

import pytest

from policyfs.policy.layout.tree import Alias, Collection, Scalar, read_tree

TEXT = """\
a: &x [1, "two"]  # - no item
list:
# - no item either
- x
-  b: *x
   c: |
     text
empty:
"""


def test_entries_have_their_places():
    top, spans = read_tree(TEXT)
    keys = [entry.key.text for entry in top.entries if entry.key is not None]
    assert keys == ["a", "list", "empty"]
    first, items, empty = (entry.value for entry in top.entries)
    assert isinstance(first, Collection)
    assert isinstance(items, Collection)
    assert (first.flow, first.anchor, TEXT[first.start : first.end]) == (True, "x", '&x [1, "two"]')
    assert [(entry.column, TEXT[entry.start]) for entry in items.entries] == [(0, "-"), (0, "-")]
    inner = items.entries[1].value
    assert isinstance(inner, Collection)
    assert inner.column == 3
    assert isinstance(inner.entries[0].value, Alias)
    assert isinstance(empty, Scalar)
    assert empty.text == ""
    assert [TEXT[start:end] for start, end in spans[:4]] == ["a", "1", '"two"', "list"]


@pytest.mark.parametrize("text", ["- a\n", "? [a]\n: b\n", "text\n"])
def test_what_no_policy_file_is(text: str):
    with pytest.raises((TypeError, ValueError)):
        read_tree(text)
