"""Sample callers: each other caller gets the answers of one of them, and there are few."""

from __future__ import annotations

import pytest

from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.rules.callers import Caller
from policyfs.policy.rules.sample_callers import MAX_UIDS, callers_at, sample_uids
from policyfs.policy.rules.states import Paths, PathState
from policyfs.policy.rules.table import Situated, Table
from tests.support.models.policies import engine_of

APPS = "apps:\n  camera: {uid: 10010, grants: [g]}\n  gallery: {uid: 10011}\n  maps: {uid: 10012}\nrules:\n"


class Placed:
    """Samples of the callers of some rules."""

    def __init__(self, rules: str) -> None:
        self.engine = engine_of(APPS + rules)
        self.table = Table(self.engine.policy, 100)
        self.paths = Paths(self.table, 100)

    def states(self, *paths: str) -> list[PathState]:
        return [self.paths.state_of(path.encode()) for path in paths]

    def callers(self, *paths: str) -> list[Caller]:
        return callers_at(self.table, self.states(*paths))

    def samples(self, *paths: str) -> set[tuple[str | None, int | None]]:
        return {(caller.app, caller.uid) for caller in self.callers(*paths)}


def test_apps_that_no_rule_names_are_one_sample() -> None:
    placed = Placed("  - {id: a, allow: [see]}\n")
    assert [caller.app is None for caller in placed.callers("/x")] == [False, True]


def test_an_app_that_a_rule_of_the_path_tells_apart_is_a_sample_there_only() -> None:
    placed = Placed('  - {id: a, allow: [see], who: {app: maps}, paths: "/x"}\n')
    assert [caller.app for caller in placed.callers("/x")] == ["camera", "maps", None]
    assert [caller.app for caller in placed.callers("/y")] == ["camera", None]
    assert [caller.app for caller in placed.callers("/y", "/x")] == ["camera", "maps", None]


def test_grants_and_owners_tell_apps_apart() -> None:
    granted = Placed('  - {id: a, allow: [see], who: {grant: g}, paths: "/x"}\n')
    assert {caller.app for caller in granted.callers("/x")} == {"camera", "gallery", None}
    owned = Placed('  - {id: a, allow: [see], when: {owner: [self, maps]}, paths: "/x"}\n')
    assert {caller.app for caller in owned.callers("/x")} == {"camera", "maps", None}
    excepted = Placed('  - {id: a, deny: [see], unless: {owner: gallery}, paths: "/x"}\n')
    assert {caller.app for caller in excepted.callers("/x")} == {"camera", "gallery", None}


def test_a_name_in_the_path_tells_its_app_apart() -> None:
    placed = Placed('  - {id: a, allow: [see], paths: "/data/{app}/**"}\n')
    assert {caller.app for caller in placed.callers("/data/maps/x")} == {"camera", "maps", None}
    assert {caller.app for caller in placed.callers("/data/nobody/x")} == {"camera", None}
    part = Placed('  - {id: a, allow: [see], paths: "/data/*{app}*/**"}\n')
    assert {c.app for c in part.callers("/data/my-gallery-and-maps/x")} == {"camera", "gallery", "maps", None}


def test_a_uid_in_the_path_is_a_sample_beside_another_uid() -> None:
    placed = Placed('  - {id: a, allow: [see], paths: "/u/{uid}"}\n')
    found = placed.samples("/u/77")
    assert {uid == 77 for app, uid in found if app is not None} == {True, False}
    assert not any(uid == 77 for app, uid in found if app is None), "captures match no stranger"
    assert not any(uid == 77 for _, uid in placed.samples("/u/x"))


def test_a_uid_of_a_class_of_its_own_has_no_other_beside_it() -> None:
    placed = Placed('  - {id: a, allow: [see], paths: "/u/{uid}", who: {uid: 77}}\n')
    found = [(caller.app, caller.uid) for caller in placed.callers("/u/77") if caller.of.sample_uid == 77]
    assert {uid for app, uid in found if app is not None} == {77}
    assert all(uid is None for app, uid in found if app is None)


def test_a_rule_that_hides_a_directory_above_tells_callers_apart_below() -> None:
    placed = Placed('  - {id: a, deny: [see], who: {app: maps}, paths: "/x"}\n')
    assert {caller.app for caller in placed.callers("/x/y/z")} == {"camera", "maps", None}


def test_names_that_could_mean_too_many_uids_are_refused() -> None:
    placed = Placed('  - {id: a, allow: [see], paths: "/u/*{uid}*"}\n')
    assert len(placed.callers("/u/12")) > 0
    digits = "".join(str(1_000_000_000 + number) for number in range(MAX_UIDS))[:200]
    with pytest.raises(TooHardError):
        placed.callers(f"/u/{digits}")
    one_each = Placed('  - {id: a, allow: [see], paths: "/u/{uid}"}\n')
    assert len(one_each.callers(*(f"/u/{uid}" for uid in range(MAX_UIDS)))) > MAX_UIDS
    with pytest.raises(TooHardError):
        one_each.callers(*(f"/u/{uid}" for uid in range(MAX_UIDS + 1)))


def test_the_rules_that_live_for_any_caller_live_for_a_sample() -> None:
    placed = Placed(
        '  - {id: a, allow: [see], paths: ["/data/{app}", "/u/{uid}"]}\n'
        '  - {id: b, allow: [see], who: {uid: "20-30", not: {app: stranger}}, paths: "/data/maps"}\n'
        '  - {id: c, deny: [see], who: {grant: g}, paths: "/u/25"}\n'
    )
    table = placed.table
    for path in ("/data/maps", "/data/camera", "/u/25", "/u/10011", "/other"):
        situated = placed.states(path)[0].situated(table)

        def living(caller: Caller, situated: tuple[Situated, ...] = situated) -> tuple[str, ...]:
            lives = (table.live(one, caller) for one in situated)
            return tuple(live.rule.id for live in lives if live is not None)

        sampled = {living(caller) for caller in placed.callers(path)}
        everyone = {
            living(Caller(of, uid))
            for of in table.callers.everyone()
            for uid in (19, 20, 25, 30, 31, 10010, 10011)
            if table.callers.uid_class_of(uid) == of.uid_class
        }
        assert everyone == sampled, path


def test_uids_worth_trying_below_a_path() -> None:
    placed = Placed('  - {id: a, allow: [see], paths: "/u/{uid}/**", who: {uid: "20-30"}}\n')
    caller = placed.callers("/u/77")[0]
    found = sample_uids(placed.table, placed.states("/u/77"), Caller(caller.of, 555))
    assert {77, 555} <= set(found)
    assert any(20 <= uid <= 30 for uid in found), "one of every class of uids"
    assert list(found) == sorted(set(found))
    none = Placed('  - {id: a, allow: [see], paths: "/u/*/**"}\n')
    assert sample_uids(none.table, none.states("/u/77"), Caller(caller.of, 555)) == ()
