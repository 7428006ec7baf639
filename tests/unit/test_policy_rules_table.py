"""Rules at a path, and for one caller: what can still match, and under which facts."""

from __future__ import annotations

import pytest

from policyfs.domain import KIND_DIRECTORY, OWNER_NONE, Facts, FileType
from policyfs.policy.rules.callers import Caller
from policyfs.policy.rules.facts import Kinds, Truth
from policyfs.policy.rules.states import Paths
from policyfs.policy.rules.table import (
    Condition,
    Live,
    Situated,
    Table,
    asks_for_self,
    hides,
    sample_facts_of,
)
from tests.support.models.policies import engine_of

NO, UNKNOWN, YES = Truth.NO, Truth.UNKNOWN, Truth.YES
PHOTOS = Kinds(frozenset({"image/*"}))
MINE = frozenset({"camera"})


@pytest.mark.parametrize(
    ("kinds", "owners", "kind", "owner", "truth"),
    [
        (None, None, None, None, YES),
        (PHOTOS, None, "image/png", None, YES),
        (PHOTOS, None, "text/plain", "camera", NO),
        (PHOTOS, None, None, "camera", UNKNOWN),
        (None, MINE, None, "camera", YES),
        (None, MINE, None, "maps", NO),
        (None, MINE, None, None, UNKNOWN),
        (None, frozenset(), None, None, NO),  # `self` of a stranger: no owner can be it
        (PHOTOS, MINE, "image/png", None, UNKNOWN),
        (PHOTOS, MINE, None, "camera", UNKNOWN),
        (PHOTOS, MINE, None, "maps", NO),
        (PHOTOS, MINE, "text/plain", None, NO),
        (PHOTOS, MINE, None, None, UNKNOWN),
        (PHOTOS, MINE, "image/png", "camera", YES),
    ],
)
def test_a_condition_on_facts_that_may_be_unknown(
    kinds: Kinds | None, owners: frozenset[str] | None, kind: str | None, owner: str | None, truth: Truth
) -> None:
    assert Condition(kinds, owners).hold(Facts(kind, owner)) is truth


class Placed:
    """The rules of a policy, for callers by name at paths."""

    def __init__(self, rules: str) -> None:
        self.table = Table(engine_of(rules).policy, 100)
        self.paths = Paths(self.table, 100)

    def situated(self, path: str) -> tuple[Situated, ...]:
        return self.paths.state_of(path.encode()).situated(self.table)

    def ids(self, path: str) -> list[str]:
        return [self.table.rules[one.rule].id for one in self.situated(path)]

    def lives(self, path: str, app: str | None, uid: int = 4242) -> list[Live]:
        of = next(c for c in self.table.callers.everyone() if c.app == app)
        found = (self.table.live(one, Caller(of, uid)) for one in self.situated(path))
        return [live for live in found if live is not None]

    def live(self, path: str, app: str | None) -> Live:
        (live,) = self.lives(path, app)
        return live


def test_rules_of_a_path_come_by_id_and_those_without_paths_are_everywhere() -> None:
    placed = Placed(
        '- {id: z, allow: [see]}\n- {id: b, allow: [see], paths: "/a/**"}\n'
        '- {id: c, allow: [see], when: {path: "/a/b"}}\n- {id: a, deny: [see], paths: "/x"}\n'
    )
    assert placed.ids("/") == ["z"]
    assert placed.ids("/a") == ["z"]
    assert placed.ids("/a/b") == ["b", "c", "z"]
    assert placed.ids("/x") == ["a", "z"]
    assert [placed.table.rules[number].id for number in placed.table.everywhere()] == ["z"]
    assert sorted(placed.table.first_accepts().values()) == [0, 1, 2]


def test_both_paths_of_a_rule_must_match() -> None:
    placed = Placed('- {id: a, allow: [see], paths: "/a/**", when: {path: "/**/b"}}\n')
    assert (placed.ids("/a/b"), placed.ids("/a/c"), placed.ids("/b")) == (["a"], [], [])
    position = {path: placed.paths.state_of(path.encode()).position for path in ("/a/c", "/c", "/a/b")}
    assert placed.table.path_fault(0, position["/c"]) == "paths"
    assert placed.table.path_fault(0, position["/a/c"]) == "when.path"
    assert placed.table.path_fault(0, position["/a/b"]) is None
    assert len(placed.table.accepts_of(0)) == 2


def test_a_block_of_unless_that_says_only_a_path_ends_the_rule_there() -> None:
    placed = Placed('- {id: a, deny: [all], paths: "/a/**", unless: {path: "/a/b"}}\n')
    assert placed.lives("/a/b", "camera") == []
    assert placed.live("/a/c", "camera").fixed is YES


def test_a_capture_lets_a_rule_live_for_its_app_only() -> None:
    placed = Placed('- {id: a, allow: [see], paths: "/data/{app}/**"}\n')
    assert [len(placed.lives("/data/camera/x", app)) for app in ("camera", "maps", None)] == [1, 0, 0]
    assert placed.lives("/data/nobody/x", "camera") == []


def test_an_exception_by_capture_counts_for_its_app_only() -> None:
    placed = Placed('- {id: a, deny: [all], paths: "/data/**", unless: {path: "/data/{app}/**"}}\n')
    assert placed.lives("/data/camera/x", "camera") == []
    assert placed.live("/data/camera/x", "maps").fixed is YES
    assert placed.live("/data/camera/x", None).fixed is YES


def test_self_is_the_callers_app_and_nobody_for_a_stranger() -> None:
    placed = Placed("- {id: a, allow: [read], when: {owner: [self, none]}}\n")
    camera, stranger = placed.live("/x", "camera"), placed.live("/x", None)
    assert [camera.match(Facts(None, owner)) for owner in ("camera", "maps", OWNER_NONE)] == [YES, NO, YES]
    assert [stranger.match(Facts(None, owner)) for owner in ("camera", OWNER_NONE)] == [NO, YES]
    assert Placed("- {id: a, allow: [read], when: {owner: self}}\n").lives("/x", None) == []


def test_an_exception_for_self_excepts_no_stranger() -> None:
    placed = Placed("- {id: a, deny: [all], unless: {owner: self}}\n")
    assert placed.live("/x", None).fixed is YES
    assert placed.live("/x", "camera").match(Facts(None, "camera")) is NO
    assert placed.live("/x", "camera").match(Facts(None, None)) is UNKNOWN


def test_when_and_every_block_of_unless_count_together() -> None:
    live = Placed(
        "- {id: a, allow: [read], when: {type: image/*}, unless: [{type: image/gif}, {owner: maps}]}\n"
    ).live("/x", "camera")
    facts = {
        ("image/png", "camera"): YES, ("image/gif", "camera"): NO, ("image/png", "maps"): NO,
        ("text/plain", None): NO, (None, "maps"): NO, (None, "camera"): UNKNOWN, ("image/png", None): UNKNOWN,
    }  # fmt: skip
    assert {key: live.match(Facts(*key)) for key in facts} == facts
    assert len(live.conditions()) == 3


def test_what_a_rule_may_and_must_match_by_the_type_of_a_file() -> None:
    photos = Placed("- {id: a, allow: [read], when: {type: image/*}}\n").live("/x", None)
    assert photos.may_match(FileType.REGULAR)
    assert not photos.may_match(FileType.DIRECTORY)
    assert not photos.must_match(FileType.REGULAR)
    directories = Placed(f"- {{id: a, allow: [see], when: {{type: {KIND_DIRECTORY}}}}}\n").live("/x", None)
    assert directories.may_match(FileType.DIRECTORY)
    assert not directories.may_match(FileType.REGULAR)
    assert not directories.may_oblige()
    assert photos.may_oblige()
    assert Placed("- {id: a, allow: [see]}\n").live("/x", None).must_match(FileType.REGULAR)
    assert directories.must_match(FileType.DIRECTORY)
    assert not directories.must_match(FileType.SYMLINK)
    odd = "- {id: a, allow: [read], when: {type: image/png}, unless: {type: image/png}}\n"
    assert not Placed(odd).live("/x", None).may_match(FileType.REGULAR)
    assert Placed(odd).live("/x", None).may_oblige(), "of an unknown kind nobody knows that it cannot match"


def test_samples_hold_every_kind_and_owner_that_rules_tell_apart() -> None:
    live = Placed("- {id: a, allow: [read], when: {type: image/png}, unless: {owner: maps}}\n").live(
        "/", None
    )
    known = sample_facts_of([live], FileType.REGULAR, unknown=False)
    assert {live.match(facts) for facts in known} == {YES, NO}
    assert Facts("image/png", "maps") in known
    assert Facts(None, None) in sample_facts_of([live], FileType.REGULAR, unknown=True)
    assert {f.kind for f in sample_facts_of([live], FileType.DIRECTORY, unknown=True)} == {KIND_DIRECTORY}


def test_kinds_of_raw_types_are_among_the_samples() -> None:
    live = Placed("- {id: a, require: {redact: location}, raw_types: application/zip}\n").live("/", None)
    assert "application/zip" in {f.kind for f in sample_facts_of([live], FileType.REGULAR, unknown=False)}


def test_equal_lives_are_one_object_and_apps_share_one_without_self() -> None:
    placed = Placed(
        "- {id: a, allow: [read], when: {type: image/*}}\n- {id: b, allow: [see], when: {owner: self}}\n"
    )
    camera, maps = placed.lives("/x", "camera"), placed.lives("/y/z", "maps")
    assert camera[0] is maps[0]
    assert camera[1] is not maps[1]


def test_a_situated_rule_covers_those_that_match_fewer_callers() -> None:
    placed = Placed('- {id: a, deny: [see], paths: ["/data/{app}", "/{app}/x"]}\n')
    (camera,), (maps,) = placed.situated("/data/camera"), placed.situated("/data/maps")
    assert camera.covers(camera)
    assert not camera.covers(maps)
    both = Situated(camera.rule, (camera.binds[0] | maps.binds[0],), camera.unless)
    assert both.covers(camera)
    assert not camera.covers(both)
    assert not both.covers(camera._replace(rule=1))
    assert not both.covers(camera._replace(unless=((0, None),)))
    assert {bind.app for bind in both.requirements()} == {"camera", "maps"}


def test_requirements_include_those_of_exceptions() -> None:
    placed = Placed('- {id: a, deny: [all], paths: "/**", unless: {path: "/data/{app}/**"}}\n')
    (one,) = placed.situated("/data/camera/x")
    assert [bind.app for bind in one.requirements()] == ["camera"]


@pytest.mark.parametrize(
    ("rule", "hidden", "own"),
    [
        ("deny: [see]", True, False),
        ("deny: [all], when: {owner: self}", True, True),
        ("deny: [read], unless: [{type: image/png}, {owner: self}]", False, True),
        ("allow: [see], when: {owner: maps}", False, False),
        ("deny: [see], mode: monitor", False, False),
    ],
)
def test_rules_that_hide_and_rules_that_ask_for_self(rule: str, hidden: bool, own: bool) -> None:
    (made,) = Placed(f"- {{id: a, {rule}}}\n").table.rules
    assert (hides(made), asks_for_self(made)) == (hidden, own)


def test_a_table_knows_whether_a_glob_tells_uids_apart() -> None:
    assert Placed('- {id: a, deny: [all], paths: "/**", unless: {path: "/{uid}/**"}}\n').table.uses_uid
    assert not Placed('- {id: a, deny: [all], paths: "/{app}/**"}\n').table.uses_uid
