"""Whole files in canonical form, in policy_layouts/: NAME.yaml becomes NAME.out.yaml.

POLICYFS_UPDATE_GOLDEN=1 writes the results anew (and fails, so that they are read).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.policy.layout import canonical as module
from policyfs.policy.layout.canonical import LostCommentError, attach, canonical, comments_of
from policyfs.policy.layout.tree import Collection, Entry, read_tree
from tests.support.machine.documents import CHECKOUT

CASES = Path(__file__).parent / "policy_layouts"
NAMES = [path.stem for path in sorted(CASES.glob("*.yaml")) if ".out" not in path.name]
SHIPPED = sorted((CHECKOUT / "policies").rglob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_files(name: str):
    made = canonical((CASES / f"{name}.yaml").read_bytes().decode())
    expected = CASES / f"{name}.out.yaml"
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        expected.write_text(made, "utf-8")
        pytest.fail(f"{expected} was written: read it, then run without updating")
    assert made == expected.read_text("utf-8")
    assert canonical(made) == made


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_policies_and_tests_are_in_canonical_form(path: Path):
    """If not: policyfs policy fmt FILE."""
    text = path.read_text("utf-8")
    assert canonical(text) == text


def test_a_lost_comment_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "attach", lambda text, top, spans: [])
    with pytest.raises(LostCommentError):
        canonical("kind: Policy # c\n")


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
