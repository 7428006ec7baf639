"""`policy fmt`: comments at every place stay, the meaning stays, and a second time changes nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.policy.analysis.diff import diff
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.layout.canonical import canonical
from policyfs.policy.layout.meaning import meaning
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.property.test_policy_diff import share
from tests.property.test_policy_engine import CASES, PARTS
from tests.support.machine.documents import CHECKOUT

pytestmark = pytest.mark.timeout(max(600, CASES // 10))

STRANGE = """\
---
kind: Policy
"apiVersion": 'policyfs/v1'
apps: {camera: {grants: [g, "h"], uid: 10010}, gallery: {uid: ["10100-10199", 7],
    description: "it's: a # gallery"}, a-b: {uid:
      12}}
rules:
- paths: [
    "/DCIM/**",
    '/a\\*b/**'
  ]
  id: first
  allow: [see, read]
-   who: {app: [camera, gallery]}
    id: second
    when:
        owner:
            - self
            - none
    deny:
    - write
    - create
    description: >-
      folded text
      on two lines

    errno: EPERM
-
  id: third
  unless:
  - path: &p ["/x/**", "/{a,b}/*"]
    type: image/*
  - {path: *p}
  require: {redact: [location,
    device]}
  description: |
    several lines

      with # no comment
- id: fourth
  description: plain text
    over two lines
  allow: all
  who:
    not: {app: any,
          }
sets:
  photos: [image/jpeg, image/*]
path_sets: {one: "/One/***"}
exceptions:
- {reason: "a, b", approved-by: Ann, until: 2030-01-31T18:00:00Z, id: party, allow: [see],
   who: {app: gallery}, paths: "/DCIM/**"}
...
"""
TESTS = """\
kind: PolicyTests
apiVersion: policyfs/v1
tests:
- expect: {errno: EACCES, decision: deny}
  path: [/DCIM/a.jpg, "/with space/b", '/c: d']
  operation: read
  id: a
  app: camera
- {id: b, app: stranger, operation: [see], path: /x, expect: {decision: deny}, description: "why, so"}
"""
BASES = [
    STRANGE,
    STRANGE.replace("\n", "\r\n"),
    STRANGE.replace("&p ", "").replace("*p", '"/y"'),
    TESTS,
    *(path.read_text("utf-8") for path in sorted((CHECKOUT / "policies").glob("*.yaml"))),
    *(path.read_text("utf-8") for path in sorted((CHECKOUT / "policies/tests").glob("*.yaml"))),
]


@st.composite
def commented(draw: st.DrawFn) -> str:
    """A file with comments and blank lines at any places."""
    lines = draw(st.sampled_from(BASES)).splitlines(keepends=True)
    places = st.tuples(st.integers(0, len(lines)), st.integers(0, 3), st.integers(0, 9))
    for number, (at, how, indent) in enumerate(draw(st.lists(places, max_size=8))):
        mark = f"#c{number}c"
        if how == 0:
            lines.insert(at, "\n")
        elif how == 1 and at < len(lines):
            bare = lines[at].rstrip("\r\n")
            lines[at] = f"{bare} {mark}{lines[at][len(bare) :]}"
        else:
            lines.insert(at, f"{' ' * indent}{mark}\n")
    return "".join(lines)


def meant(text: str) -> object:
    return meaning([SourceText("case.yaml", text.encode())], prove=False)


@pytest.mark.parametrize("part", range(PARTS))
@share(0.04 / PARTS)
@given(commented())
def test_comments_and_meaning_stay(part, text):
    del part
    try:
        before = meant(text)
    except PolicyErrors:
        return  # in quotes or in a block, and so no comment
    made = canonical(text)
    assert meant(made) == before
    assert sorted(re.findall("#c[0-9]c", made)) == sorted(re.findall("#c[0-9]c", text))
    assert canonical(made) == made


@pytest.mark.parametrize("text", [text for text in BASES if "kind: Policy\n" in text])
def test_no_access_changes(text):
    policies = [
        parse_policy([SourceText("case.yaml", one.encode())]) for one in (text, canonical(text))
    ]  # fmt: skip
    found = diff(*policies)
    assert not found.blocks
    assert not found.notes
