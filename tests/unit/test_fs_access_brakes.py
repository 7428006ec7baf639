"""The counts of changed files, and the brakes that they turn on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from policyfs.domain import FileType
from policyfs.errors import PolicyfsError
from policyfs.fs.access.brakes import NAME, Brakes, Changed
from policyfs.fs.inodes.caller import Caller
from policyfs.linux.statx import cached_stat
from policyfs.policy.decide import Engine
from tests.support.models.asking import engine_of

MINUTE = 60
ONE, TWO, STRANGER = 10, 20, 99
NOW_NS = 2_000_000_000_000_000_000
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {one: {uid: [10, 11]}, two: {uid: 20}}
rules:
  - {id: all, allow: [all]}
  - {id: few, limit: {changes: 3, within: 1m}, paths: ["/d/***"]}
  - {id: many, limit: {changes: 5, within: 1h}}
"""


class Clock:
    """Both clocks of the brakes."""

    def __init__(self) -> None:
        self.s = 1000.0
        self.ns = NOW_NS

    def wait(self, seconds: float) -> None:
        self.s += seconds
        self.ns += int(seconds * 1e9)


class Scene:
    """The brakes of a mount, asked about files by number."""

    def __init__(self, directory: Path | None = None, policy: str = POLICY) -> None:
        self.engine: Engine = engine_of(policy)
        self.clock, self.said = Clock(), []
        self.brakes = Brakes(
            directory, lambda app, on, limit: self.said.append((app, on.rule, limit is not None)),
            lambda: self.clock.s, lambda: self.clock.ns,
        )  # fmt: skip

    def changes(
        self, *numbers: int, uid: int = ONE, path: bytes = b"/d/a", owner: str | None = "none",
        age_s: float = 1e6,
    ) -> list[str]:  # fmt: skip
        """The rules that refuse, for each of these files."""
        found = []
        for number in numbers:
            btime_ns = self.clock.ns - int(age_s * 1e9)
            stat = cached_stat(-100, b"/")._replace(ino=number, btime_ns=btime_ns if age_s < 1e6 else 1)
            caller = Caller(self.engine.principal, uid, uid, 1, 0)
            changed = Changed(self.engine.state_of(path), FileType.REGULAR, owner, stat)
            rule = self.brakes.count(self.engine, caller, path, (changed,))
            found.append("" if rule is None else rule.id)
        return found


def test_a_file_counts_once_and_one_too_many_turns_the_brake_on() -> None:
    scene = Scene()
    assert scene.changes(1, 2, 3, 1, 2, 3) == [""] * 6
    assert (scene.changes(4), scene.said) == (["few"], [("one", "few", True)])
    assert scene.changes(1, 2, 5) == ["few"] * 3
    assert len(scene.said) == 1
    assert scene.changes(6, path=b"/e/a") == ["many"]  # one brake for all limits of the app


def test_the_count_ends_with_the_time_and_the_brake_does_not() -> None:
    scene = Scene()
    assert scene.changes(1, 2, 3) == [""] * 3
    scene.clock.wait(MINUTE - 1)
    assert scene.brakes.report(scene.engine.policy)["counts"][0]["counted"] == 3
    scene.clock.wait(1)
    assert scene.changes(1, 4) == [""] * 2
    assert scene.changes(5, 6) == ["", "few"]
    scene.clock.wait(100 * MINUTE)
    assert scene.changes(7) == ["few"]
    assert scene.brakes.release("one")
    assert scene.changes(7, 8, 9, 10) == ["", "", "", "few"]
    assert not scene.brakes.release("two")


def test_apps_have_a_brake_each_and_all_uids_of_one_and_strangers_share() -> None:
    scene = Scene()
    assert scene.changes(1, 2, uid=ONE) + scene.changes(3, 4, uid=ONE + 1) == ["", "", "", "few"]
    assert scene.changes(5, 6, 7, uid=TWO) == [""] * 3
    assert [scene.changes(8 + n, uid=STRANGER + n) for n in range(4)] == [[""], [""], [""], ["few"]]
    assert set(scene.brakes.on) == {"one", "stranger"}


def test_only_the_young_files_of_the_app_itself_do_not_count() -> None:
    scene = Scene()
    assert scene.changes(*range(9), owner="one", age_s=MINUTE - 1) == [""] * 9
    assert scene.changes(*range(3), owner="two", age_s=1) == [""] * 3
    assert scene.changes(9, owner="one", age_s=MINUTE + 1) == ["few"]
    assert scene.changes(10, owner="one", age_s=1) == [""]  # the brake leaves them, too
    assert scene.changes(10, owner=None, age_s=1) == ["few"]
    assert scene.changes(10, owner="one", age_s=-5) == ["few"]  # the clock went back
    stranger = Scene()
    assert stranger.changes(*range(4), uid=STRANGER, owner="none", age_s=1)[3] == "few"


def test_another_policy_keeps_brakes_and_the_counts_of_the_limits_that_stay() -> None:
    scene = Scene()
    scene.changes(1, 2, 3)
    scene.engine = engine_of(POLICY.replace("changes: 3", "changes: 4").replace("id: many", "id: more"))
    scene.brakes.use(scene.engine.policy)
    assert {rule for rule, _ in scene.brakes._counted} == {"few"}
    assert scene.changes(4, 5) == ["", "few"]
    scene.engine = engine_of(POLICY.replace("id: few", "id: fewer"))
    scene.brakes.use(scene.engine.policy)
    assert scene.changes(1) == ["fewer"]


def test_the_brake_is_saved_and_found_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.changes(1, 2, 3, 4, path=b"/d/\xff")
    trio.run(scene.brakes.save)
    again = Scene(tmp_path)
    assert again.brakes.on == scene.brakes.on
    assert again.brakes.on["one"].path.encode("utf-8", "surrogateescape") == b"/d/\xff"
    assert (again.changes(1), again.said) == (["few"], [])
    again.brakes.release("one")
    trio.run(again.brakes.save)
    assert json.loads((tmp_path / NAME).read_text()) == {}


def test_a_brake_that_cannot_be_saved_holds_and_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.changes(1, 2, 3, 4)
    (tmp_path / "brakes.new").mkdir()
    trio.run(scene.brakes.save)
    assert scene.changes(1) == ["few"]
    (tmp_path / "brakes.new").rmdir()
    trio.run(scene.brakes.save)  # tried again
    assert Scene(tmp_path).brakes.on
    (tmp_path / NAME).write_text('{"one": 5}')
    with pytest.raises(PolicyfsError, match="cannot read which brakes are on"):
        Scene(tmp_path)
