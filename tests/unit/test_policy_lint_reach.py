"""Rules that never match, and allows that never give anything."""

from __future__ import annotations

import pytest

from policyfs.policy.analysis.subjects import groups
from policyfs.policy.lint.places import Places
from policyfs.policy.lint.reach import reach
from tests.support.models.whole_policies import compiled

LOOK = "- {id: look, allow: [see], who: {app: any}, paths: '/**'}\n"
HIDES = "id: d, deny: [see], paths: /a/b"
DEEP = "id: s, allow: [see], who: {app: stranger}, paths: /a/b/c"


def found(*rules: str) -> dict[str, str]:
    policy = compiled(LOOK + "".join(f"- {{{rule}}}\n" for rule in rules))
    made = reach(Places(policy), groups([policy]))
    return {one.subject.removeprefix("rule "): f"{one.id}: {one.message}" for one in made}


@pytest.mark.parametrize(
    ("rules", "want"),
    [
        (["id: r, allow: [read], who: {app: camera}, paths: '/a/**'"], None),
        (["id: r, deny: [read], paths: '/a', when: {path: '/b'}"], "never-matches: no request"),
        (["id: r, deny: [read], paths: '/a/*', unless: {path: '/*/*'}"], "never-matches: no request"),
        (["id: r, deny: [read], paths: '/a/**', unless: {path: '/*/*'}"], None),
        (["id: r, allow: [read], who: {app: stranger}, paths: '/{app}'"], "never-matches: no request"),
        (["id: r, allow: [read], who: {app: maps, not: {grant: media.location}}"], 'never-matches: "who"'),
        (["id: r, allow: [read], who: {app: stranger}, paths: '/a'"], "unseen: this allow never"),
        (
            ["id: r, allow: [read, write], paths: '/a/**', who: {app: maps}", "id: d, deny: [write]"],
            ("covered-by-deny: write never takes effect: wherever the rule matches, the request is denied by"
            " d"),
        ),
        (
            ["id: r, allow: [write], paths: '/a/**', who: {app: maps}", "id: d, deny: [see], paths: /a"],
            "covered-by-deny: this allow never takes effect",
        ),
        (["id: r, allow: [write], paths: '/a/**'", "id: d, deny: [write], paths: '/a/*'"], None),
        (["id: r, allow: [write], when: {owner: self}", "id: d, deny: [write], when: {owner: maps}"], None),
        (["id: r, allow: [write], paths: /a, mode: monitor", "id: d, deny: [write]"], None),
        (["id: r, allow: [attr], who: {app: stranger}, paths: '/'"], None),
        (["id: r, allow: [delete], who: {app: stranger}, paths: /a", DEEP], None),
        (["id: r, allow: [read], who: {app: stranger}, paths: /a", DEEP], "unseen: this allow never"),
        (
            ["id: r, allow: [delete], who: {app: stranger}, paths: /a", DEEP, HIDES],
            "unseen: this allow never",
        ),
    ],
)
def test_rules(rules, want):
    said = found(*rules).get("r")
    assert said is None if want is None else said is not None and said.startswith(want), said
