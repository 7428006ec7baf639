"""Refused files on the disk: what is whole, what is not, and what is never done to another file."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from policyfs.store import quarantine
from policyfs.store.quarantine import About, Entry, FullError, Limits, Quarantine, WrongEntryError, release

ABOUT = About(
    time_ns=1, mount="/mnt", store="/store", app="camera", uid=10010, gid=10010, pid=7,
    path=b"/Share/\xff\x1b[2J.jpg", mode=0o640, kind=None, reason="not understood", rules=("share",),
)  # fmt: skip
WIDE = Limits(1 << 20, 10)
DATA = b"head" + bytes(3 << 20) + b"tail"


@pytest.fixture
def kept(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine")


def keep(place: Quarantine, data: bytes, limits: Limits = WIDE, about: About = ABOUT):
    fd = os.memfd_create("refused")
    try:
        os.write(fd, data)
        return place.keep(fd, about, limits)
    finally:
        os.close(fd)


def test_what_is_kept_is_what_was_given(kept: Quarantine) -> None:
    entry = keep(kept, DATA, Limits(1 << 23, 1))
    assert kept.entries() == [entry]
    assert entry.about is not None
    assert (entry.about.path, entry.about.size) == (ABOUT.path, len(DATA))
    fd = kept.open(entry)
    assert os.pread(fd, len(DATA) + 1, 0) == DATA
    assert os.fstat(fd).st_blocks * 512 < len(DATA), "holes stay holes"
    os.close(fd)
    kept.drop(entry)
    assert kept.entries() == []


@pytest.mark.parametrize("limits", [Limits(100, 1), Limits(9, 100), Limits(0, 0)])
def test_the_newest_is_dropped_where_there_is_no_room(kept: Quarantine, limits: Limits) -> None:
    if limits.files:
        keep(kept, b"five.", limits)
    before = kept.entries()
    with pytest.raises(FullError):
        keep(kept, b"five.", limits)
    assert kept.entries() == before
    assert list(kept.directory.rglob("*.part")) == []
    keep(kept, b"five.", about=replace(ABOUT, app="gallery"))  # another app has room of its own


def test_the_trail_keeps_room_on_its_disk(kept: Quarantine, monkeypatch) -> None:
    monkeypatch.setattr(quarantine, "_FREE", 1)
    with pytest.raises(FullError, match="with 5 bytes more, under 100 % of the trail's disk would be free"):
        keep(kept, b"five.")


def test_what_fails_in_the_midst_leaves_nothing(kept: Quarantine, monkeypatch) -> None:
    def no_room(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quarantine, "copy", no_room)
    with pytest.raises(OSError, match="No space"):
        keep(kept, b"five.")
    assert kept.entries() == []
    assert [path for path in kept.directory.rglob("*") if path.name != "camera"] == []


def test_what_a_crash_left_is_removed_and_what_is_being_made_is_not(kept: Quarantine) -> None:
    keep(kept, b"whole")
    left, made = (kept.directory / "camera" / name for name in (".00000001.part", ".00000002.part"))
    for part in (left, made):
        part.mkdir()
        (part / "bytes").write_bytes(b"half")
    fd = os.open(made, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    whys = [entry.why for entry in kept.entries()]
    assert whys == ["", "a crash interrupted the copy", "the file is still being copied"]
    with pytest.raises(BlockingIOError):
        kept.drop(next(entry for entry in kept.entries() if entry.id == "00000002"))
    assert kept.clean() == 1
    assert made.exists()
    assert not left.exists()
    os.close(fd)


@pytest.mark.parametrize("becomes", ["complete", "removed"])
def test_an_entry_that_ends_meanwhile_hides_no_other_one(
    kept: Quarantine, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    """It ends between the look at the directory and the look at the entry."""
    mine = kept.directory / "camera"
    names = [".00000001.part", ".00000002.part", keep(kept, b"whole").id]
    monkeypatch.setattr(os, "listdir", lambda where: list(names))

    def begin() -> None:
        for name in names[:2]:
            (mine / name).mkdir(exist_ok=True)
        (mine / names[0]).rename(mine / "00000001") if becomes == "complete" else (mine / names[0]).rmdir()

    begin()
    assert names[2] in [entry.id for entry in kept.entries()]
    monkeypatch.setattr(quarantine, "_remove", lambda _, name: (mine / name).rmdir())
    assert kept.clean() == 1
    assert not (mine / names[1]).exists()
    with pytest.raises(BlockingIOError):
        kept.drop(Entry("00000001", "camera", mine / names[0], None))


@pytest.mark.parametrize(
    "harm", ["{", "[]", "shorter", "no bytes", "no about.json", '{"format": 99}', '{"format": 1}']
)
def test_what_was_damaged_is_listed_and_can_be_dropped(kept: Quarantine, tmp_path: Path, harm: str) -> None:
    entry = keep(kept, b"five.")
    if harm.startswith("no "):
        (entry.directory / harm.removeprefix("no ")).unlink()
    elif harm == "shorter":
        (entry.directory / "bytes").write_bytes(b"four")
    else:
        (entry.directory / "about.json").write_text(harm)
    [found] = kept.entries()
    assert found.about is None
    assert found.why
    with pytest.raises(WrongEntryError):
        release(found, 0, os.open(tmp_path, os.O_PATH), b"out", as_was=False)
    kept.drop(found)
    assert kept.entries() == []


def test_an_entry_that_is_dropped_while_it_is_read_is_not_listed(
    kept: Quarantine, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, other = keep(kept, b"five."), keep(kept, b"other")
    unpacked = About.unpacked

    def dropped(data: bytes) -> About:
        about = unpacked(data)
        if about == entry.about:
            kept.drop(entry)
        return about

    monkeypatch.setattr(About, "unpacked", dropped)
    assert kept.entries() == [other]


@pytest.mark.parametrize(("field", "value"), [("uid", True), ("size", "5"), ("store", None), ("sha256", 5)])
def test_a_field_of_a_wrong_type_is_damage(field: str, value: object) -> None:
    fields = json.loads(ABOUT.packed())
    with pytest.raises(WrongEntryError, match=f"{field} is not of the type"):
        About.unpacked(json.dumps(fields | {field: value}).encode())


def test_changed_bytes_are_not_released(kept: Quarantine, tmp_path: Path) -> None:
    entry = keep(kept, b"five.")
    (entry.directory / "bytes").write_bytes(b"FIVE.")
    fd, dirfd = kept.open(entry), os.open(tmp_path, os.O_PATH)
    with pytest.raises(WrongEntryError, match=f"bytes of the kept file {entry.id} have changed"):
        release(entry, fd, dirfd, b"out", as_was=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("unnamed", [True, False])
def test_nothing_is_overwritten(kept: Quarantine, tmp_path: Path, monkeypatch, unnamed: bool) -> None:
    if not unnamed:  # as on vfat
        monkeypatch.setattr(quarantine.os, "O_TMPFILE", os.O_DIRECTORY | os.O_EXCL)
    entry = keep(kept, b"five.")
    fd, dirfd = kept.open(entry), os.open(tmp_path, os.O_PATH)
    for made in ("file", "link"):
        taken = tmp_path / made
        taken.write_bytes(b"mine") if made == "file" else taken.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(FileExistsError):
            release(entry, fd, dirfd, made.encode(), as_was=False)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert not (tmp_path / "elsewhere").exists()
    release(entry, fd, dirfd, b"out", as_was=False)
    assert (tmp_path / "out").read_bytes() == b"five."


@pytest.mark.parametrize("meanwhile", ["nothing", "replaced", "removed"])
def test_a_failed_release_removes_no_other_file(
    kept: Quarantine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """On a store without unnamed files, the new file has its name while the bytes are copied."""
    monkeypatch.setattr(quarantine.os, "O_TMPFILE", os.O_DIRECTORY | os.O_EXCL)
    entry = keep(kept, b"five.")
    (entry.directory / "bytes").write_bytes(b"FIVE.")
    copy = quarantine.copy

    def copied(*arguments) -> str:
        if meanwhile == "replaced":
            (tmp_path / "other").write_bytes(b"other")
            (tmp_path / "other").rename(tmp_path / "out")
        elif meanwhile == "removed":
            (tmp_path / "out").unlink()
        return copy(*arguments)

    monkeypatch.setattr(quarantine, "copy", copied)
    fd, dirfd = kept.open(entry), os.open(tmp_path, os.O_PATH)
    with pytest.raises(WrongEntryError, match=f"bytes of the kept file {entry.id} have changed"):
        release(entry, fd, dirfd, b"out", as_was=False)
    os.close(fd)
    os.close(dirfd)
    assert (tmp_path / "out").exists() == (meanwhile == "replaced")
    if meanwhile == "replaced":
        assert (tmp_path / "out").read_bytes() == b"other"


@pytest.mark.parametrize("how", ["clean", "drop"])
def test_a_refused_file_is_kept_though_another_process_removes_what_a_crash_left(
    kept: Quarantine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The other process comes before the new entry is locked, and takes it for one that a crash left."""
    flock, came = fcntl.flock, []

    def late(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not came:
            came.append(1)
            if how == "clean":
                assert kept.clean() == 1
            else:
                [begun] = kept.entries()
                kept.drop(begun)
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    before = len(os.listdir("/proc/self/fd"))
    entry = keep(kept, b"refused")
    assert came
    assert kept.entries() == [entry]
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("how", ["clean", "drop"])
def test_no_process_can_begin_to_write_an_entry_that_is_being_removed(
    kept: Quarantine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    keep(kept, b"refused")
    part = kept.directory / "camera/.00000000.part"
    part.mkdir()
    [begun] = [entry for entry in kept.entries() if entry.directory == part]
    remove, locked = quarantine._remove, []

    def seen(mine: int, name: str) -> None:
        if part.exists():
            fd = os.open(part, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                locked.append(True)
            else:
                locked.append(False)
            os.close(fd)
        remove(mine, name)

    monkeypatch.setattr(quarantine, "_remove", seen)
    if how == "clean":
        assert kept.clean() == 1
    else:
        kept.drop(begun)
    assert locked == [True]
    assert not part.exists()
