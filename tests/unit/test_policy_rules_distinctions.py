"""Answers that differ between the callers of a shared mount: what is seen, and a file's node."""

from __future__ import annotations

import pytest

from policyfs.policy.decide import compile_policy
from policyfs.policy.rules.distinctions import MAX_COMPARED, MAX_LED
from policyfs.policy.text.parse import SourceText, parse_policy

EVERY_UID = '["0-2099999999", "2100065536-4294967294"]'
OPEN = '{id: all, allow: [see, read], paths: "/***"}'


def differ(rules: list[str], path: str, apps: str = "camera: {uid: 1}, maps: {uid: 2}") -> tuple[bool, ...]:
    """Whether callers differ in what they see at a path, in a file's node there, and in what is below."""
    lines = ["apiVersion: policyfs/v1", "kind: Policy", "metadata: {name: d}", f"apps: {{{apps}}}", "rules:"]
    text = "\n".join([*lines, *(f"  - {rule}" for rule in rules)]).encode()
    engine = compile_policy(parse_policy([SourceText("d.yaml", text)]))
    state, found = engine.state_of(path.encode()), engine.distinctions
    return found.sight(state), found.node(state), found.below(state)


@pytest.mark.parametrize(
    "rule",
    [
        '{id: r, deny: [read], who: {app: maps}, paths: "/a/**"}',
        '{id: r, allow: [write, create, delete], who: {app: maps}, paths: "/a/**"}',
        '{id: r, allow: [see, read, write], who: {app: maps}, paths: "/a/**"}',
        '{id: r, allow: [see, write], when: {owner: self}, paths: "/a/**"}',
        '{id: r, deny: [write], unless: {owner: self}, paths: "/a/**"}',
        '{id: r, deny: [see], who: {app: maps}, mode: monitor, paths: "/a/**"}',
        '{id: r, allow: [see, write], paths: "/a/{app}/**"}',
        '{id: r, deny: [see], who: {app: gone}, paths: "/a/**"}',
    ],
)
def test_rules_that_change_nothing_seen_make_no_difference(rule: str) -> None:
    apps = "camera: {uid: 1}, maps: {uid: 2}, gone: {}"
    for path in ("/a", "/a/b", "/b"):
        assert differ([OPEN, rule], path, apps) == (False, False, False)


@pytest.mark.parametrize(
    "rule",
    [
        '{id: r, deny: [see], who: {app: maps}, paths: "/a/**"}',
        '{id: r, deny: [all], unless: {owner: self}, paths: "/a/**"}',
        '{id: r, deny: [see], paths: "/a/{app}"}',
        '{id: r, deny: [see], paths: "/a/**", unless: {path: "/a/{app}/***"}}',
        '{id: r, deny: [see], who: {uid: "5-9"}, paths: "/a/**"}',
    ],
)
def test_a_rule_that_hides_from_some_makes_one(rule: str) -> None:
    assert differ([OPEN, rule], "/a") == (False, False, True)
    assert differ([OPEN, rule], "/a/maps/x")[:2] == (True, True)
    assert differ([OPEN, rule], "/b") == (False, False, False)


@pytest.mark.parametrize(
    "rule",
    [
        '{id: r, deny: [see], when: {type: text/*}, paths: "/a/**"}',
        '{id: r, deny: [all], unless: {type: [image/*, inode/directory]}, paths: "/a/**"}',
    ],
)
def test_a_rule_by_kind_makes_one_since_each_caller_s_workers_find_it(rule: str) -> None:
    assert differ([OPEN, rule], "/a") == (False, False, True)
    assert differ([OPEN, rule], "/a/b")[:2] == (True, True)
    assert differ([OPEN, rule], "/b") == (False, False, False)
    one = f"maps: {{uid: {EVERY_UID}}}"
    assert differ([OPEN, rule], "/a/b", one) == (False, False, False)
    by_uid = '{id: u, deny: [write], who: {uid: 7}, paths: "/b"}'  # so each uid has its own workers
    assert differ([OPEN, rule, by_uid], "/a/b", one)[:2] == (True, True)


@pytest.mark.parametrize(
    "rule",
    [
        '{id: r, deny: [see], when: {type: inode/symlink}, paths: "/a/**"}',
        '{id: r, deny: [read], when: {type: text/*}, paths: "/a/**"}',
        '{id: r, allow: [see], when: {type: text/*}, paths: "/a/**"}',
    ],
)
def test_a_rule_by_a_kind_that_no_worker_finds_or_that_shows_nothing_more_makes_none(rule: str) -> None:
    for path in ("/a", "/a/b"):
        assert differ([OPEN, rule], path) == (False, False, False)


def test_strangers_are_callers_too() -> None:
    rule = '{id: r, allow: [see], who: {app: any}, paths: "/***"}'
    assert differ([rule], "/a") == (True, True, True)


def test_an_app_with_every_uid_is_the_only_caller() -> None:
    everyone = f"camera: {{uid: {EVERY_UID}, gid: 1}}, gone: {{}}"
    rules = [
        '{id: r, allow: [all], who: {app: camera}, paths: "/**"}',
        '{id: o, deny: [see], unless: {owner: self}, paths: "/own/**"}',
        '{id: c, deny: [see], paths: "/c/**", unless: {path: "/c/{app}/**"}}',
    ]
    for path in ("/a", "/own/x", "/c/camera"):
        assert differ(rules, path, everyone) == (False, False, False)
    by_uid = '{id: u, deny: [see], paths: "/u/{uid}"}'
    assert differ([*rules, by_uid], "/u/5", everyone)[0]
    assert differ([*rules, by_uid], "/u", everyone)[2]
    assert differ(rules[:1], "/a", 'camera: {uid: "0-2099999999", gid: 1}') == (True, True, True)


def test_apps_with_all_uids_between_them_are_compared() -> None:
    both = 'one: {uid: "0-2099999999", gid: 1}, two: {uid: "2100065536-4294967294", gid: 2}'
    rules = [
        '{id: a, allow: [see], who: {app: one}, paths: "/a/***"}',
        '{id: b, allow: [see], who: {app: two}, paths: "/a/***"}',
    ]
    assert differ(rules, "/a", both)[:2] == (False, False)
    assert differ(rules[:1], "/a", both)[:2] == (True, True)
    assert differ([rules[0].replace("one", "[one, two]")], "/a", both) == (False, False, False)


def test_a_bare_directory_differs_if_only_some_have_a_way_through_it() -> None:
    rule = '{id: r, allow: [see], who: {app: maps}, paths: "/a/b/**"}'
    assert differ([rule], "/a") == (True, True, True)
    assert differ([rule], "/c") == (False, False, False)
    own = '{id: r, allow: [see], paths: "/a/{uid}/**"}'
    assert differ([own], "/a")[0]


def test_below_a_directory_that_is_hidden_from_some_all_differs() -> None:
    hidden = '{id: r, deny: [see], who: {app: maps}, paths: "/a"}'
    assert differ([OPEN, hidden], "/a") == (True, True, True)
    assert differ([OPEN, hidden], "/a/b/c") == (True, True, True)


@pytest.mark.parametrize(
    ("rules", "node"),
    [
        (['{id: q, require: {redact: [location]}, who: {app: maps}, paths: "/a/**"}'], True),
        (['{id: q, require: {redact: [location]}, paths: "/a/**"}'], False),
        (['{id: q, require: {content: ["image/*"]}, paths: "/a/**"}'], False),
        (
            [
                '{id: q, require: {content: ["image/*"]}, paths: "/a/**"}',
                '{id: w, allow: [write], who: {app: maps}, paths: "/a/**"}',
            ],
            True,
        ),
        (
            [
                '{id: q, require: {redact: [location]}, paths: "/a/**"}',
                '{id: w, allow: [attr], who: {app: maps}, paths: "/a/**"}',
            ],
            False,
        ),
        (
            [
                '{id: q, require: {redact: [location]}, paths: "/a/**"}',
                '{id: w, deny: [read], who: {app: maps}, when: {type: "image/png"}, paths: "/a/**"}',
            ],
            True,
        ),
    ],
)
def test_a_files_name_leads_to_different_nodes_if_views_differ(rules: list[str], node: bool) -> None:
    assert differ([OPEN, *rules], "/a/b") == (False, node, False)


def test_the_root_is_seen_by_all() -> None:
    assert differ(['{id: r, allow: [see], who: {app: maps}, paths: "/***"}'], "/") == (False, False, True)


def test_too_many_sorts_of_callers_count_as_different() -> None:
    apps = ", ".join(f"a{n}: {{uid: {n}}}" for n in range(MAX_COMPARED))
    rule = '{id: r, allow: [see], who: {app: any}, paths: "/b/**"}'
    again = '{id: s, allow: [see], who: {app: stranger}, paths: "/b/**"}'
    assert differ([rule, again], "/b/x", apps)[0]
    assert not differ([rule, again], "/b/x")[0]


def test_a_search_below_for_too_many_callers_counts_as_different() -> None:
    """Nobody is told apart at /a: whoever may see something below it sees it."""
    apps = ", ".join(f"a{n}: {{uid: {n}}}" for n in range(MAX_LED))
    rules = [f'{{id: r{n}, allow: [see], who: {{app: a{n}}}, paths: "/a/b/**"}}' for n in range(MAX_LED)]
    rules.append('{id: s, allow: [see], who: {app: stranger}, paths: "/a/b/**"}')
    assert differ(rules, "/a", apps)[0]
    assert not differ([*rules[:2], rules[-1]], "/a", "a0: {uid: 0}, a1: {uid: 1}")[0]


def test_rules_that_make_the_difference_have_names() -> None:
    lines = "apiVersion: policyfs/v1\nkind: Policy\nmetadata: {name: d}\napps: {maps: {uid: 2}}\nrules:\n"
    hide = '{id: hide, deny: [see], who: {app: maps}, paths: "/a/b"}'
    write = '{id: write, allow: [write], who: {app: maps}, paths: "/**"}'
    text = lines + "".join(f"  - {rule}\n" for rule in (OPEN, hide, write))
    engine = compile_policy(parse_policy([SourceText("d.yaml", text.encode())]))
    found = engine.distinctions
    assert found.rules_at(engine.state_of(b"/a/b")) == ("hide",)
    assert found.rules_at(engine.state_of(b"/a/b/c")) == ("hide",)
    assert found.rules_below(engine.root) == ("hide",)
    assert found.rules_below(engine.state_of(b"/c")) == ()
