"""Cleaning: the store gets a copy without the forbidden data, and the draft stays."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from policyfs.domain import Patch
from policyfs.fs.checked import cleaning
from policyfs.fs.checked.cleaning import Cleaned, Cleaner
from policyfs.fs.redacted.plans import PlanFinder
from policyfs.redact.core.values import Outcome, Plan, RemovedPart
from policyfs.store import freeing
from policyfs.store.tree import Tree
from tests.support.mount.file_system import Sniffed, on_trio
from tests.support.mount.steps import PHOTO
from tests.support.samples import jpegs

PLACE = frozenset({"location"})
LATITUDE = jpegs.pack("II", *jpegs.LATITUDE)
OWNER = (4242, 4243)


@pytest.fixture
def cleaner(store: Path) -> Iterator[Cleaner]:
    with Tree.open(str(store)) as tree:
        yield Cleaner(tree, PlanFinder(Sniffed(), None))


def cleaned(cleaner: Cleaner, path: Path) -> Cleaned:
    found: list[Cleaned] = []
    fd = os.open(path, os.O_RDONLY)

    @on_trio
    async def run() -> None:
        found.append(await cleaner.clean(fd, PLACE, OWNER, "a"))

    run()
    os.close(fd)
    return found[0]


def test_a_photo_with_a_place_is_copied_without_it(cleaner: Cleaner, store: Path) -> None:
    names = sorted(os.listdir(store))
    made = cleaned(cleaner, store / "a.jpg")
    data = os.pread(made.fd, 1 << 20, 0)
    assert len(data) == len(PHOTO)
    assert LATITUDE in PHOTO
    assert LATITUDE not in data
    assert (store / "a.jpg").read_bytes() == PHOTO
    assert made.kind == "image/jpeg"
    assert made.note.startswith("cleaned of location: EXIF ")
    status = os.fstat(made.fd)
    assert (status.st_uid, status.st_gid, status.st_nlink) == (*OWNER, 0)
    assert sorted(os.listdir(store)) == names
    made.close()
    made.close()


def test_a_file_without_one_is_not_copied_and_another_kind_is_refused(cleaner: Cleaner, store: Path) -> None:
    (store / "plain.jpg").write_bytes(jpegs.plain())
    made = cleaned(cleaner, store / "plain.jpg")
    assert (made.fd, made.note, made.refusal) == (-1, "", "")
    for data in (b"words and more words", b"\1\2\3"):
        (store / "odd").write_bytes(data)
        made = cleaned(cleaner, store / "odd")
        assert made.fd == -1
        assert made.refusal.startswith("cannot be cleaned of location: ")


def test_a_copy_that_fails_leaves_no_descriptor(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_source: int, _target: int, _size: int) -> None:
        raise OSError(28, "no room")

    monkeypatch.setattr(cleaning.ranges, "copy_all", fail)
    with Tree.open(str(store)) as tree:
        before = sorted(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="no room"):
            cleaned(Cleaner(tree, PlanFinder(Sniffed(), None)), store / "a.jpg")
        assert len(os.listdir("/proc/self/fd")) <= len(before) + 1  # of the photo, which the test left open


@pytest.mark.parametrize(
    ("name", "clean"), [("a.jpg", False), ("empty", True), ("plain.jpg", True), ("odd", False)]
)
def test_whether_a_file_is_clean(cleaner: Cleaner, store: Path, name: str, clean: bool) -> None:
    (store / "plain.jpg").write_bytes(jpegs.plain())
    (store / "odd").write_bytes(b"\1\2\3")
    fd = os.open(store / name, os.O_RDONLY)

    @on_trio
    async def run() -> None:
        assert await cleaner.is_clean(fd, PLACE, "a") is clean

    run()
    os.close(fd)


def test_patches_are_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "_PIECE", 3)
    monkeypatch.setattr(cleaning, "_ZEROS", bytes(3))
    (tmp_path / "f").write_bytes(b"x" * 20)
    fd = os.open(tmp_path / "f", os.O_RDWR)
    cleaning._patch(fd, (Patch(1, b"abcdefg"), Patch(10, zeros=7)))
    os.close(fd)
    assert (tmp_path / "f").read_bytes() == b"xabcdefgxx" + bytes(7) + b"xxx"


def test_what_was_removed_is_told_in_our_own_words() -> None:
    findings = tuple(RemovedPart(at, 1, "EXIF", f"tag {at}", "location") for at in range(5))
    some = Plan(Outcome.PATCH, (Patch(0, b"x"),), findings[:2])
    assert cleaning._told(some) == "EXIF tag 0 at 0; EXIF tag 1 at 1"
    many = Plan(Outcome.PATCH, (Patch(0, b"x"),), findings)
    assert cleaning._told(many).endswith("EXIF tag 2 at 2 and 2 more")
    assert cleaning._told(Plan(Outcome.PATCH, (Patch(0, b"x"), Patch(5, b"x")))) == "2 ranges"


@pytest.mark.parametrize("large", [False, True])
def test_the_space_of_a_large_copy_is_freed_on_a_thread(store: Path, monkeypatch, large: bool) -> None:
    """The kernel frees it while the descriptor is closed: 127 ms for 700 MiB, in which all apps waited."""
    monkeypatch.setattr(freeing, "LARGE_BYTES", 4096 if large else 1 << 30)
    fd = os.open(store, os.O_TMPFILE | os.O_RDWR)
    os.write(fd, bytes(1 << 20))
    closed, threads = os.close, []

    def noted(number: int) -> None:
        threads.append(threading.current_thread() is threading.main_thread())
        closed(number)

    async def close() -> None:
        with monkeypatch.context() as watched:
            watched.setattr(os, "close", noted)
            Cleaned("image/jpeg", fd).close()
            while not threads:  # noqa: ASYNC110 - there is no event for it
                await trio.sleep(0.001)

    trio.run(close)
    assert threads == [not large]
