"""Worlds that a recorded request may have met."""

from __future__ import annotations

import pytest

from policyfs.domain import FileType
from policyfs.policy.decide import compile_policy
from policyfs.policy.replay import worlds as module
from policyfs.policy.replay.party import Party, Place
from policyfs.policy.replay.recorded import World, demand_of
from policyfs.policy.replay.worlds import TooManyError, untold, worlds
from policyfs.policy.text.parse import SourceText, parse_policy

HEAD = "apiVersion: policyfs/v1\nkind: Policy\napps: {a: {uid: 7}, b: {uid: 8}}\nrules:\n"


def found(
    rules: str, operation: str, syscall: str = "", *, kind: str | None = None, new: bool = False
) -> list[World]:  # fmt: skip
    engine = compile_policy(parse_policy([SourceText("case.yaml", (HEAD + rules).encode())]))
    demand = demand_of(operation, syscall or operation)
    assert demand is not None
    state = engine.state_of(b"/d/x")
    place = Place(state, engine.state_of(b"/d/y") if new else None, True)
    party = Party(engine, engine.principal(7))
    return worlds(demand, kind, empty=None, parties=[party], places=[place])


ALL = '  - {id: all, allow: [all], paths: "/**"}\n'


def test_nothing_is_open_where_rules_ask_for_nothing():
    assert len(found(ALL, "open", "open(O_RDONLY)")) == 1
    assert {world.ftype for world in found(ALL, "lookup")} == {
        FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK,
    }  # fmt: skip


def test_facts_are_open_where_rules_ask_for_them():
    owned = '  - {id: own, allow: [all], paths: "/**", when: {owner: self}}\n'
    assert {"a", "none", None} <= {world.facts.owner for world in found(owned, "unlink")}
    typed = '  - {id: no, deny: [read], paths: "/**", when: {type: image/jpeg}}\n'
    assert {"image/jpeg", None} <= {w.facts.kind for w in found(ALL + typed, "open", "open(O_RDONLY)")}
    told = found(ALL + typed, "open", "open(O_RDONLY)", kind="image/png")
    assert {world.facts.kind for world in told} == {"image/png"}


def test_the_new_name_of_a_rename_may_be_taken():
    replaced = {world.replaced and world.replaced[0] for world in found(ALL, "rename", new=True)}
    assert replaced == {None, FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK}
    exchanged = found(ALL, "rename", "renameat2(RENAME_EXCHANGE)", new=True)
    assert all(world.replaced is not None for world in exchanged)
    content = '  - {id: clean, require: {no: [location]}, paths: "/**"}\n'
    assert {bool(w.facts.free_of) for w in found(ALL + content, "rename", new=True)} == {True, False}


def test_owners_of_directories_above_and_emptiness():
    hiding = '  - {id: hide, deny: [all], paths: "/d", when: {owner: b}}\n'
    assert {world.hidden for world in found(ALL + hiding, "stat")} == {(False,), (True,)}
    writes = found(ALL, "open", "open(O_WRONLY)")
    assert {world.empty for world in writes} == {False, True}
    assert {world.empty for world in found(ALL, "open", "open(O_WRONLY|O_TRUNC)")} == {False}


def test_too_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST", 2)
    with pytest.raises(TooManyError):
        found(ALL, "lookup")


def test_what_a_trail_does_not_tell():
    typed = '  - {id: no, deny: [read], paths: "/**", when: {type: image/jpeg}}\n'
    seen = found(ALL + typed, "open", "open(O_RDONLY)")
    assert untold(seen, [world.facts.kind == "image/jpeg" for world in seen]) == ("the file's content kind",)
    types = found(ALL, "lookup")
    assert untold(types, [world.ftype for world in types]) == ("whether the path is a file or a directory",)
