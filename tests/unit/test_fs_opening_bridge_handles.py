"""Handles of the bridge: when it may give them out, and how they come into the table."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from policyfs.domain import NO_RANGES, Audit, Decision, Facts, FileType
from policyfs.fs.access.audit import Recorder
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.inodes.handles import HandleTable
from policyfs.fs.inodes.node import BytePath
from policyfs.fs.inodes.open_state import Mode, OpenState
from policyfs.fs.inodes.vectors import AccessVectors
from policyfs.fs.opening import bridge_handles, repeated_opens
from policyfs.fs.opening.bridge_handles import BridgeHandles
from policyfs.fs.opening.request import call_of
from policyfs.kernel.vectors import Opened, Seen, index_of
from policyfs.store.frozen import Version
from tests.support.mount.file_system import Sink

FACTS = Facts("image/jpeg", None)
ATTRIBUTES = (11, 0o100644, 1, 0, 0, 4, 8, 4096, 1, 2, 3)


def opened(fh: int, nodeid: int = 7, ctime_ns: int = 3) -> Opened:
    return Opened(fh, nodeid, 1000, 100, 42, os.O_RDONLY, (*ATTRIBUTES[:-1], ctime_ns))


class Known(SimpleNamespace):
    """A node, which is told apart by what it is."""

    __hash__ = object.__hash__


class CopyOfFile:
    """A copy that counts its pins, by payer."""

    def __init__(self) -> None:
        self.pins: Counter[str] = Counter()

    def pin(self, who: str) -> None:
        self.pins[who] += 1

    def unpin(self, who: str) -> None:
        self.pins[who] -= 1
        assert self.pins[who] >= 0


class Bridge:
    """The bridge's open vectors; handles: what is open there. seen: its events. saved: what is in memory that
    outlives the daemon, in the order of the calls."""

    def __init__(self) -> None:
        self.saved: list[tuple[str, int]] = []
        self.handles: list[Opened] = []
        self.unused: list[int] = []
        self.seen: list[Seen] = []

    def take(self, mine: Any = lambda one: True) -> list[Opened]:
        taken = [one for one in self.handles if mine(one)]
        self.handles = [one for one in self.handles if one not in taken]
        return taken

    def take_handle(self, fh: int) -> list[Opened]:
        return self.take(lambda one: one.fh == fh)

    def take_handles(self, nodeid: int) -> list[Opened]:
        return self.take(lambda one: one.nodeid == nodeid)

    def take_events(self) -> list[Seen]:
        taken, self.seen = self.seen, []
        return taken

    def free_taken(self, fh: int) -> None:
        self.saved.append(("not by the bridge", fh))

    end_all_opens = take
    end_opens = take_handles

    def age_opens(self, ages: int) -> tuple[list[Opened], list[int]]:
        assert ages == 30, "a minute"
        return self.take(), self.unused


class Scene:
    """A file that was opened, and nothing that speaks against its repeats."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bridge = Bridge()
        bridge = SimpleNamespace(
            **{name: getattr(self.bridge, name) for name in dir(self.bridge) if not name.startswith("_")},
            Opened=Opened, index_of=index_of,
        )  # fmt: skip
        monkeypatch.setattr(bridge_handles, "vectors", bridge)
        monkeypatch.setattr(repeated_opens, "vectors", bridge)
        self.node: Any = Known(
            nodeid=7, btime_ns=1, open=None, byte_path=BytePath.RAW, parent=object(), lookups=1,
            path=lambda: b"/file", view=SimpleNamespace(label="raw"), ftype=FileType.REGULAR,
        )  # fmt: skip
        self.vectors = AccessVectors(in_use=True)
        self.table = HandleTable()
        self.sink = Sink()
        self.gate: Any = SimpleNamespace(
            generation=3, principal=lambda uid: SimpleNamespace(app="app", uid=uid),
            recorder=Recorder(self.sink, "/mnt"),
        )  # fmt: skip
        nodes: Any = SimpleNamespace(
            vectors=self.vectors, root_dev=5, find=lambda nodeid: self.node if nodeid == 7 else None
        )
        self.replaced: Any = SimpleNamespace(find=lambda node: -1, is_wanted=lambda node: False)
        self.fs: Any = SimpleNamespace(
            replaced_files=self.replaced, kept=None, facts=SimpleNamespace(remote=False), nodes=nodes,
            handles=self.table, gate=self.gate, tree=None, resolver=None, name_lock=None,
            locks=None, intents=None, held=None, note_held=None,
        )  # fmt: skip
        self.given_back: list[object] = []
        self.note = ""
        self.installs = self.final_copy = True
        self.answers_at_once = False
        self.installed: list[tuple[object, ...]] = []
        self.handles = self.made()
        self.decision = Decision(allowed=True, errno=0, audit=Audit.OFF)
        self.request: Any = SimpleNamespace(
            node=self.node, flags=os.O_RDONLY, writing=False, call=call_of(os.O_RDONLY),
            caller=SimpleNamespace(
                uid=1000, gid=100, pid=0, program=None, holder="app",
                principal=SimpleNamespace(label="app"),
            ),
        )  # fmt: skip
        self.handle: Any = SimpleNamespace(
            mode=Mode.PASSTHROUGH, by_kind=False, created=False, generation=3, copy=None
        )
        self.shared = OpenState(handles=1, mode=Mode.PASSTHROUGH, backing_id=9)
        self.node.open = self.shared

    def made(self) -> BridgeHandles:
        lifecycle: Any = SimpleNamespace(enter=self.enter, let_go=self.let_go)
        repeats: Any = SimpleNamespace(
            judged=lambda *of_open: self.decision, opened=self.install,
            judged_listing=lambda *of_open: self.decision, opened_directory=lambda *of_open: self.installs,
        )  # fmt: skip
        passthrough: Any = SimpleNamespace(drop_later=self.given_back.append)
        redactor: Any = SimpleNamespace(is_final=lambda copy: self.final_copy)
        return BridgeHandles(self.fs, lifecycle, passthrough, repeats, redactor)

    def enter(self, node: Any, *, writing: bool) -> OpenState:
        assert not writing
        node.open.handles += 1
        return node.open  # type: ignore[no-any-return]

    def let_go(self, node: Any, state: OpenState) -> None:
        state.handles -= 1
        if not state.handles:
            node.open = None

    def install(self, *words: object) -> bool:
        self.installed.append(words[:-2])
        if self.answers_at_once:
            self.bridge.seen.append(seen(5))
        return self.installs

    def show_copy(self, payer: str = "app") -> CopyOfFile:
        """Let the open show a copy of a version."""
        copy = self.shared.copy or CopyOfFile()
        self.shared.copy, self.shared.version = copy, Version(4, 2, 3)  # type: ignore[assignment]
        self.handle.copy, self.handle.payer = copy, payer
        self.handle.facts, self.handle.hidden = FACTS, frozenset({"location"})
        return copy  # type: ignore[return-value]

    def record(self) -> None:
        """Let the open be on the trail."""
        self.decision = dataclasses.replace(self.decision, audit=Audit.BEST_EFFORT)

    def noted(self, times: int = 2) -> int:
        """How often the node is entered after its open was noted once, and once more."""
        for _ in range(times):
            self.handles.opened(SimpleNamespace(  # type: ignore[arg-type]
                request=self.request, handle=self.handle, decision=self.decision, shared=self.shared,
                kind=None, evidence=KindEvidence(), note=self.note, redacted=NO_RANGES,
            ))  # fmt: skip
        return self.shared.handles


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_a_node_with_a_vector_is_entered_once_more(scene: Scene) -> None:
    assert scene.noted() == 2
    assert scene.noted() == 2
    assert scene.installed[0][1:] == (scene.request.caller, os.O_RDONLY, 9)
    assert len(scene.handles) == 1
    scene.handles.end(scene.node)
    scene.handles.end(scene.node)
    assert (scene.shared.handles, len(scene.handles)) == (1, 0)


def test_it_has_none_after_one_open_nor_after_opens_with_a_long_time_between(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(bridge_handles.time, "monotonic", lambda: now[0])
    scene.handles.expire()
    for _ in range(3):
        assert scene.noted(1) == 1
        for _ in range(2):
            now[0] += 61
            scene.handles.expire()
    assert scene.noted(1) == 1
    for _ in range(40):
        now[0] += 1.5
        scene.handles.expire()
    assert scene.noted(1) == 2


def test_it_is_left_again_if_there_is_no_room(scene: Scene) -> None:
    scene.installs = False
    assert scene.noted() == 1


def test_a_bug_leaves_no_node_entered(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bool:
        raise RuntimeError("a bug")

    monkeypatch.setattr(scene, "install", broken)
    scene.handles = scene.made()
    scene.noted(1)
    with pytest.raises(RuntimeError):
        scene.noted(1)
    assert (scene.shared.handles, len(scene.handles)) == (1, 0)


AGAINST = {
    "required": lambda s: setattr(s, "decision", dataclasses.replace(s.decision, audit=Audit.REQUIRED)),
    "monitored": lambda s: setattr(s, "decision", dataclasses.replace(s.decision, would_deny=("try",))),
    "a note": lambda s: setattr(s, "note", "odd"),
    "another policy": lambda s: setattr(s.gate, "generation", 4),
    "mediated": lambda s: setattr(s.handle, "mode", Mode.MEDIATED),
    "a writer": lambda s: setattr(s.request, "writing", True),
    "by its kind": lambda s: setattr(s.handle, "by_kind", True),
    "created": lambda s: setattr(s.handle, "created", True),
    "replaced": lambda s: setattr(s.replaced, "find", lambda node: 3),
    "missed before": lambda s: setattr(s.replaced, "is_wanted", lambda node: True),
    "many open files": lambda s: s.table.shares.take("app", 1 << 17),
    "many descriptors": lambda s: s.table.descriptors.take("app", 1 << 15),
    "switched off": lambda s: setattr(s.vectors, "in_use", False),
    "a copy in doubt": lambda s: (s.show_copy(), setattr(s, "final_copy", False)),
}


@pytest.mark.parametrize("against", AGAINST.values(), ids=AGAINST)
def test_what_hangs_on_more_is_not_repeated(scene: Scene, against: Any) -> None:
    against(scene)
    assert scene.noted() == 1
    assert scene.installed == []


def test_no_more_ids_are_kept_than_there_is_room_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge_handles, "_MOST", 0)
    scene.handles = scene.made()
    assert scene.noted(1) == 1, "one that has nothing gets some"
    scene.handles._shares.take("app")
    assert scene.noted() == 1


def test_one_app_leaves_room_for_others(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge_handles, "_MOST", 10)
    scene.handles = scene.made()
    scene.handles._shares.take("app", 6)
    assert scene.noted() == 1
    scene.request.caller.holder = "other"
    assert scene.noted() == 2
    assert scene.handles._shares.held("other") == 1
    scene.handles.end(scene.node)
    assert scene.handles._shares.held("other") == 0


def test_many_files_of_one_app_keep_no_other_file_from_being_a_repeat(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_handles, "_MOST", 10)
    scene.handles = scene.made()
    for nodeid in range(100, 145):
        scene.request.node = Known(**{**vars(scene.node), "nodeid": nodeid})
        assert scene.noted(1) == 1
        assert len(scene.handles._recent) + len(scene.handles._earlier) <= 20
    scene.request.node = scene.node
    assert scene.noted() == 2


def test_a_handle_of_the_bridge_is_in_the_table_once_it_is_looked_at(scene: Scene) -> None:
    scene.noted()
    scene.bridge.handles = [opened(71), opened(72, ctime_ns=8), opened(73, ctime_ns=2)]
    handle = scene.table.get(72)
    assert (handle.fh, handle.node, handle.mode, handle.generation) == (72, scene.node, Mode.PASSTHROUGH, 3)
    assert (handle.caller.uid, handle.caller.gid, handle.caller.pid, handle.fd) == (1000, 100, 42, -1)
    assert scene.shared.handles == 3
    assert scene.shared.stat is not None
    assert (scene.shared.stat.size, scene.shared.stat.ctime_ns, scene.shared.stat.dev) == (4, 8, 5)
    assert {one.fh for one in scene.table.of_node(scene.node)} == {71, 72, 73}
    assert scene.shared.stat.ctime_ns == 8
    assert scene.shared.handles == 5
    with pytest.raises(KeyError):
        scene.table.get(99)


def test_a_handle_that_python_takes_over_is_saved_before_the_bridge_drops_it(scene: Scene) -> None:
    """Otherwise a kill in between would lose it."""
    saved = scene.bridge.saved
    scene.table.saved = SimpleNamespace(opened=lambda handle: saved.append(("by Python", handle.fh)))
    scene.noted()
    scene.bridge.handles = [opened(71), opened(72)]
    assert len(scene.table.of_node(scene.node)) == 2
    assert saved == [(how, fh) for fh in (71, 72) for how in ("by Python", "not by the bridge")]
    assert len({handle.index for handle in scene.table}) == 2


def test_a_look_at_all_handles_leaves_those_of_the_bridge(scene: Scene) -> None:
    scene.noted()
    scene.bridge.handles = [opened(71)]
    assert (len(scene.table), list(scene.table), len(scene.bridge.handles)) == (0, [], 1)


def test_a_drop_takes_them_over(scene: Scene) -> None:
    for drop in (lambda: scene.handles.end(scene.node), scene.handles.end_all):
        scene.noted()
        fh = 71 + len(scene.table)
        scene.bridge.handles = [opened(fh)]
        drop()
        assert scene.bridge.handles == []
        assert scene.table.get(fh).fh == fh
        assert len(scene.handles) == 0


def test_shares_that_run_short_end_them(scene: Scene) -> None:
    scene.noted()
    scene.bridge.handles = [opened(71)]
    scene.table.shares.take("other", 1 << 17)
    caller: Any = SimpleNamespace(holder="app")
    scene.table.new_index(caller)
    assert (len(scene.handles), scene.bridge.handles) == (0, [])


def test_handles_that_are_taken_over_leave_a_share_for_others(scene: Scene) -> None:
    """The bridge counts no shares, so it opens no more once its handles have filled a quarter."""
    scene.noted()
    scene.table.shares.take("app", (1 << 16) - 1)
    for fh in (71, 72):
        assert len(scene.handles) == 1
        scene.bridge.handles = [opened(fh)]
        scene.table.get(fh)
    assert (len(scene.handles), scene.bridge.handles) == (0, [])
    assert len(scene.table) == 2


def test_a_vector_of_a_copy_and_each_of_its_handles_pin_the_copy(scene: Scene) -> None:
    copy = scene.show_copy()
    assert (scene.noted(), copy.pins["app"]) == (2, 1)
    assert scene.installed[0][-1] == 9
    scene.bridge.handles = [opened(71), opened(72)]
    handle = scene.table.get(71)
    assert (handle.copy, handle.payer, handle.facts, handle.hidden) == (
        copy, "app", FACTS, frozenset({"location"}),
    )  # fmt: skip
    assert copy.pins["app"] == 2
    scene.handles.end(scene.node)
    assert scene.table.get(72).copy is copy
    assert (copy.pins["app"], scene.shared.handles) == (2, 3), "those of its two handles are left"


def test_a_copy_stays_pinned_until_all_vectors_that_end_at_once_are_left(scene: Scene) -> None:
    copy = scene.show_copy()
    scene.noted()
    scene.bridge.handles = [opened(71)]
    scene.handles.end_all()
    assert scene.table.get(71).hidden == frozenset({"location"})
    assert copy.pins["app"] == 2
    scene.noted()
    assert copy.pins["app"] == 2, "entered anew, once"
    scene.handles.end_all()
    scene.handles.expire()
    assert copy.pins["app"] == 1


def test_only_the_app_that_pays_for_a_copy_gets_it_from_the_bridge(scene: Scene) -> None:
    copy = scene.show_copy()
    scene.noted()
    installed = len(scene.installed)
    scene.show_copy(payer="another")
    scene.noted()
    assert (len(scene.installed), len(scene.handles)) == (installed, 1)
    assert copy.pins == {"app": 1}


def test_vectors_of_copies_end_where_the_cache_has_no_room(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_handles, "_SPARED", 2)
    raw = scene.node
    scene.noted()
    copies = []
    for nodeid in range(8, 11):
        scene.node = scene.request.node = Known(**{**vars(raw), "nodeid": nodeid, "open": None})
        scene.node.open = scene.shared = OpenState(handles=1, mode=Mode.PASSTHROUGH, backing_id=nodeid)
        copies.append(scene.show_copy())
        scene.noted()
    pinned = lambda: [copy.pins["app"] for copy in copies]  # noqa: E731
    assert (pinned(), len(scene.handles)) == ([1, 1, 1], 4)
    assert scene.handles.spare_copies()
    assert (pinned(), len(scene.handles)) == ([0, 0, 1], 2)
    assert scene.handles.spare_copies()
    assert not scene.handles.spare_copies()
    assert (pinned(), len(scene.handles)) == ([0, 0, 0], 1), "that of the file stays"


TAKE_OVERS = {
    "age": lambda s: s.handles.expire(),
    "by number": lambda s: s.table.get(71),
    "of a node": lambda s: s.table.of_node(s.node),
}


@pytest.mark.parametrize("take_over", TAKE_OVERS.values(), ids=TAKE_OVERS)
def test_any_way_to_take_them_over_ends_vectors_beyond_a_quarter(scene: Scene, take_over: Any) -> None:
    scene.noted()
    scene.table.shares.take("app", 1 << 16)
    scene.bridge.handles = [opened(71)]
    take_over(scene)
    assert len(scene.handles) == 0
    assert scene.table.get(71).fh == 71


def test_unused_vectors_end_after_a_while(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.noted()
    scene.shared.handles -= 1  # its own handle was released
    now = [100.0]
    monkeypatch.setattr(bridge_handles.time, "monotonic", lambda: now[0])
    scene.bridge.handles = [opened(71)]
    scene.handles.expire()
    assert scene.bridge.handles == []
    scene.bridge.unused = [7, 8]
    scene.handles.expire()
    assert len(scene.handles) == 1, "not yet"
    now[0] += 3
    scene.handles.expire()
    assert len(scene.handles) == 1, "in the next parts"
    scene.handles.expire()
    assert len(scene.handles) == 0
    assert scene.given_back == [], "its handle is open"


def seen(time_ns: int, fh: int = 71, uid: int = 1000) -> Seen:
    return Seen(time_ns, fh, 7, uid, 100, 42, os.O_RDONLY, 4, 2, b"/bin/cat")


def test_all_at_once_end_at_once_and_are_left_in_parts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge_handles, "_PART", 2)
    monkeypatch.setattr(bridge_handles.time, "monotonic", lambda: 0.5)
    nodes = [scene.node]
    for nodeid in range(8, 12):
        node = Known(**{**vars(scene.node), "nodeid": nodeid, "open": OpenState(mode=Mode.PASSTHROUGH)})
        nodes.append(node)
    for node in nodes:
        scene.request.node = node
        scene.noted()
    scene.handles.end_all()
    assert len(scene.handles) == 0
    again = nodes[1]
    assert again.open.handles == 1
    scene.request.node = again
    scene.noted(1)
    assert (again.open.handles, len(scene.handles)) == (1, 1), "entered once, not twice"
    for left in (2, 0, 0):
        scene.handles.expire()
        assert sum(node.open is not None for node in nodes[2:]) + (nodes[0].open.handles - 1) == left
    assert scene.given_back == nodes[2:]
    assert (again.open.handles, len(scene.handles)) == (1, 1)
    scene.handles.end_all()
    scene.handles.end(again)
    assert again.open is None, "its space must be free at once"


def test_recorded_opens_are_on_the_trail_before_anything_that_follows(scene: Scene) -> None:
    scene.record()
    scene.noted()
    for follows in (
        lambda: scene.handles.end(scene.node), scene.handles.end_all, scene.handles.expire,
        lambda: scene.noted(1),
    ):  # fmt: skip
        scene.noted()
        scene.bridge.seen = [seen(5), seen(6)]
        scene.sink.events.clear()
        follows()
        assert [event.time_ns for event in scene.sink.events] == [5, 6]
        assert scene.bridge.seen == []


def test_a_repeat_that_is_answered_before_its_vector_is_noted_is_on_the_trail(scene: Scene) -> None:
    scene.record()
    scene.handles.events._templates[99] = ()  # another file has a vector
    scene.answers_at_once = True
    scene.noted()
    scene.handles.expire()
    assert [event.time_ns for event in scene.sink.events] == [5]


def test_events_that_files_share_take_little_memory(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_opens, "_DECIDED", 3)
    scene.record()
    for uid in range(20):
        scene.request.caller.uid, scene.request.caller.principal.label = uid, f"app{uid}"
        scene.noted()
        scene.handles.end(scene.node)
        assert len(scene.handles.events._decided) <= 3
        assert len(scene.handles.events) == 0


def test_an_unrecorded_vector_leaves_no_event(scene: Scene) -> None:
    scene.noted()
    scene.bridge.seen = [seen(5)]
    scene.handles.expire()
    assert (scene.sink.events, len(scene.bridge.seen)) == ([], 1)


def test_a_handle_has_one_number_on_the_trail(scene: Scene) -> None:
    scene.record()
    scene.noted()
    scene.bridge.seen, scene.bridge.handles = [seen(5)], [opened(71)]
    scene.handles.expire()
    (event,) = scene.sink.events
    assert event.handle == scene.table.get(71).index == index_of(71)


class Directories:
    """The table of open directories."""

    def __init__(self, handles: BridgeHandles) -> None:
        self.has_plenty = True
        self.taken: list[int] = []
        handles.directories = self

    def adopt(self, fh: int, node: Any, caller: Any) -> None:
        assert (node.nodeid, caller.uid, caller.gid, caller.pid) == (7, 1000, 100, 42)
        self.taken.append(fh)


@pytest.fixture
def directories(scene: Scene) -> Directories:
    scene.node.ftype = FileType.DIRECTORY
    return Directories(scene.handles)


TAKES = {
    "one": lambda handles, node: handles.take(71),
    "those of a node": lambda handles, node: handles.take_of(node),
    "at the end of a vector": lambda handles, node: handles.end(node),
    "at the end of all": lambda handles, node: handles.end_all(),
    "at the end of those of directories": lambda handles, node: handles.end_directories(),
    "after some seconds": lambda handles, node: handles.expire(),
}


@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
def test_a_directory_comes_into_its_own_table(scene: Scene, directories: Directories, take: Any) -> None:
    scene.handles.opened_directory(scene.node, scene.request.caller)
    scene.bridge.handles = [opened(71)]
    take(scene.handles, scene.node)
    assert (directories.taken, len(scene.table), scene.shared.handles) == ([71], 0, 1)


def test_directories_that_leave_no_plenty_end_those_of_the_bridge(
    scene: Scene, directories: Directories
) -> None:
    scene.handles.opened_directory(scene.node, scene.request.caller)
    directories.has_plenty = False
    scene.bridge.handles = [opened(71), opened(72)]
    scene.handles.take(71)
    assert directories.taken == [71, 72]
    scene.record()
    scene.handles.opened_directory(scene.node, scene.request.caller)
    assert len(scene.handles.events) == 0


@pytest.mark.parametrize("installs", [True, False])
def test_the_event_of_a_directory_is_known_while_it_may_be_opened(
    scene: Scene, directories: Directories, installs: bool
) -> None:
    scene.installs = installs
    scene.record()
    scene.handles.opened_directory(scene.node, scene.request.caller)
    assert len(scene.handles.events) == int(installs)
    scene.handles.end(scene.node)
    assert len(scene.handles.events) == 0
    assert directories.taken == []


def test_one_directory_more_takes_the_place_of_the_oldest(
    scene: Scene, directories: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_handles, "_MOST_LISTED", 2)
    scene.record()
    nodes: list[Any] = [Known(**vars(scene.node) | {"nodeid": number}) for number in (7, 8, 9)]
    scene.bridge.handles = [opened(71)]
    for node in (nodes[0], nodes[1], nodes[0]):
        scene.handles.opened_directory(node, scene.request.caller)
    assert (len(scene.handles.events), directories.taken) == (2, [])
    scene.handles.opened_directory(nodes[2], scene.request.caller)
    assert (len(scene.handles.events), directories.taken) == (2, [71])
    scene.handles.end(nodes[0])
    assert len(scene.handles.events) == 2
