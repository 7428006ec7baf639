"""Invariants: what holds loads, what does not is refused with a request."""

from __future__ import annotations

import pytest

from policyfs.policy.analysis import walk
from policyfs.policy.analysis.invariants import breaches, load_policy, prove
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.text.parse import SourceText
from tests.support.models.policies import APPS, HEAD

READ = '{id: read, allow: [see, read], who: {app: any}, paths: "/DCIM/**"}'
OWN = '{id: own, allow: [all], who: {app: camera}, paths: "/DCIM/**", when: {owner: self}}'
HIDE = "{id: hide, require: {redact: %s}, who: {not: {grant: media.location}}}"


def text_of(invariant: str, *rules: str) -> SourceText:
    lines = "".join(f"  - {rule}\n" for rule in rules)
    return SourceText("p.yaml", f"{HEAD}{APPS}rules:\n{lines}invariants:\n  - {invariant}\n".encode())


def told(invariant: str, *rules: str) -> str:
    """The first line of the refusal; empty if the policy loads."""
    try:
        load_policy([text_of(invariant, *rules)])
    except PolicyErrors as errors:
        (error,) = errors.errors
        return error.message
    return ""


@pytest.mark.parametrize(
    ("invariant", "rules", "counterexample"),
    [
        ("{id: i, never: [write], who: {app: gallery}}", [READ, OWN], ""),
        ("{id: i, never: [write]}", [READ, OWN], "camera may write /DCIM/x (of camera) by own"),
        ("{id: i, never: [write], unless: {owner: self}}", [READ, OWN], ""),
        ("{id: i, only: [delete], who: {app: camera}}", [READ, OWN], ""),
        ("{id: i, only: [read], who: {app: camera}}", [READ], "gallery may read /DCIM/x by read"),
        ("{id: i, only: [read], who: {grant: media.location}}", [READ], "camera may read /DCIM/x by read"),
        ("{id: i, never: [see], paths: '/DCIM'}", [READ], "camera may see /DCIM (directory)"),
        ("{id: i, never: [all], who: {app: stranger}, paths: '/**'}", [READ, OWN], ""),
        ("{id: i, never_raw: location, who: {app: gallery}}", [READ, HIDE % "location"], ""),
        ("{id: i, never_raw: location, who: {app: gallery}}", [READ, HIDE % "all-metadata"], ""),
        (
            "{id: i, never_raw: location}",
            [READ, HIDE % "location"],
            "maps may read /DCIM/x by read, with unchanged bytes",
        ),
        (
            "{id: i, never_raw: [location, time], who: {app: gallery}}",
            [READ, HIDE % "location"],
            "gallery may read /DCIM/x by read, with only location removed",
        ),
    ],
)
def test_what_holds(invariant, rules, counterexample):
    found = told(invariant, *rules)
    if counterexample:
        assert found.startswith(f'invariant "i" does not hold: {counterexample}')
    else:
        assert found == ""


def test_unknown_facts_count():
    """A file whose kind nobody knows may be of the kind that the invariant is about."""
    rule = '{id: r, deny: [read], paths: "/DCIM/*", when: {type: video/*}}'
    invariant = "{id: i, never: [read], paths: '/DCIM/*', when: {type: video/*}}"
    assert told(invariant, READ, rule) == ""
    rule = '{id: r, allow: [see, read], paths: "/x", unless: {type: video/*}}'
    assert told("{id: i, never: [read], paths: '/x', when: {type: video/*}}", rule) == ""


def test_a_directory_above_may_hide_all():
    hide = '{id: hide, deny: [see], paths: "/DCIM/private", when: {owner: camera}}'
    invariant = "{id: i, never: [read], who: {app: maps}, paths: '/DCIM/private/**'}"
    assert "maps may read /DCIM/private/x" in told(invariant, READ, hide)
    always = '{id: hide, deny: [see], paths: "/DCIM/private"}'
    assert told(invariant, READ, always) == ""


def test_each_broken_invariant_is_told_at_its_place():
    text = text_of("{id: a, never: [see]}\n  - {id: b, never: [read]}", READ)
    with pytest.raises(PolicyErrors) as caught:
        load_policy([text])
    lines = text.text.decode().splitlines()
    for error in caught.value.errors:
        assert error.line == lines[error.where.line - 1]
        assert "policyfs policy explain p.yaml /" in error.help
    assert len(caught.value.errors) == 2


def test_invariants_change_no_answer():
    engine = load_policy([text_of("{id: a, never: [write]}", READ)])
    assert [rule.id for rule in engine.policy.rules] == ["read"]
    assert breaches(engine.policy) == []


def test_what_cannot_be_proved_is_refused(monkeypatch):
    monkeypatch.setattr(walk.Walk.__init__, "__defaults__", (1,))
    monkeypatch.setattr(walk, "MAX_PLACES", 1)
    with pytest.raises(PolicyErrors, match="cannot be proved"):
        load_policy([text_of("{id: a, never: [write], paths: '/DCIM/b/c'}", OWN)])
    assert prove.__doc__
