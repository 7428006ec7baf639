"""Bare directories: whether something below could be seen, by patterns alone."""

from __future__ import annotations

import pytest

from policyfs.policy.globs.automaton import MAX_BOUND
from policyfs.policy.rules import visibility
from policyfs.policy.rules.visibility import Sight
from tests.support.models.policies import Asked


def below(rules: str, path: str, who: str | int = "gallery") -> bool:
    asked = Asked(rules)
    engine = asked.engine
    sight = Sight(engine.table, 100)
    return sight.below(engine.state_of(path.encode()).position, engine.caller(asked.who(who)))


@pytest.mark.parametrize(
    ("rules", "seen", "not_seen"),
    [
        ("allow: [see], paths: /a/b/c", ["/", "/a", "/a/b"], ["/a/b/c", "/b", "/a/c"]),
        ('allow: [see], paths: "/a/**"', ["/", "/a", "/a/b", "/a/b/c"], ["/b"]),
        ('allow: [see], paths: "/a/*/c"', ["/a", "/a/x"], ["/a/x/c", "/a/x/y"]),
        ('allow: [see], paths: "/a/x*/*.jpg"', ["/a", "/a/xy"], ["/a/y", "/a/xy/b.jpg"]),
        ('allow: [see], paths: "/**/*.jpg"', ["/", "/a/b/c"], []),
        ('allow: [see], paths: "/{app}/x"', ["/", "/gallery"], ["/maps"]),
        ('allow: [see], paths: "/A/b", ignore_case: true', ["/", "/a", "/A"], ["/b"]),
        ("allow: [see]", ["/", "/a/b/c"], []),
        ("allow: [read]", [], ["/", "/a"]),
        ("deny: [see]", [], ["/", "/a"]),
        ("allow: [see], mode: monitor", [], ["/"]),
        ("allow: [see], who: {app: maps}", [], ["/"]),
        ("allow: [see], who: {app: gallery}, paths: /a/b", ["/a"], ["/b"]),
        ("allow: [see], paths: /a/b, when: {owner: self}", ["/a"], ["/b"]),
        ("allow: [see], paths: /a/b, unless: {path: /a/b}", [], ["/a"]),
    ],
)
def test_an_allow_of_see_leads_to_what_is_below(rules: str, seen: list[str], not_seen: list[str]) -> None:
    assert [path for path in seen + not_seen if below(f"- {{id: r, {rules}}}\n", path)] == seen


@pytest.mark.parametrize(
    ("deny", "still"),
    [
        ("deny: [see], paths: /a/b", False),
        ("deny: [all], paths: /a/b", False),
        ('deny: [see], paths: "/a/*"', False),
        ("deny: [see]", False),
        ("deny: [read], paths: /a/b", True),
        ("deny: [see], paths: /a/b, when: {owner: camera}", True),
        ("deny: [see], paths: /a/b, when: {type: image/png}", True),
        ("deny: [see], paths: /a/b, mode: monitor", True),
        ("deny: [see], paths: /a/b, who: {app: maps}", True),
        ("deny: [see], paths: /a/c", True),
    ],
)
def test_an_enforced_deny_under_all_facts_takes_it_away(deny: str, still: bool) -> None:
    rules = f"- {{id: r, allow: [see], paths: /a/b}}\n- {{id: d, {deny}}}\n"
    assert below(rules, "/a") is still


@pytest.mark.parametrize(
    ("deny", "still"),
    [
        ("deny: [see], paths: /a/b", False),
        ("deny: [see], paths: /a/b/c", False),
        ("deny: [see], paths: /a/b, unless: {owner: camera}", True),
        ("deny: [see], paths: /a/b, when: {type: image/png}", True),
        ("deny: [see], paths: /a/b, mode: monitor", True),
        ("deny: [read], paths: /a/b", True),
        ("deny: [see], paths: /a/b, who: {app: maps}", True),
        ("deny: [see], paths: /a", True),  # is asked before
    ],
)
@pytest.mark.parametrize("allowed", ["/a/b/c/d", "/a/b/c/*", "/a/?/c/**"])
def test_a_hidden_directory_leads_nowhere(allowed: str, deny: str, still: bool) -> None:
    rules = f'- {{id: r, allow: [see], paths: "{allowed}"}}\n- {{id: d, {deny}}}\n'
    assert below(rules, "/a") is (still or (allowed == "/a/?/c/**" and "/a/b" in deny))
    none = 'deny: [see], paths: "/a/**", when: {type: inode/directory}'
    assert not below(f"{rules}- {{id: e, {none}}}", "/a")


@pytest.mark.parametrize(
    ("allow", "deny", "still"),
    [
        ("type: image/png", "type: image/*", False),
        ("type: image/*", "type: image/png", True),
        ("owner: camera", "owner: [camera, maps]", False),
        ("owner: camera, type: image/png", "owner: camera", False),
        ("owner: camera", "owner: camera, type: image/png", True),
    ],
)
def test_the_same_file_must_be_allowed_and_not_denied(allow: str, deny: str, still: bool) -> None:
    rules = f"""\
- {{id: r, allow: [see], paths: /a/b, when: {{{allow}}}}}
- {{id: d, deny: [see], paths: /a/b, when: {{{deny}}}}}
"""
    assert below(rules, "/a") is still


def test_paths_that_globs_do_not_spell_out_are_found_by_exploring() -> None:
    """What the allow spells first is denied; a name of another form is not."""
    rules = """\
- {id: r, allow: [see], paths: "/a/*"}
- {id: d, deny: [see], paths: "/a/?"}
"""
    assert below(rules, "/a")
    assert not below(rules + '- {id: e, deny: [see], paths: "/a/??*"}\n', "/a")


def test_beyond_the_bound_a_directory_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = """\
- {id: r, allow: [see], paths: "/a/*/*/*"}
- {id: d, deny: [see], paths: "/a/?/**"}
"""
    assert below(rules, "/a")
    monkeypatch.setattr(visibility, "MAX_POSITIONS", 0)
    monkeypatch.setattr(visibility, "_MAX_TRIES", 0)
    assert not below(rules, "/a")


def test_an_answer_is_remembered_for_all_who_are_alike() -> None:
    asked = Asked('- {id: r, allow: [see], paths: "/a/b"}\n')
    engine = asked.engine
    sight = Sight(engine.table, 100)
    position = engine.state_of(b"/a").position
    looked: list[object] = []
    look = sight._look
    sight._look = lambda *asked: looked.append(asked) or look(*asked)  # type: ignore[method-assign]
    assert sight.below(position, engine.caller(asked.who("gallery")))
    assert sight.below(position, engine.caller(asked.who("gallery")))
    assert len(looked) == 1
    sight.below(position, engine.caller(asked.who("stranger")))
    assert len(looked) == 2


def test_nothing_below_a_lost_path_can_be_seen() -> None:
    rules = '- {id: r, allow: [see], paths: "/***"}\n- {id: s, allow: [see], paths: "/**/{uid}/**"}\n'
    paths = ["".join(f"/{number}" for number in range(depth)) for depth in (2, MAX_BOUND + 2)]
    assert [below(rules, path) for path in paths] == [True, False]
