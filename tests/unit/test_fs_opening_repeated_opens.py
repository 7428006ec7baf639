"""Events of opens that the bridge has answered: made from the one that Python decided, and put in order."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from policyfs.domain import NO_RANGES, Audit, Decision, Op, Ranges, RuleMatch
from policyfs.fs.access.audit import Call, Recorder
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.opening import repeated_opens
from policyfs.fs.opening.repeated_opens import RepeatedOpens
from policyfs.fs.opening.request import call_of
from policyfs.kernel import vectors
from policyfs.kernel.bridge import MAX_INDEX
from policyfs.kernel.vectors import Answer, Seen
from policyfs.policy.raw_names import Changes
from policyfs.trail.lines.bounds import RANGES_LIMIT, bounded
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Sink
from tests.support.mount.steps import CAMERA, OPEN

ALLOWED = Decision(
    allowed=True, errno=0, audit=Audit.BEST_EFFORT, rules=(RuleMatch("all", "allow", Op.READ),),
)  # fmt: skip


def seen(time_ns: int, *, uid: int = CAMERA, nodeid: int = 7, flags: int = os.O_RDONLY, fh: int = 3) -> Seen:
    return Seen(time_ns, fh, nodeid, uid, 12, 34, flags, 56, 78, b"/bin/c\xe4t")


class Scene:
    """A file whose opens by the bridge are recorded; bridge: the events that it has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bridge: list[Seen] = []
        monkeypatch.setattr(repeated_opens, "vectors", SimpleNamespace(
            take_events=self.take, index_of=vectors.index_of, events_bell=lambda: self.bell,
        ))  # fmt: skip
        self.bell = -1
        self.sink = Sink()
        self.recorder = Recorder(self.sink, "/mnt")
        self.recorder.use_policy(3, "d" * 64)
        self.opens = RepeatedOpens(self.recorder)

    def take(self) -> list[Seen]:
        taken = self.bridge[:]
        self.bridge.clear()
        return taken

    def opening(self, uid: int = CAMERA, nodeid: int = 7) -> Any:
        node = SimpleNamespace(nodeid=nodeid, path=lambda: b"/a", view=SimpleNamespace(label="raw"))
        caller = Caller(engine_of(OPEN).principal, uid, 1, 1, 0)
        request = SimpleNamespace(node=node, caller=caller, call=call_of(os.O_RDONLY))
        return SimpleNamespace(
            request=request, handle=SimpleNamespace(mode=Mode.PASSTHROUGH), kind=None, redacted=NO_RANGES,
            evidence=KindEvidence(),
        )  # fmt: skip

    def note(self, uid: int = CAMERA, nodeid: int = 7) -> None:
        self.opens.note(self.opening(uid, nodeid), ALLOWED)

    def has_room(self, uid: int, nodeid: int = 7) -> bool:
        request = self.opening(uid, nodeid).request
        return self.opens.has_room(request.node, request.caller)


def test_a_long_path_has_no_room(scene: Scene) -> None:
    """It would stay in memory, once for each uid, as long as the vector."""
    caller = scene.opening().request.caller
    for size, has_room in ((1024, True), (1025, False)):
        node: Any = SimpleNamespace(nodeid=7, path=lambda size=size: b"/" * size)
        assert scene.opens.has_room(node, caller) is has_room


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_an_event_is_that_of_its_process_under_the_policy_that_decided(scene: Scene) -> None:
    scene.note()
    scene.bridge += [seen(9)]
    scene.opens.settle()
    (event,) = scene.sink.events
    assert (event.time_ns, event.uid, event.gid, event.pid, event.exe) == (9, CAMERA, 12, 34, "/bin/c\\xe4t")
    assert (event.path, event.rules, event.decision, event.app) == (b"/a", ("all",), "allow", "camera")
    assert (event.operation, event.syscall) == ("open", "open(O_RDONLY)")
    assert (event.io, event.view, event.mount, event.policy_generation) == ("passthrough", "raw", "/mnt", 3)
    assert (event.size_before, event.mtime_before_ns, event.handle) == (56, 78, MAX_INDEX + 1 + 3)


def test_the_event_of_a_directory_has_no_handle_and_no_version(scene: Scene) -> None:
    request = scene.opening().request
    scene.opens.note_listing(request.node, request.caller, ALLOWED)
    scene.bridge += [seen(9, flags=0)]
    scene.opens.settle()
    (event,) = scene.sink.events
    assert (event.time_ns, event.uid, event.gid, event.pid, event.exe) == (9, CAMERA, 12, 34, "/bin/c\\xe4t")
    assert (event.path, event.rules, event.decision, event.app) == (b"/a", ("all",), "allow", "camera")
    assert (event.operation, event.syscall) == ("list", "opendir")
    assert (event.size_before, event.mtime_before_ns, event.handle) == (None, None, None)


def test_events_of_all_readers_are_in_order(scene: Scene) -> None:
    scene.note()
    scene.bridge += [seen(9), seen(11), seen(8, fh=99), seen(10, fh=99)]
    scene.opens.settle()
    assert [event.time_ns for event in scene.sink.events] == [8, 9, 10, 11]


def test_another_event_comes_after_those_before_it(scene: Scene) -> None:
    scene.note()
    scene.bridge += [seen(1)]
    caller = Caller(engine_of(OPEN).principal, CAMERA, 1, 1, 0)
    scene.recorder.decided(caller, Call("unlink", "unlink"), b"/a", ALLOWED)
    assert [event.operation for event in scene.sink.events] == ["open", "unlink"]


def test_each_caller_has_its_own(scene: Scene) -> None:
    scene.note()
    scene.note(uid=4)
    scene.bridge += [seen(1), seen(2, uid=4)]
    scene.opens.settle()
    assert [(event.uid, event.app) for event in scene.sink.events] == [(CAMERA, "camera"), (4, "stranger")]


def test_there_is_room_for_as_many_callers_as_in_the_bridge(scene: Scene) -> None:
    for uid in range(4):
        assert scene.has_room(uid)
        scene.note(uid)
    assert scene.has_room(3)
    assert not scene.has_room(4)
    assert scene.has_room(4, nodeid=8)
    scene.opens.forget(7)
    assert scene.has_room(4)


def test_events_are_on_the_trail_before_they_are_forgotten(scene: Scene) -> None:
    for forget in (lambda: scene.opens.forget(7), scene.opens.forget_all):
        scene.note()
        scene.bridge += [seen(1)]
        scene.sink.events.clear()
        forget()
        assert len(scene.sink.events) == 1
        assert len(scene.opens) == 0


def test_an_open_that_nobody_decided_is_a_bug_and_hides_no_other(scene: Scene) -> None:
    scene.note()
    scene.bridge += [seen(1, nodeid=8), seen(2), seen(3, uid=5)]
    with pytest.raises(RuntimeError, match="2 opens"):
        scene.opens.settle()
    assert [event.time_ns for event in scene.sink.events] == [2]


def test_changes_of_files_in_a_directory_are_events_of_each_file(scene: Scene) -> None:
    request = scene.opening().request
    scene.opens.note_files(
        request.node, request.caller, ALLOWED, Changes(*[ALLOWED] * 3, written=ALLOWED)
    )
    flags = os.O_WRONLY | os.O_EXCL
    scene.bridge += [
        seen(number + 1, flags=5 if kind is Answer.SET else flags)._replace(
            parent=7, name=b"new", kind=kind, size_after=5, mtime_after_ns=6
        )
        for number, kind in enumerate(
            (Answer.MADE, Answer.SET, Answer.RELEASED, Answer.WRITTEN, Answer.REMOVED)
        )
    ]
    scene.opens.settle()
    made, dated, released, written, removed = scene.sink.events
    handle = MAX_INDEX + 1 + 3
    assert {event.path for event in scene.sink.events} == {b"/a/new"}
    assert (made.operation, made.syscall) == ("create", "open(O_WRONLY|O_CREAT|O_EXCL)")
    assert (made.handle, made.size_before, made.io, made.rules) == (handle, None, "passthrough", ("all",))
    assert (dated.operation, dated.syscall) == ("attr", "chmod+utimens")
    assert (dated.handle, dated.size_before) == (None, None)
    assert (released.operation, released.syscall, released.handle) == ("release", "close", handle)
    assert (released.size_before, released.mtime_before_ns) == (56, 78)
    assert (released.size_after, released.mtime_after_ns, released.rules) == (5, 6, ())
    assert (written.operation, written.syscall, written.handle) == (
        "open",
        "open(O_WRONLY|O_EXCL)",
        handle,
    )
    assert (written.size_before, written.mtime_before_ns, written.io) == (56, 78, "passthrough")
    assert (removed.operation, removed.syscall, removed.handle) == ("unlink", "unlink", None)
    assert (removed.size_before, removed.mtime_before_ns, removed.io) == (56, 78, "")


def test_a_rename_has_both_paths_and_the_version_of_what_it_replaced(scene: Scene) -> None:
    request = scene.opening().request
    scene.opens.note_files(request.node, request.caller, ALLOWED, Changes(*[ALLOWED] * 4))
    scene.bridge += [
        seen(fh + 1, flags=1 - fh, fh=fh)._replace(
            parent=7, name=b"old", kind=Answer.MOVED, new_parent=7, new_name=b"new"
        )
        for fh in (0, 1)
    ]
    scene.opens.settle()
    found = [
        (one.operation, one.syscall, one.path, one.new_path, one.size_before, one.mtime_before_ns, one.rules)
        for one in scene.sink.events
    ]
    paths, rules = (b"/a/old", b"/a/new"), ("all",)
    assert found == [
        ("rename", "renameat2(RENAME_NOREPLACE)", *paths, None, None, rules),
        ("rename", "rename", *paths, 56, 78, rules),
    ]


def test_a_release_is_on_record_though_the_changes_are_not(scene: Scene) -> None:
    """As by Python."""
    request, off = scene.opening().request, Decision(allowed=True, errno=0, audit=Audit.OFF)
    scene.opens.note_files(request.node, request.caller, off, Changes(off, off, off))
    scene.bridge += [seen(1)._replace(parent=7, name=b"new", kind=Answer.RELEASED)]
    scene.opens.settle()
    assert [event.operation for event in scene.sink.events] == ["release"]


def test_opens_are_put_on_record_each_time_the_bell_rings(scene: Scene) -> None:
    scene.note()
    scene.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    async def ring() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(scene.opens.run)
                for time_ns in (1, 2):
                    await trio.testing.wait_all_tasks_blocked()
                    scene.bridge += [seen(time_ns)]
                    os.eventfd_write(scene.bell, 1)
                    while scene.bridge:  # noqa: ASYNC110 - no event: the work itself takes them
                        await trio.sleep(0.001)
                nursery.cancel_scope.cancel()

    try:
        trio.run(ring)
        with pytest.raises(BlockingIOError):
            os.read(scene.bell, 8)
    finally:
        os.close(scene.bell)
    assert [event.time_ns for event in scene.sink.events] == [1, 2]


def test_without_vectors_there_is_no_bell_to_wait_for(scene: Scene) -> None:
    trio.run(scene.opens.run)


def test_an_open_that_is_not_recorded_leaves_nothing(scene: Scene) -> None:
    scene.opens.note(scene.opening(), Decision(allowed=True, errno=0, audit=Audit.OFF))
    assert len(scene.opens) == 0


def test_a_file_with_very_many_hidden_ranges_keeps_as_many_as_the_trail_has(scene: Scene) -> None:
    """Each repeat would count them, and the other files' events would keep them."""
    opening = scene.opening()
    opening.redacted = Ranges(tuple((place, 1) for place in range(RANGES_LIMIT)), 50_000, 50_000)
    scene.opens.note(opening, ALLOWED)
    (template,) = scene.opens._templates[7]
    assert len(template.event.redacted) <= RANGES_LIMIT
    assert len(scene.opens._decided) == 0
    scene.bridge.append(seen(5))
    scene.opens.settle()
    (event,) = scene.sink.events
    assert bounded(event) is event
    assert event.path == b"/a"
