"""Opens for writing around a reload: the kernel tries once more after ESTALE, and no more than that."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from policyfs.fs.access.ledger import Ledger
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node
from policyfs.fs.opening.stale_retries import SecondTries
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.samples import jpegs

GALLERY, OTHER = 10011, 10012
PHOTO = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
HIDE = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: no-location, require: {redact: location}, who: {app: gallery}, paths: "/DCIM/**"}
"""
OTHERWISE = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: no-device, require: {redact: device}, who: {app: maps}, paths: "/DCIM/**"}
- {id: no-location, require: {redact: location}, who: {app: gallery}, paths: "/DCIM/**", description: x}
"""
REQUIRED = HIDE.replace("{app: any}", "{app: any}, audit: required")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "DCIM").mkdir()
    (tmp_path / "DCIM/a.jpg").write_bytes(PHOTO)
    return tmp_path


class Kernel:
    """open(2) as the kernel makes it of LOOKUP and OPEN: once more after ESTALE, with new look-ups."""

    def __init__(self, made: Parts, at: dict[str, Callable[[], object]]) -> None:
        """at: what happens at "looked up", "stale", "looked up again"."""
        self.made, self.at = made, at
        self.known: Node | None = None

    async def open(self, flags: int) -> Handle:
        caller = self.made.caller(GALLERY)
        node = self.known or await self._look_up("looked up")
        try:
            return await self.made.opener.open(node, flags, caller)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        self._happens("stale")
        return await self.made.opener.open(await self._look_up("looked up again"), flags, caller)

    async def _look_up(self, then: str) -> Node:
        node = await self.made.walk("/DCIM/a.jpg", GALLERY)
        self._happens(then)
        return node

    def _happens(self, at: str) -> None:
        self.at.pop(at, lambda: None)()


def reloads(made: Parts, text: str = OTHERWISE) -> Callable[[], None]:
    """Takes another policy, under which others are met before our caller: its views get other numbers."""

    def reload() -> None:
        made.reload(engine_of(text))
        root = made.gate.engine.root
        state = made.gate.engine.child(made.gate.engine.child(root, b"DCIM"), b"a.jpg")
        made.gate.engine.view(made.gate.principal(OTHER), state)

    return reload


@pytest.mark.parametrize("flags", [os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_TRUNC])
@pytest.mark.parametrize("moment", ["looked up", "stale"])
@on_trio
async def test_a_reload_around_an_open_for_writing(store: Path, flags: int, moment: str) -> None:
    with parts(store, engine_of(HIDE)) as made:
        handle = await Kernel(made, {moment: reloads(made)}).open(flags)
        assert handle.writable


@on_trio
async def test_a_first_try_that_a_reload_overtakes(store: Path, monkeypatch) -> None:
    """It was at a writer's node already; the second try must find one again, and not a reader's."""
    with parts(store, engine_of(HIDE)) as made:
        kernel = Kernel(made, {})
        first = await kernel.open(os.O_WRONLY | os.O_TRUNC)
        (store / "DCIM/a.jpg").write_bytes(PHOTO)
        await made.release(first)
        _reloads_once(made, monkeypatch)
        kernel.known = first.node  # its entry is still believed: no look-up comes before
        handle = await kernel.open(os.O_WRONLY | os.O_TRUNC)
        assert handle.writable
        assert handle.node is not first.node


@on_trio
async def test_a_reload_waits_for_second_tries(store: Path, monkeypatch) -> None:
    with parts(store, engine_of(HIDE)) as made:
        writer, come, go = made.write_access.writer, trio.Event(), trio.Event()
        happened: list[str] = []

        async def waiting(node: Node, fd: int, **options: bool) -> int:
            come.set()
            await go.wait()
            return await writer(node, fd, **options)

        async def open_it() -> None:
            await Kernel(made, {}).open(os.O_WRONLY | os.O_TRUNC)
            happened.append("opened")

        async def reload() -> None:
            assert await made.opener.second_tries.settled(10)
            reloads(made)()
            happened.append("reloaded")

        monkeypatch.setattr(made.write_access, "writer", waiting)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_it)
            await come.wait()
            nursery.start_soon(reload)
            await trio.sleep(0.05)
            assert happened == []
            go.set()
        assert happened == ["opened", "reloaded"]


@on_trio
async def test_it_does_not_wait_for_those_that_never_come() -> None:
    now = 0.0
    tries = SecondTries(lambda: now)
    tries.sent_back(7, "app")
    assert not await tries.settled(0.01)
    now = 2.0
    assert await tries.settled(0.01)
    tries.sent_back(7, "app")
    assert tries.begins(7)
    assert not tries.begins(7), "the next open is none"
    assert not await tries.settled(0.01)
    tries.ends(7)
    assert await tries.settled(0.01)


@on_trio
async def test_a_look_up_that_a_reload_overtakes_is_decided_anew(store: Path) -> None:
    """ESTALE would use up the second try of the open that it is part of."""
    by_kind = (
        '- {id: photos, allow: [all], who: {app: any}, paths: "/**", when: {type: [image/*, inode/*]}}\n'
    )
    with parts(store, engine_of(by_kind)) as made:
        gate = made.sniffed.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.walk, "/DCIM/a.jpg", GALLERY)
            await made.sniffed.asked.wait()
            made.reload(engine_of(by_kind))
            gate.set()


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
@on_trio
async def test_a_bug_after_the_last_step_leaves_no_handle(store: Path, monkeypatch, flags: int) -> None:
    """The kernel does not get to know the handle, so it would never be released."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    with parts(store, engine_of(HIDE)) as made:
        node = await made.walk("/DCIM/a.jpg", OTHER)
        descriptors = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(made.opener._bridge_handles, "opened", broken)
        with pytest.raises(RuntimeError):
            await made.opener.open(node, flags, made.caller(OTHER))
        assert len(made.handles) == 0
        assert node.open is None
        assert len(os.listdir("/proc/self/fd")) == descriptors


def _reloads_once(made: Parts, monkeypatch) -> None:
    """The next open for writing is overtaken by a reload when the file is open already."""
    writer, left = made.write_access.writer, [reloads(made)]

    async def reloading(node: Node, fd: int, **options: bool) -> int:
        got = await writer(node, fd, **options)
        if left:
            left.pop()()
        return got

    monkeypatch.setattr(made.write_access, "writer", reloading)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
@on_trio
async def test_a_reload_while_an_open_is_put_on_record_is_not_overtaken(
    store: Path, monkeypatch, flags: int
) -> None:
    """What the old policy allowed is not handed out under the new one."""
    with parts(store, engine_of(HIDE)) as made:
        node = await made.walk("/DCIM/a.jpg", OTHER)
        recorded = made.gate.recorder.recorded

        async def late(*arguments, **fields) -> bool:
            await recorded(*arguments, **fields)
            reloads(made)()
            return True

        monkeypatch.setattr(made.gate.recorder, "recorded", late)
        with pytest.raises(OSError) as refusal:
            await made.opener.open(node, flags, made.caller(OTHER))
        assert refusal.value.errno == errno.ESTALE
        assert not list(made.handles)


@on_trio
async def test_an_open_that_meets_a_reload_after_its_pace_rests_and_keeps_its_place(store: Path) -> None:
    """Else 32 such opens leave no room for the second try that the reload waits for."""
    with parts(store, engine_of(REQUIRED)) as made:
        node = await made.walk("/DCIM/a.jpg", OTHER)
        tries, other = made.opener.second_tries, made.caller(OTHER)
        other.pid = 77
        admit, paces = made.sink.admit, iter([0.01])
        rested: list[int] = []

        def admitted(event, audit, *, paid: bool = False):
            ticket = admit(event, audit, paid=paid)
            if (wait_s := next(paces, 0.0)) and ticket is not None:
                tries.sent_back(78, other.holder)
                nursery.start_soon(tries.settled, 5)
                ticket.wait_s = wait_s
            return ticket

        made.sink.admit = admitted
        async with trio.open_nursery() as nursery:

            async def opens() -> None:
                with Ledger():
                    opened = await made.opener.open(node, os.O_RDONLY, other, lambda: rested.append(1))
                    await made.release(opened)

            nursery.start_soon(opens)
            with trio.fail_after(5):
                while not rested:  # noqa: ASYNC110 - the open has no event for that
                    await trio.sleep(0.001)
            assert tries.begins(78)
            tries.ends(78)
        assert rested == [1]
