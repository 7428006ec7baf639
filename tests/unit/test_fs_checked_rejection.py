"""Refused content: on record with its rules, and its file removed wherever it is now."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.domain import Decision, Op, RuleMatch
from policyfs.fs.checked.rejection import Rejections, must_be
from policyfs.fs.inodes.node import Node
from policyfs.kernel.bridge import pyfuse3
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, OPEN, append, before_names_are_locked, replace

RULES = (RuleMatch("types", "content", Op.WRITE), RuleMatch("all", "allow", Op.WRITE))


def test_only_rules_about_content_are_named() -> None:
    assert Rejections.rules_of(Decision(allowed=True, errno=0, rules=RULES)) == RULES[:1]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([frozenset({"image/png", "image/jpeg"})], "content must be one of image/jpeg, image/png"),
        ([frozenset({"b/c"}), frozenset({"a/b"})], "content must be one of b/c and one of a/b"),
    ],
)
def test_the_note_names_what_would_do(content: list[frozenset[str]], text: str) -> None:
    assert must_be(content) == text


@on_trio
async def test_a_refusal_is_a_required_event_with_the_kind(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        rejections = Rejections(made.fs, lambda _node: None)
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        decision = Decision(allowed=True, errno=0, rules=RULES)
        with pytest.raises(pyfuse3.FUSEError) as caught:
            rejections.refuse(handle, decision, "text/plain", "a note")
        assert caught.value.errno == errno.EPERM
        event = made.sink.events[-1]
        assert (event.decision, event.errno, event.path) == ("deny", errno.EPERM, b"/a.jpg")
        assert (event.kind, event.note, event.rules) == ("text/plain", "a note", ("types",))


@pytest.mark.parametrize("moved", ["", "elsewhere", "gone"])
def test_the_file_is_removed_also_if_it_was_moved_and_its_names_are_forgotten(
    store: Path, moved: str
) -> None:
    (store / "d").mkdir()

    @on_trio
    async def run() -> None:
        forgotten: list[Node] = []
        with parts(store, engine_of(OPEN)) as made:
            rejections = Rejections(made.fs, forgotten.append)
            handle = await made.open("/empty", os.O_RDWR, CAMERA)
            if moved == "elsewhere":
                (store / "empty").rename(store / "d/b.jpg")
            elif moved == "gone":
                (store / "empty").unlink()
            before = len(os.listdir("/proc/self/fd"))
            await rejections.remove(handle, lambda: True)
            assert len(os.listdir("/proc/self/fd")) == before
            left = [*os.listdir(store), *os.listdir(store / "d")]
            assert sorted(left) == ["a.jpg", "d"]
            assert forgotten == ([] if moved == "gone" else [handle.node])

    run()


@on_trio
async def test_a_file_that_took_the_name_is_not_removed(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/empty", os.O_RDWR, CAMERA)
        (store / "other").write_bytes(b"other")
        (store / "empty").rename(store / "moved.jpg")
        (store / "other").rename(store / "empty")
        await Rejections(made.fs, lambda _node: None).remove(handle, lambda: True)
        assert (store / "empty").read_bytes() == b"other"
        assert not (store / "moved.jpg").exists()


@pytest.mark.parametrize("moved", [False, True], ids=["by-name", "by-descriptor"])
def test_a_file_that_takes_the_name_in_the_last_moment_is_not_removed(
    store: Path, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            handle = await made.open("/empty", os.O_RDWR, CAMERA)
            path = store / ("moved.jpg" if moved else "empty")
            if moved:
                (store / "empty").rename(path)
            before_names_are_locked(monkeypatch, lambda: replace(path, b"other"))
            await Rejections(made.fs, lambda _node: None).remove(handle, lambda: True)
            assert path.read_bytes() == b"other"
            assert sorted(os.listdir(store)) == sorted(["a.jpg", path.name])

    run()


@on_trio
async def test_a_file_that_another_program_writes_in_the_last_moment_stays(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/empty", os.O_RDWR, CAMERA)
        before_names_are_locked(monkeypatch, lambda: append(store / "empty", b"accepted"))
        await Rejections(made.fs, lambda _node: None).remove(handle, lambda: True)
        assert (store / "empty").read_bytes() == b"accepted"
        assert sorted(os.listdir(store)) == ["a.jpg", "empty"]
