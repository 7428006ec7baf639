"""Renames in directories where one decision holds for every name: the bridge renames files by itself. The
store, the apps and the trail find the same as after renames by Python."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policyfs.linux.libc import RENAME_NOREPLACE, rename2
from policyfs.store.locking.latches import HeldFiles
from tests.mount.test_raw_changes import SHARED, TWO, mount, warm
from tests.mount.test_raw_tree import FILES, ONE, refusal, said, store
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

__all__ = ["mount", "store"]
LONG = "n" * 250


def move(directory: str, other: str) -> list[Any]:
    """Write each file under a name for the moment, as rsync and Syncthing do, and give it its own. Return
    what each name leads to, before and after all are moved to *other*, each over a file."""
    for at in (directory, other):
        warm(at)
    for number in range(FILES):
        Path(directory, f".t{number}").write_bytes(b"%d" % number)
        os.rename(f"{directory}/.t{number}", f"{directory}/{LONG}{number:03}")
    found: list[Any] = [refusal(lambda: os.stat(f"{directory}/.t0")), os.listdir(directory) == []]
    for number in range(FILES):
        Path(other, f"n{number}").write_bytes(b"replaced")
        os.rename(f"{directory}/{LONG}{number:03}", f"{other}/n{number}")
    found += [Path(other, f"n{number}").read_bytes() for number in range(FILES)]
    found += [os.stat(f"{other}/n0").st_nlink, refusal(lambda: os.stat(f"{directory}/{LONG}000"))]
    return found


def test_files_are_renamed_without_python(mount: Mount, store: Path, arena: Path) -> None:
    found = call_as(ONE, move, str(mount / "d"), str(mount / "e"))
    native = arena / "native"
    for name in ("d", "e"):
        (native / name).mkdir(parents=True)
        (native / name / "f0").touch()
    assert found == move(str(native / "d"), str(native / "e"))
    counts = said(mount)
    assert counts["renames"] > FILES, counts
    assert (counts["handles"], counts["lost"], mount.status()["handles"]["open"]) == (0, 0, 0)
    assert {path.read_bytes() for path in (store / "e").glob("n*")} == {b"%d" % one for one in range(FILES)}
    assert not [*(store / "d").glob(".t*"), *(store / "d").glob(f"{LONG}*")]
    wait_for(lambda: mount.events(operation="release", path=f"/e/n{FILES - 1}"), "the last release")
    [event] = mount.events(operation="rename", path=f"/d/{LONG}000")
    assert (event["new_path"], event["syscall"], event["size_before"]) == ("/e/n0", "rename", 8)
    [event] = mount.events(operation="rename", path="/d/.t0")
    assert (event["new_path"], event.get("size_before")) == (f"/d/{LONG}000", None)
    assert mount.status()["bugs"] == 0


def rename_each(directory: str) -> None:
    """Give files names of all lengths, look at each, date it, and remove it."""
    warm(directory)
    for number in range(1, 250):
        old, new = f"{directory}/x", f"{directory}/{'y' * number}"
        Path(old).write_text("x" * FILES)
        os.rename(old, new)
        assert os.stat(new).st_size == FILES
        os.utime(new, ns=(1, number))
        os.unlink(new)


def test_the_bridge_knows_a_renamed_file_by_its_name(mount: Mount, store: Path) -> None:
    call_as(ONE, rename_each, str(mount / "d"))
    found = said(mount)
    assert min(found["renames"], found["setattrs"], found["unlinks"]) > 200, found
    assert list((store / "d").glob("*y")) == []


def rename_closed(directory: str, length: int) -> None:
    warm(directory)
    name, new = f"{directory}/.t", f"{directory}/{'m' * length}"
    Path(name).write_text("1")
    os.utime(name, ns=(1, 1))
    Path(name).read_text()
    os.rename(name, new)


@pytest.mark.parametrize("length", [24, 40, 120, 240])
def test_a_change_of_a_renamed_file_elsewhere_is_seen(mount: Mount, store: Path, length: int) -> None:
    call_as(ONE, rename_closed, str(mount / "d"), length)
    with (store / "d" / ("m" * length)).open("a") as file:
        file.write("more")
    path = mount / "d" / ("m" * length)
    wait_for(lambda: call_as(ONE, os.stat, str(path)).st_size == 5, "the size is seen", 2)


def rename_open(channel: Any, directory: str) -> None:
    """Rename a file that is open, and say what its descriptor and its names lead to."""
    warm(directory)
    for number in range(4):  # one may be Python's
        path, new = f"{directory}/o{number}", f"{directory}/p{number}"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        os.write(fd, b"1")
        os.rename(path, new)
        os.write(fd, b"2")
        with open(new, "rb") as again:
            said = [again.read(), os.fstat(fd).st_ino == os.stat(new).st_ino, os.fstat(fd).st_nlink]
        os.close(fd)
        channel.send([*said, refusal(lambda path=path: os.stat(path)), os.stat(new).st_size])


def test_an_open_file_goes_on_under_its_new_name(mount: Mount) -> None:
    child = start_as(ONE, rename_open, str(mount / "d"))
    for number in range(4):
        assert child.receive() == [b"12", True, 1, errno.ENOENT, 2]
        (release,) = wait_for(
            lambda number=number: mount.events(operation="release", path=f"/d/p{number}", size_before=0),
            "the release is on record",
        )
        assert release["size_after"] == 2
    child.result()
    assert said(mount)["renames"]


def refuse_each(directory: str) -> list[int | None]:
    """What renames say that are no plain moves of one file."""
    warm(directory)
    at = os.open(directory, os.O_RDONLY)
    for name in ("a", "b"):
        Path(directory, name).write_text(name)
    os.mkdir(f"{directory}/sub")
    calls: tuple[Callable[[], object], ...] = (
        lambda: rename2(at, b"a", at, b"b", RENAME_NOREPLACE),
        lambda: os.rename(f"{directory}/a", f"{directory}/sub"),
        lambda: os.rename(f"{directory}/sub", f"{directory}/a"),
        lambda: os.rename(f"{directory}/none", f"{directory}/c"),
        lambda: os.rename(f"{directory}/a", f"{directory}/{'x' * 256}"),
        lambda: rename2(at, b"a", at, b"c", RENAME_NOREPLACE),
        lambda: os.link(f"{directory}/b", f"{directory}/same"),
        lambda: os.rename(f"{directory}/b", f"{directory}/same"),
        lambda: os.stat(f"{directory}/b"),
        lambda: os.rename(f"{directory}/c", f"{directory}/same"),
        lambda: os.rename(f"{directory}/same", f"{directory}/sub/same"),
    )
    return [refusal(call) for call in calls]


def test_other_renames_say_the_same_as_natively(mount: Mount, arena: Path) -> None:
    (native := arena / "native").mkdir()
    (native / "f0").touch()
    assert call_as(ONE, refuse_each, str(mount / "d")) == refuse_each(str(native))


def test_what_another_program_did_to_a_name_is_respected(mount: Mount, store: Path) -> None:
    """It takes the old name, or the new one, just before a rename."""
    call_as(ONE, warm, str(mount / "d"))

    def made(name: str) -> None:
        Path(mount / "d", name).write_text("mine")

    for name in ("a", "b"):
        call_as(ONE, made, name)
    (store / "d/a").unlink()
    (store / "d/a").write_text("another")
    call_as(ONE, os.rename, str(mount / "d/a"), str(mount / "d/c"))
    assert (store / "d/c").read_text() == "another"
    (store / "d/taken").write_text("taken")
    call_as(ONE, os.rename, str(mount / "d/b"), str(mount / "d/taken"))
    assert (store / "d/taken").read_text() == "mine"
    assert mount.status()["bugs"] == 0


@pytest.mark.parametrize("paths", ["/d/img-*", "/e/***"])
def test_a_rename_to_where_a_kind_is_required_is_pythons(mounts: Mounts, store: Path, paths: str) -> None:
    """The requirement is for another app's writes, so that this one's are by the bridge."""
    rule = f'{{id: kind, require: {{content: [image/*]}}, who: {{app: two}}, paths: ["{paths}"]}}'
    text = f"{SHARED}  - {rule}\n"
    new, found = paths.strip("/*") + ("1" if paths[1] == "d" else "/1"), []
    for options in ((), ("--no-avc",)):
        mount = mounts.prepare(text, store, *options).start()

        def change(mount: Mount = mount) -> int | None:
            for directory in ("d", "e"):
                warm(str(mount / directory))
            for name in ("d/1", "d/2"):
                Path(mount / name).write_text(name)
            os.rename(mount / "d/2", mount / "d/3")
            return refusal(lambda: os.rename(mount / "d/1", mount / new))

        found.append(call_as(ONE, change))
        if not options:
            assert said(mount)["creates"]
            assert said(mount)["renames"] == (1 if paths[1] == "e" else 0)
        for name in ("d/1", "d/3", "e/1", "d/img-1"):
            (store / name).unlink(missing_ok=True)
    assert found == [None, None]  # a lease has shown that no writer has the file open


def test_held_bytes_elsewhere_are_not_lost_by_a_rename(mount: Mount, store: Path) -> None:
    """If another daemon has bytes of a file that may be refused, it replaces no other file."""
    call_as(ONE, warm, str(mount / "d"))
    for name in ("kept", "new"):
        call_as(ONE, Path.write_text, mount / "d" / name, name)
    [held] = [
        path
        for fd in Path(f"/proc/{mount.pid}/fd").iterdir()
        if (path := os.readlink(fd)).endswith(".held")
    ]
    marks = HeldFiles(held)
    fd = os.open(store / "d/new", os.O_RDONLY)
    at = marks.mark(fd)
    try:
        rename = os.rename, str(mount / "d/new"), str(mount / "d/kept")
        assert call_as(ONE, lambda: refusal(lambda: rename[0](*rename[1:]))) == errno.EBUSY
        assert (store / "d/kept").read_text() == "kept"
    finally:
        marks.unmark(at)
        marks.close()
        os.close(fd)
    call_as(ONE, *rename)
    assert (store / "d/kept").read_text() == "new"


def test_a_shared_mount_needs_no_python_either(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(SHARED, store).start()
    call_as(TWO, warm, str(mount / "d"))
    call_as(ONE, move, str(mount / "d"), str(mount / "e"))
    assert said(mount)["renames"] > FILES
    assert call_as(TWO, Path.read_bytes, mount / "e/n1") == b"1"
    assert call_as(TWO, refusal, lambda: os.stat(mount / "d/.t1")) == errno.ENOENT
