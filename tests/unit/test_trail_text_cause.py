"""Causes of denials, and what would have to change."""

from __future__ import annotations

import errno

import pytest

from policyfs.trail.lines.event import Event
from policyfs.trail.text.cause import RuleFact, cause_of, grounds, remedy_of
from tests.support.mount.trail import a_denial, an_event

FACTS = {
    "no-private": RuleFact("deny", "home.yaml:7", lambda app, uid: "write this"),
    "no-location": RuleFact("redact", "home.yaml:9"),
    "types": RuleFact("content", "home.yaml:11", lambda app, uid: "write that"),
}
UNABLE = "requires content that a file of kind image/x-dwg cannot have"


def lookup(_digest: str, rule: str) -> RuleFact | None:
    return FACTS.get(rule)


@pytest.mark.parametrize(
    ("event", "cause", "remedy"),
    [
        (an_event(), "", ""),
        (
            a_denial(),
            "rule",
            "rule no-private (home.yaml:7) denies the request; to exempt app gallery, write this",
        ),
        (
            a_denial()._replace(rules=()),
            "no rule",
            "no rule allows the request: add an `allow` for app gallery",
        ),
        (
            a_denial(app="stranger", uid=7)._replace(rules=()),
            "no rule",
            "no rule allows the request: add an `allow` for uid 7",
        ),
        (
            a_denial(kind="image/x-dwg", note="no locator for it")._replace(rules=("no-location",)),
            "content",
            f"rule no-location (home.yaml:9) {UNABLE}: no locator for it",
        ),
        (
            a_denial()._replace(rules=("types",)),
            "content",
            (
                "rule types (home.yaml:11) requires content that this file cannot have; to exempt app"
                " gallery, write that"
            ),
        ),
        (
            a_denial(operation="rename", new_path=b"/x", note="exempt it")._replace(rules=("no-location",)),
            "rule",
            "rule no-location (home.yaml:9) denies the request",
        ),
        (
            a_denial(operation="mknod", note="only regular files")._replace(rules=(), errno=errno.EPERM),
            "mount",
            "the mount itself refuses the request, and an `allow` changes nothing: only regular files",
        ),
        (a_denial()._replace(errno=errno.EBUSY), "resource", "a resource was missing, not a permission"),
        (
            a_denial()._replace(rules=("unknown",)),
            "rule",
            "rule unknown denies the request",
        ),
    ],
)
def test_causes(event: Event, cause: str, remedy: str) -> None:
    assert cause_of(event, lookup) == cause
    assert remedy_of(event, lookup) == remedy


def test_grounds_have_the_rules_lines() -> None:
    assert grounds(a_denial(), lookup) == ["no-private (home.yaml:7)"]
    assert grounds(a_denial()) == ["no-private"]
    assert grounds(a_denial()._replace(rules=()), lookup) == ["no rule allows the request"]
    assert grounds(an_event(), lookup) == ["gallery-sees"]
