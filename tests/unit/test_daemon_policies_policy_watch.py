"""Marks of a policy's files, and reloads after changes of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from policyfs.daemon.end import MountEnd
from policyfs.daemon.log import Notice
from policyfs.daemon.policies import policy_watch
from policyfs.errors import PolicyfsError, UnreadableError

REFUSED = Notice.POLICY_REFUSED.text


class _Log:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, event: str, **fields: object) -> None:
        assert fields["id"] == "policy-refused"
        self.warnings.append(f"{event}: {fields['reason']}")


def test_marks_change_with_the_files(tmp_path: Path) -> None:
    assert policy_watch.marks(tmp_path / "none.yaml") == ()
    assert policy_watch.marks(tmp_path) == ()
    first = tmp_path / "a.yaml"
    first.write_text("a")
    one = policy_watch.marks(tmp_path)
    assert [mark.name for mark in one] == ["a.yaml"]
    other = tmp_path / "new"
    other.write_text("b")
    os.rename(other, first)
    assert policy_watch.marks(tmp_path) != one
    (tmp_path / "README").write_text("no policy")
    (tmp_path / "b.yaml").write_text("b")
    assert [mark.name for mark in policy_watch.marks(tmp_path)] == ["a.yaml", "b.yaml"]


@pytest.mark.parametrize("refused", [False, True])
def test_a_change_is_loaded_once_and_the_same_text_never(tmp_path: Path, refused: bool) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("first")
    in_force, loads, log = ["first"], [], _Log()

    async def reload(by: MountEnd) -> None:
        assert by.cause == "watch"
        loads.append(file.read_text())
        if refused:
            raise PolicyfsError("not so")
        in_force[0] = file.read_text()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(policy_watch.watch, file, lambda: file.read_text() != in_force[0], reload, log)
            for text in ("first", "second", "second", "third"):
                file.write_text(text)
                os.utime(file, ns=(1, len(loads) + len(text)))
                await trio.sleep(1.6)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert loads[:1] == ["second"]
    assert loads[-1] == "third"
    assert len(loads) in ({2} if not refused else {2, 3})
    assert log.warnings == [f"{REFUSED}: not so"] * (len(loads) * refused)


def test_missing_files_are_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_watch, "_LOOK_S", 0.02)
    file, log, asked = tmp_path / "a.yaml", _Log(), list[bool]()
    file.write_text("first")

    def is_new() -> bool:
        asked.append(True)
        return False

    async def reload(by: MountEnd) -> None:
        raise AssertionError("nothing has changed")

    async def until(done: Callable[[], bool]) -> None:
        with trio.fail_after(30):
            while not done():  # noqa: ASYNC110 - the watch has no event to wait for
                await trio.sleep(0.01)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(policy_watch.watch, file, is_new, reload, log)
            await until(lambda: len(asked) == 1)
            file.rename(tmp_path / "away")
            await until(lambda: bool(log.warnings))
            await trio.sleep(0.2)
            (tmp_path / "away").rename(file)
            await until(lambda: len(asked) == 2)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert log.warnings == [f"{REFUSED}: no file at {file}"]


@pytest.mark.parametrize("late", [False, True])
def test_a_policy_that_cannot_be_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """late: is_new() can read the file, and the reload cannot. Each reload is a record in the trail."""
    monkeypatch.setattr(policy_watch, "_LOOK_S", 0.02)
    file, log, fails, loads = tmp_path / "a.yaml", _Log(), [5], trio.Event()
    file.write_text("tighter")

    def read() -> None:
        if fails[0]:
            fails[0] -= 1
            raise UnreadableError("stale file handle")

    def is_new() -> bool:
        if not late:
            read()
        return not loads.is_set()

    async def reload(by: MountEnd) -> None:
        read()
        assert not loads.is_set()
        loads.set()

    async def main() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(policy_watch.watch, file, is_new, reload, log)
                await loads.wait()
                file.rename(tmp_path / "away")
                while len(log.warnings) < 2:  # noqa: ASYNC110 - the watch has no event to wait for
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert log.warnings == [
        f"{REFUSED}: stale file handle",
        f"{REFUSED}: no file at {file}",
    ]


@pytest.mark.parametrize("blocked", ["marks", "is_new"])
def test_a_disk_that_hangs_does_not_keep_the_watch_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocked: str
) -> None:
    """A daemon with --watch ends although the disk of its policy hangs."""
    file, hangs, answer = tmp_path / "a.yaml", threading.Event(), threading.Event()
    file.write_text("first")
    monkeypatch.setattr(policy_watch, "_LOOK_S", 0.02)

    def hang(*_: object) -> bool:
        hangs.set()
        answer.wait(60)
        return False

    if blocked == "marks":
        monkeypatch.setattr(policy_watch, "marks", hang)

    async def reload(by: MountEnd) -> None:
        raise AssertionError("nothing was read")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(policy_watch.watch, file, hang, reload, _Log())
            assert await trio.to_thread.run_sync(hangs.wait, 30)
            nursery.cancel_scope.cancel()

    rescue = threading.Timer(10, answer.set)
    rescue.start()
    try:
        trio.run(main)
        assert not answer.is_set(), "the watch waited for the disk"
    finally:
        rescue.cancel()
        answer.set()
