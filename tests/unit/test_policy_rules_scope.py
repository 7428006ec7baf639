"""Which answers depend on the caller: no is said only where no rule tells two callers apart."""

from __future__ import annotations

import pytest

from policyfs.policy.decide import Engine
from policyfs.policy.rules.scope import Scope
from tests.support.models.policies import engine_of

ALL = '- {id: all, allow: [all], paths: "/**"}\n'


def scope(engine: Engine) -> Scope:
    return Scope(engine.table, dry_run=False)


def answers(text: str, *paths: str) -> list[tuple[bool, bool]]:
    """For each path: whether the caller matters at it, and below it."""
    engine = engine_of(text)
    made = scope(engine)
    states = [engine.state_of(path.encode()) for path in paths]
    return [(made.caller_matters(state), made.caller_matters_below(state)) for state in states]


@pytest.mark.parametrize(
    "rule",
    [
        '{id: r, deny: [read], who: {app: maps}, paths: "/a/**"}',
        '{id: r, deny: [read], when: {owner: self}, paths: "/a/**"}',
        '{id: r, deny: [read], unless: {owner: self}, paths: "/a/**"}',
        '{id: r, require: {redact: location}, who: {not: {grant: media.location}}, paths: "/a/**"}',
        '{id: r, deny: [read], who: {app: maps}, mode: monitor, paths: "/a/**"}',
    ],
)
def test_a_rule_for_some_callers_matters_where_it_may_match_and_above(rule: str) -> None:
    assert answers(ALL + f"- {rule}\n", "/", "/a", "/a/b", "/a/b/c", "/b", "/b/c") == [
        (False, True), (False, True), (True, True), (True, True), (False, False), (False, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "rule",
    [
        '{id: r, deny: [read], paths: "/a/**"}',
        '{id: r, deny: [read], when: {owner: camera}, paths: "/a/**"}',
        '{id: r, deny: [read], when: {type: "image/*"}, paths: "/a/**"}',
        '{id: r, require: {redact: location}, paths: "/a/**"}',
    ],
)
def test_a_rule_that_is_the_same_for_all_does_not(rule: str) -> None:
    assert set(answers(ALL + f"- {rule}\n", "/", "/a", "/a/b", "/b")) == {(False, False)}


@pytest.mark.parametrize(
    ("rule", "plain"),
    [
        ('{id: r, allow: [all], paths: "/a/**"}', True),
        ('{id: r, allow: [see], who: {app: maps}, paths: "/a/b/**"}', True),
        ('{id: r, deny: [write], paths: "/a/b/**"}', False),
        ('{id: r, allow: [all], when: {owner: self}, paths: "/a/**"}', False),
        ('{id: r, allow: [all], unless: {path: "/a/b"}, paths: "/a/**"}', False),
        ('{id: r, allow: [all], mode: monitor, paths: "/a/b"}', False),
        ('{id: r, require: {redact: location}, paths: "/a/b/c/**"}', False),
        ('{id: r, require: {content: [image/jpeg]}, paths: "/a/*/c"}', False),
        ('{id: r, allow: [all], paths: "/a/{app}/**"}', True),
        ("{id: r, deny: [write]}", False),
        ('{id: r, deny: [write], paths: "/b/**"}', True),
        ('{id: r, deny: [see], paths: "/a"}', False),
    ],
)
def test_only_allows_can_match_below(rule: str, *, plain: bool) -> None:
    engine = engine_of(ALL + f"- {rule}\n")
    assert scope(engine).only_allows_below(engine.state_of(b"/a")) is plain
    assert not Scope(engine.table, dry_run=True).only_allows_below(engine.state_of(b"/a"))


def test_a_rule_without_paths_matters_everywhere() -> None:
    assert set(answers(ALL + "- {id: r, deny: [read], who: {app: maps}}\n", "/a", "/a/b")) == {(True, True)}


def test_a_captured_name_tells_callers_apart_where_it_is_and_not_beside_it() -> None:
    found = answers(ALL + '- {id: r, deny: [read], paths: "/d/{app}/**"}\n', "/d", "/d/maps/x", "/e", "/e/x")
    assert found == [(False, True), (True, True), (False, False), (False, False)]
    found = answers(
        ALL + '- {id: r, deny: [read], paths: "/d/**", unless: {path: "/d/{app}/**"}}\n', "/d/maps/x", "/e"
    )
    assert found[0][0]
    assert found[1] == (False, False)


def test_a_directory_that_some_may_see_bare_matters() -> None:
    """Nothing tells callers apart at /a itself; but who may see something below sees /a, too."""
    found = answers('- {id: r, allow: [see], who: {app: maps}, paths: "/a/b/**"}\n', "/a", "/a/b", "/c")
    assert found == [(True, True), (True, True), (False, False)]
    open_ = '- {id: s, allow: [see], paths: "/***"}\n'
    assert answers(open_ + '- {id: r, allow: [read], who: {app: maps}, paths: "/a/b/**"}\n', "/a") == [
        (False, True)
    ]
    some = open_.replace("paths", "when: {owner: camera}, paths")
    assert answers(some + '- {id: r, allow: [read], who: {app: maps}, paths: "/a/b/**"}\n', "/a") == [
        (True, True)
    ]
    for undone in (
        '- {id: d, deny: [see], when: {owner: camera}, paths: "/a"}\n',
        '- {id: d, deny: [see], when: {type: "image/*"}, paths: "/a"}\n',
    ):
        made = open_ + undone + '- {id: r, allow: [read], who: {app: maps}, paths: "/a/b/**"}\n'
        assert answers(made, "/a") == [(True, True)], undone


def test_below_what_is_hidden_from_some_all_matters() -> None:
    found = answers(ALL + '- {id: r, deny: [see], who: {app: maps}, paths: "/a"}\n', "/a", "/a/b", "/b")
    assert found == [(True, True), (True, True), (False, False)]


def test_under_a_dry_run_strangers_are_told_apart_from_apps() -> None:
    engine = engine_of(ALL, monitor=True)
    made = Scope(engine.table, dry_run=True)
    state = engine.state_of(b"/a")
    assert made.caller_matters(state)
    assert made.caller_matters_below(state)


@pytest.mark.parametrize(
    ("rule", "at", "beside"),
    [
        ('{id: r, deny: [see], paths: "/a/b/**"}', True, False),
        ('{id: r, deny: [see], paths: "/a/b"}', True, False),
        ('{id: r, deny: [read], paths: "/a/b/**"}', False, False),
        ('{id: r, deny: [see], mode: monitor, paths: "/a/b/**"}', False, False),
        ("{id: r, deny: [see], who: {app: maps}}", True, True),
        ('{id: r, deny: [see], when: {type: "image/*"}}', True, True),
        ('{id: r, deny: [see], paths: "/a"}', True, False),
    ],
)
def test_only_an_enforced_deny_of_see_may_hide_names(rule: str, at: bool, beside: bool) -> None:
    engine = engine_of(ALL + f"- {rule}\n")
    made = scope(engine)
    assert made.may_hide_below(engine.state_of(b"/a")) is at
    assert made.may_hide_below(engine.state_of(b"/b")) is beside


@pytest.mark.parametrize(
    ("rule", "matters"),
    [
        ('{id: r, deny: [see], when: {owner: camera}, paths: "/a"}', True),
        ('{id: r, deny: [see], unless: {owner: camera}, paths: "/a"}', True),
        ('{id: r, deny: [see], when: {type: "image/*"}, paths: "/a"}', False),
        ('{id: r, deny: [see], paths: "/a"}', False),
        ('{id: r, deny: [read], when: {owner: camera}, paths: "/a"}', False),
        ('{id: r, deny: [see], when: {owner: camera}, paths: "/b"}', False),
    ],
)
def test_an_owner_above_matters_only_if_a_deny_of_see_asks_for_it(rule: str, matters: bool) -> None:
    engine = engine_of(ALL + f"- {rule}\n")
    assert scope(engine).owner_matters_above(engine.state_of(b"/a/b/c")) is matters


@pytest.mark.parametrize(
    ("rule", "at", "below"),
    [
        ('{id: r, allow: [see], paths: "/***", unless: {path: "/a/b"}}', True, False),
        ('{id: r, allow: [see], paths: "/***", unless: {path: "/a/b*/***"}}', True, False),
        ('{id: r, allow: [see], paths: "/***", unless: {path: "/**/c"}}', True, True),
        ('{id: r, deny: [see], paths: "/***", unless: {path: "/a/b"}}', False, False),
        ('{id: r, allow: [see], paths: "/***", unless: {owner: camera}}', False, False),
        ('{id: r, allow: [see], paths: "/a/{app}/**"}', False, False),
    ],
)
def test_only_an_exception_of_an_allow_excepts_a_child(rule: str, at: bool, below: bool) -> None:
    engine = engine_of(f"- {rule}\n")
    made = scope(engine)
    assert made.may_except_in(engine.state_of(b"/a")) is at
    assert made.may_except_in(engine.state_of(b"/a/x")) is below


@pytest.mark.parametrize(
    ("rule", "captures"),
    [
        ('{id: r, allow: [see], paths: "/a/{app}/**"}', True),
        ('{id: r, allow: [see], paths: "/**/{app}"}', True),
        ('{id: r, allow: [see], paths: "/b/{app}/**"}', False),
        ('{id: r, allow: [see], paths: "/a/**"}', False),
    ],
)
def test_captures_below_a_path_are_found(rule: str, captures: bool) -> None:
    engine = engine_of(ALL + f"- {rule}\n")
    assert scope(engine).may_capture_below(engine.state_of(b"/a")) is captures


@pytest.mark.parametrize(
    ("rule", "matter"),
    [
        ('{id: r, deny: [see], who: {uid: 10}, paths: "/a"}', True),
        ('{id: r, deny: [see], who: {uid: "1-9"}, mode: monitor, paths: "/a"}', True),
        ('{id: r, allow: [see], who: {app: maps, not: {uid: 10}}, paths: "/a"}', True),
        ('{id: r, allow: [see], who: {not: {app: maps, not: {uid: 10}}}, paths: "/a"}', True),
        ('{id: r, allow: [see], who: {app: any, uid: 10}, paths: "/a"}', True),
        ('{id: r, allow: [see], paths: "/a/{uid}"}', True),
        ('{id: r, allow: [see], paths: "/a/*", unless: {path: "/a/{uid}"}}', True),
        ('{id: r, allow: [see], who: {app: gallery, uid: 10}, paths: "/a"}', False),
        ('{id: r, allow: [see], who: {not: {app: gallery, uid: 10}}, paths: "/a"}', False),
        ('{id: r, allow: [see], who: {app: maps}, paths: "/a/{app}", when: {owner: self}}', False),
    ],
)
def test_uids_matter_to_an_app_where_a_rule_can_tell_them_apart(rule: str, matter: bool) -> None:
    assert scope(engine_of(ALL + f"- {rule}\n")).uids_matter("maps") is matter
