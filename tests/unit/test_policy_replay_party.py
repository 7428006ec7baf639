"""Answers of one policy in one world: what a mount adds to the rules."""

from __future__ import annotations

import errno

import pytest

from policyfs.domain import Decision, Facts, FileType, Op
from policyfs.policy.decide import compile_policy
from policyfs.policy.replay.party import REFUSED, Party, Place
from policyfs.policy.replay.recorded import World, demand_of
from policyfs.policy.text.parse import SourceText, parse_policy

TEXT = b"""\
apiVersion: policyfs/v1
kind: Policy
apps: {a: {uid: 7}, b: {uid: 8}}
rules:
  - {id: all, allow: [all], paths: "/**"}
  - {id: no-place, require: {redact: [location]}, unless: {owner: self}}
"""


def answer(
    operation: str, syscall: str, facts: Facts, *, empty: bool = False, told: bool = True, app: str = "a"
) -> Decision:  # fmt: skip
    engine = compile_policy(parse_policy([SourceText("case.yaml", TEXT)]))
    demand = demand_of(operation, syscall)
    assert demand is not None
    who = engine.app_principal(app, 7) if app else None
    place = Place(engine.state_of(b"/x"), None, False)
    world = World(demand.ops[0], FileType.REGULAR, facts, None, (False,), empty)
    return Party(engine, who).answer(demand, world, place, hidden=False, told_kind=told)


@pytest.mark.parametrize(
    ("syscall", "facts", "empty", "allowed"),
    [
        ("open(O_RDONLY)", Facts("image/jpeg", "b"), False, True),
        ("open(O_RDONLY)", Facts("application/zip", "b"), False, False),
        ("open(O_RDONLY)", Facts("application/zip", "a"), False, True),
        ("open(O_WRONLY)", Facts("image/jpeg", "b"), False, False),
        ("open(O_WRONLY)", Facts("image/jpeg", "b"), True, True),
        ("open(O_WRONLY)", Facts("image/jpeg", "a"), False, True),
        ("open(O_WRONLY|O_TRUNC)", Facts("image/jpeg", "b"), False, True),
    ],
)
def test_opens_under_redaction(syscall: str, facts: Facts, empty: bool, allowed: bool):
    found = answer("open", syscall, facts, empty=empty)
    assert found.allowed is allowed
    if not allowed:
        assert found.errno == errno.EACCES


def test_a_rename_that_would_lose_hidden_data_names_the_rule():
    more = '  - {id: b.private, deny: [read], paths: "/old/**", who: {app: b}}\n'
    engine = compile_policy(parse_policy([SourceText("case.yaml", TEXT + more.encode())]))
    demand = demand_of("rename", "rename")
    world = World(Op.SEE, FileType.REGULAR, Facts("image/jpeg", "b"), None, (False,), False)
    place = Place(engine.state_of(b"/old/x"), engine.state_of(b"/new/x"), False)
    party = Party(engine, engine.app_principal("a", 7))
    assert demand is not None
    found = party.answer(demand, world, place, hidden=False, told_kind=True)
    assert found.errno == errno.EACCES
    assert [match.rule for match in found.rules if match.effect == REFUSED] == ["no-place"]
    own = world._replace(facts=Facts("image/jpeg", "a"))
    assert party.answer(demand, own, place, hidden=False, told_kind=True).allowed


def test_a_kind_that_nobody_told_may_be_one_that_can_be_cleaned():
    found = answer("open", "open(O_RDONLY)", Facts("application/zip", "b"), told=False)
    assert found.allowed
    assert found.redact == {"location"}


def test_a_new_file_belongs_to_its_maker():
    assert not answer("create", "open(O_RDWR|O_CREAT)", Facts(None, "b")).redact


def test_an_app_that_a_policy_does_not_have_sees_nothing():
    assert answer("stat", "stat", Facts(), app="").errno == errno.ENOENT


@pytest.mark.parametrize(
    ("condition", "app", "matters"),
    [
        ("unless: {owner: self}", "a", True),
        ("when: {type: inode/directory}, unless: {owner: self}", "a", True),
        ("when: {type: image/jpeg}, unless: {owner: self}", "a", False),
        ("when: {type: image/jpeg}", "a", False),
        ("unless: {owner: self}, who: {app: b}", "a", False),
        ("unless: {owner: self}, who: {app: b}", "b", True),
    ],
)
def test_owners_above_matter_where_a_rule_may_hide_a_directory_by_them(
    condition: str, app: str, matters: bool
):
    text = TEXT + f'  - {{id: hides, deny: [see], paths: "/d/**", {condition}}}\n'.encode()
    engine = compile_policy(parse_policy([SourceText("case.yaml", text)]))
    place = Place(engine.state_of(b"/d/e/f"), None, False)
    party = Party(engine, engine.app_principal(app, 7))
    assert party.owner_matters_above(place) is matters
