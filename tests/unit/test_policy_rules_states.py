"""Path states: interned, and the rules that hide what is below."""

from __future__ import annotations

from policyfs.policy.rules import states
from policyfs.policy.rules.states import Paths
from policyfs.policy.rules.table import Table
from tests.support.models.policies import engine_of

RULES = """\
- {id: all, allow: [all]}
- {id: hide, deny: [see], paths: ["/secret", "/**/{app}"]}
- {id: try, deny: [see], paths: "/tried", mode: monitor}
- {id: own, deny: [see], paths: "/owned", when: {owner: none}}
"""


def paths_of(rules: str = RULES, remembered: int = 1000) -> tuple[Table, Paths]:
    table = Table(engine_of(rules).policy, remembered)
    return table, Paths(table, remembered)


def hiding(table: Table, paths: Paths, path: bytes) -> set[str]:
    return {table.rules[one.rule].id for one in paths.state_of(path).hides}


def test_a_path_is_hidden_by_what_hides_a_directory_above():
    table, paths = paths_of()
    assert hiding(table, paths, b"/secret") == set()
    assert hiding(table, paths, b"/secret/a") == {"hide"}
    assert hiding(table, paths, b"/secret/a/b/c") == {"hide"}
    assert hiding(table, paths, b"/other/a") == set()
    assert hiding(table, paths, b"/tried/a") == set()
    assert hiding(table, paths, b"/owned/a") == {"own"}
    assert hiding(table, paths, b"/x/camera/a") == {"hide"}


def test_equal_states_are_one_object():
    _, paths = paths_of()
    assert paths.state_of(b"/a/b") is paths.state_of(b"/a/c")
    assert paths.state_of(b"//a//b/") is paths.state_of(b"/a/b")
    assert paths.state_of(b"/") is paths.root
    assert paths.state_of(b"") is paths.root
    assert paths.root.top
    assert not paths.state_of(b"/a").top


def test_a_child_is_remembered_as_told():
    _, paths = paths_of()
    assert paths.known(paths.root, b"secret") is None
    child = paths.child(paths.root, b"secret")
    assert paths.known(paths.root, b"secret") is child
    other = paths.state_of(b"/x")
    paths.remember(paths.root, b"alias", other)
    assert paths.child(paths.root, b"alias") is other
    paths.step(paths.root, "stepped")
    assert paths.known(paths.root, b"stepped") is None


def test_what_is_remembered_is_bounded():
    _, paths = paths_of(remembered=10)
    for number in range(100):
        paths.child(paths.root, b"n%d" % number)
    assert sum(paths.known(paths.root, b"n%d" % number) is not None for number in range(100)) <= 10
    paths.child(paths.root, b"x" * 320)  # takes more room than ten short names
    assert paths.known(paths.root, b"n99") is None


def test_a_uid_matters_where_a_name_holds_it():
    table, paths = paths_of("- {id: all, allow: [all], paths: ['/{uid}/**', '/*{uid}*']}\n")
    assert paths.state_of(b"/10010/x").tells_uid(table, 10010)
    assert not paths.state_of(b"/10010/x").tells_uid(table, 10011)
    assert paths.state_of(b"/a10010b").tells_uid(table, 1)
    assert not paths.state_of(b"/a10010b").tells_uid(table, 2)
    assert not paths.state_of(b"/a").tells_uid(table, 1)


def test_too_many_rules_that_hide_are_lost(monkeypatch):
    monkeypatch.setattr(states, "MAX_HIDES", 1)
    _, paths = paths_of("- {id: a, deny: [see], paths: /a}\n- {id: b, deny: [see], paths: /a/b}\n")
    assert not paths.state_of(b"/a/b").position.lost
    lost = paths.state_of(b"/a/b/c")
    assert lost.position.lost
    assert lost.hides == frozenset()
    assert paths.state_of(b"/a/b/c/d") is lost
