"""Comments and the entries that they are about. tests/property/test_policy_layout.py has the rest."""

from __future__ import annotations

import pytest

from policyfs.policy.layout.comments import attach, comments_of
from policyfs.policy.layout.tree import Collection, Entry, read_tree

TEXT = """\
# head

# head too
kind: Policy # beside kind
rules: # beside rules
  # above a
  - id: a # beside a

    # above allow
    allow: [see, # beside see
      read] # beside allow
    description: |  # beside the sign
      text # no comment
    # below a
  # above b
  - id: "b # no comment"
  # below rules
# below all
"""


def entries(node: Collection) -> list[Entry]:
    found = []
    for entry in node.entries:
        found.append(entry)
        if isinstance(entry.value, Collection):
            found += entries(entry.value)
    return found


def test_each_comment_has_its_place():
    top, spans = read_tree(TEXT)
    header = attach(TEXT, top, spans)
    told = {}
    for entry in entries(top):
        name = entry.key.text if entry.key is not None else getattr(entry.value, "text", "item")
        for how in ("leading", "header", "trailing"):
            for comment in getattr(entry, how):
                told[comment.text] = (name, how)
        if isinstance(entry.value, Collection):
            told |= {comment.text: (name, "footer") for comment in entry.value.footer}
    assert [comment.text for comment in header] == ["# head", "# head too"]
    assert [comment.gap for comment in header] == [False, True]
    assert told == {
        "# beside kind": ("kind", "trailing"),
        "# beside rules": ("rules", "header"),
        "# above a": ("item", "leading"),
        "# beside a": ("id", "trailing"),
        "# above allow": ("allow", "leading"),
        "# beside see": ("see", "trailing"),
        "# beside allow": ("allow", "trailing"),
        "# beside the sign": ("description", "header"),
        "# below a": ("item", "footer"),
        "# above b": ("item", "leading"),
        "# below rules": ("rules", "footer"),
    }
    assert [comment.text for comment in top.footer] == ["# below all"]
    assert len(comments_of(TEXT, spans)) == 14


@pytest.mark.parametrize(
    ("text", "gaps"),
    [
        ("a: 1\n\nb: 2\n", [False, True]),
        ("a: 1\n# c\n\nb: 2\n", [False, True]),
        ("a: 1\nb: 2\n", [False, False]),
    ],
)
def test_blank_lines(text: str, gaps: list[bool]):
    top, spans = read_tree(text)
    attach(text, top, spans)
    assert [entry.gap for entry in top.entries] == gaps
