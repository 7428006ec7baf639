"""Directories in which the bridge may answer for all files."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from policyfs.domain import Audit, Decision
from policyfs.fs.opening import raw_directories
from policyfs.fs.opening.raw_directories import RawDirectories
from policyfs.kernel import vectors
from policyfs.policy.raw_names import Changes, RawNames

CALLER: Any = SimpleNamespace(principal=SimpleNamespace(key=1, app="app"), uid=1000, gid=100, holder="app")
DECISION = Decision(allowed=True, errno=0, audit=Audit.BEST_EFFORT)


class State:
    units = 1


class Scene:
    """A directory with one decision for all names. told: what the bridge and the trail were told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: Any = RawNames(DECISION, ("one", "two"), (), (b"a", b"b"))  # type: ignore[arg-type]
        self.entries = {"one": 86_400.0, "two": 86_400.0}
        self.told: list[tuple[Any, ...]] = []
        self.is_allowed = False
        self.room = True
        self.directory: Any = SimpleNamespace(
            nodeid=2, ino=77, state=State(), has_room=lambda name: self.room, path=lambda: b"/d"
        )
        self.views: Any = SimpleNamespace(is_settled=True)
        self.timeouts: Any = SimpleNamespace(
            watched=True, reported=lambda node: True, told_apart=False, guarded=False, posix=False,
            entry=lambda state, ftype: self.entries[state],
        )  # fmt: skip
        self.passthrough: Any = SimpleNamespace(lets_bridge_register=lambda: True)
        self.replaced: Any = SimpleNamespace(expects_tries=False)
        self.handles: Any = SimpleNamespace(has_plenty=True)
        self.shows_all = False
        seen = SimpleNamespace(
            in_use=True, see_all=lambda node, *given, keeps: self.told.append(("seen", *given, keeps))
        )
        self.nodes: Any = SimpleNamespace(vectors=seen, root_dev=3)
        noted: Any = SimpleNamespace(allowed=lambda *given: self.told.append(("noted", *given[2:])))
        fs: Any = SimpleNamespace(
            tree=None, nodes=self.nodes, handles=self.handles, resolver=SimpleNamespace(dirfd=self.dirfd),
            gate=SimpleNamespace(generation=1, engine=None, shows_all_in=lambda who, state: self.shows_all),
            name_lock=None, locks=None, intents=None, note_held=None,
            held=SimpleNamespace(tell=lambda opened: None), replaced_files=self.replaced, kept=None,
            facts=SimpleNamespace(remote=False),
        )  # fmt: skip
        self.raw, self.unchanging = (
            RawDirectories(
                fs,
                self.views,
                self.timeouts,
                self.passthrough,
                noted,
                changes=changes,
                xattrs=True,
            )
            for changes in (True, False)
        )
        monkeypatch.setattr(raw_directories, "raw_names", lambda engine, who, state: self.found)
        monkeypatch.setattr(vectors, "is_allowed", lambda node, uid: self.is_allowed)
        monkeypatch.setattr(vectors, "allow_directory", lambda *given: self.told.append(given) or True)

    def dirfd(self, node: Any) -> int:
        return 5

    def allow(self) -> bool:
        return self.raw.allow(self.directory, CALLER)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_the_bridge_is_told_after_the_trail(scene: Scene) -> None:
    assert scene.allow()
    bits = vectors.RAW | vectors.RECORDED | vectors.XATTRS
    given = 86_400, True, 0, b"a\0b\0", b"app"
    assert scene.told == [("noted", DECISION, None), (2, 5, 1000, 3, bits, *given)]


@pytest.mark.parametrize("audit", [Audit.BEST_EFFORT, Audit.OFF])
def test_the_bridge_may_change_where_the_decision_is_one_for_all_names(scene: Scene, audit: Audit) -> None:
    changes = Changes(*[replace(DECISION, audit=audit)] * 3)
    for written, removed in product((None, changes.made), repeat=2):
        bits = (0 if written is None else vectors.WRITE) | (0 if removed is None else vectors.REMOVE)
        check_changes(scene, changes._replace(written=written, removed=removed), bits)


def check_changes(scene: Scene, changes: Changes, writes: int) -> None:
    scene.found = scene.found._replace(changes=changes)
    scene.directory.state = State()  # another decision
    bits = vectors.RAW | vectors.RECORDED | vectors.XATTRS
    recorded = writes | (0 if changes.made.audit is Audit.OFF else vectors.CHANGES_RECORDED)
    for raw, more, noted in ((scene.raw, vectors.CHANGE | recorded, changes), (scene.unchanging, 0, None)):
        scene.told.clear()
        assert raw.allow(scene.directory, CALLER)
        assert (scene.told[0], scene.told[1][4]) == (("noted", DECISION, noted), bits | more)


def test_files_may_be_renamed_between_directories_whose_names_are_alike(scene: Scene) -> None:
    def moves() -> int:
        scene.told.clear()
        assert scene.raw.allow(scene.directory, CALLER)
        return scene.told[1][7]

    assert moves() == 0
    scene.directory.state = State()  # another decision
    scene.found = scene.found._replace(changes=Changes(*[DECISION] * 4))
    numbers = [moves()]
    scene.directory.state = State()
    numbers.append(moves())
    scene.directory.state, scene.found = State(), scene.found._replace(states=("one",))
    assert 0 < numbers[0] == numbers[1] != moves() > 0


def test_a_name_that_the_kernel_keeps_less_long_is_an_exception(scene: Scene) -> None:
    scene.found = RawNames(DECISION, ("one",), ((b"b", "two"), (b"c", "one")), (b"a",))  # type: ignore[arg-type]
    scene.entries["two"] = 0.0
    assert scene.allow()
    assert scene.told[1][-2] == b"a\0b\0"


@pytest.mark.parametrize(("entry_s", "seen"), [(86_400.0, [("seen", 5, 1000, True)]), (0.0, [])])
def test_absent_names_are_no_secret_where_all_are_seen(scene: Scene, entry_s: float, seen: Any) -> None:
    scene.shows_all, scene.entries = True, {"one": entry_s, "two": entry_s}
    assert scene.allow()
    assert [told for told in scene.told if told[0] == "seen"] == seen


def test_it_is_told_once(scene: Scene) -> None:
    scene.is_allowed = True
    assert scene.allow()
    assert not scene.told


def change(path: str, value: Any) -> Any:
    """A function that sets an attribute of a part of the scene."""
    part, name = path.split(".")
    return lambda scene: setattr(scene if part == "scene" else getattr(scene, part), name, value)


@pytest.mark.parametrize("without", [
    change("scene.found", None),
    change("scene.found", RawNames(DECISION, ("one",), (), (b"n",) * 65)),  # type: ignore[arg-type]
    change("scene.entries", {"one": 0.0, "two": 86_400.0}),
    change("scene.room", False),
    change("views.is_settled", False),
    change("timeouts.watched", False),
    change("timeouts.reported", lambda node: False),
    change("timeouts.told_apart", True),
    change("timeouts.guarded", True),
    change("timeouts.posix", True),
    change("passthrough.lets_bridge_register", lambda: False),
    change("replaced.expects_tries", True),
    change("handles.has_plenty", False),
    change("directory.ino", 1 << 64),
    change("directory.path", lambda: b"/" + bytes(1024)),
    change("raw.has_second_try", lambda holder: True),
])  # fmt: skip
def test_it_is_not_told(scene: Scene, without: Any) -> None:
    without(scene)
    assert not scene.allow()
    assert not scene.told


def test_a_reload_is_another_decision(scene: Scene) -> None:
    assert scene.allow()
    scene.raw._gate.generation, scene.found = 2, None
    assert not scene.allow()


def test_a_directory_that_is_gone_is_left_to_python(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(node: Any) -> int:
        raise OSError

    monkeypatch.setattr(scene.raw._resolver, "dirfd", gone)
    assert not scene.allow()
