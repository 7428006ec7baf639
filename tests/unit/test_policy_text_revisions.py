"""Of a new text only the changed rules are parsed (any change: tests/property/test_policy_revisions.py)."""

from __future__ import annotations

import pytest

from policyfs.policy.errors import PolicyErrors
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.policy.text.revisions import Revisions
from tests.bench.big_policy import big_policy

HEAD = b"apiVersion: policyfs/v1\nkind: Policy\napps: {a: {uid: 1}}\n"


def test_files_of_a_directory_are_cut_each():
    head = "apiVersion: policyfs/v1\nkind: Policy\n"
    first = head + "apps:\n  a: {uid: 1}\nrules:\n  - id: one\n    allow: [see]\n    who: {app: a}\n"
    second = head + "rules:\n  - id: two\n    allow: [see]\n  - id: three\n    deny: [write]\n"
    revisions = Revisions()
    for text in (second, second.replace("deny", "allow"), second.replace("three", "one"), second):
        sources = [SourceText("a", first.encode()), SourceText("b", text.encode())]
        try:
            expected: object = parse_policy(sources)
        except PolicyErrors as errors:
            expected = str(errors)
        try:
            found: object = revisions.parse(sources)
        except PolicyErrors as errors:
            found = str(errors)
        assert found == expected


def test_only_a_changed_rule_is_parsed():
    revisions = Revisions()
    text = big_policy(200)
    revisions.parse([SourceText("x", text)])
    assert revisions.rules_parsed == 200
    changed_one = text.replace(b"/Users/u100/**", b"/Users/v100/**")
    policy = revisions.parse([SourceText("x", changed_one)])
    assert revisions.rules_parsed == 1
    assert policy == parse_policy([SourceText("x", changed_one)])


@pytest.mark.parametrize(
    "rules",
    [
        b"rules: [{id: one, allow: [see]}]\n",
        b"rules:\n  - id: one\n    allow: [see]\nsets: {s: [image/png]}\n",
        b"rules:\n  -\n    id: one\n    allow: [see]\n",
        b"rules:\n  - &x\n    id: one\n    allow: [see]\n",
        b"rules:\n  - id: one\n    allow: [see]\n    description: 'more\n  - than one line'\n",
    ],
)
def test_a_text_that_cannot_be_cut_is_parsed_as_a_whole(rules):
    revisions = Revisions()
    for name in (b"one", b"two"):
        text = HEAD + rules.replace(b"one,", name + b",").replace(b"one\n", name + b"\n")
        assert revisions.parse([SourceText("x", text)]) == parse_policy([SourceText("x", text)])
        assert revisions._known == {}


def test_a_changed_head_changes_every_rule():
    revisions = Revisions()
    text = big_policy(20)
    revisions.parse([SourceText("x", text)])
    with pytest.raises(PolicyErrors) as caught:
        revisions.parse([SourceText("x", text.replace(b"[media.read, media.location]", b"[media.read]"))])
    assert "no app holds the grant" in str(caught.value)
