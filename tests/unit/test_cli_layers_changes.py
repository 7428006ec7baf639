"""The upper directory of an overlay as changes."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.cli.layers import changes
from policyfs.cli.layers.changes import Before


@pytest.fixture
def upper(tmp_path: Path) -> Iterator[int]:
    top = tmp_path / "upper"
    (top / "d/e").mkdir(parents=True)
    (top / "d/file").write_text("x")
    os.setxattr(top / "d/file", "user.overlay.origin", b"")
    os.setxattr(top / "d/file", "user.mine", b"1")
    os.setxattr(top / "d/e", "user.overlay.opaque", b"y")
    os.mknod(top / "gone", stat.S_IFCHR, os.makedev(0, 0))
    (top / "link").symlink_to("nowhere")
    fd = os.open(top, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_each_object_is_told_directories_first(upper: int) -> None:
    found = {entry.path: entry for entry in changes.entries(upper, copied=True)}
    assert list(found) == [b"d", b"gone", b"link", b"d/e", b"d/file"]
    told = {path: (one.is_gone, one.is_opaque, one.is_copied) for path, one in found.items()}
    assert told == {
        b"d": (False, False, False), b"gone": (True, False, False), b"link": (False, False, False),
        b"d/e": (False, True, False), b"d/file": (False, False, True),
    }  # fmt: skip
    assert changes.xattrs((upper, b"d/file")) == {"user.mine": b"1"}


def test_states_are_read_as_they_were_written(upper: int, tmp_path: Path) -> None:
    view = tmp_path / "view"
    (view / "d").mkdir(parents=True)
    (view / "gone").write_text("old")
    fd = os.open(view, os.O_RDONLY)
    text = io.StringIO()
    known = {b"link": Before((1, 2, 3, 4), 5)}
    changes.record_states(upper, fd, known, 7, lambda path: ("location",) * (path == b"gone"), text)
    os.close(fd)
    status = (view / "gone").stat()
    lines = text.getvalue().splitlines(keepends=True)
    assert changes.is_whole(lines)
    assert not changes.is_whole(lines[:-1])
    assert changes.read_states([*lines, '["cut'])[b"link"] == known[b"link"]
    assert changes.read_states(lines) == known | {
        b"d": Before((stat.S_IFDIR, 0, 0, 0), 7), b"d/e": Before(None, 7), b"d/file": Before(None, 7),
        b"gone": Before((stat.S_IFREG, 3, status.st_mtime_ns, status.st_ctime_ns), 7, ("location",)),
    }  # fmt: skip


def test_a_symlink_on_the_way_is_not_followed(upper: int, tmp_path: Path) -> None:
    (tmp_path / "upper/way").symlink_to("d")
    assert changes.status_of((upper, b"way/file")) is None
    assert changes.status_of((upper, b"d/file")) is not None
    with pytest.raises(OSError, match="Not a directory"), changes.parent_of((upper, b"way/file")):
        pass


def test_contents_are_compared_to_their_end(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for name, data in (("a", b"x" * 3_000_000), ("b", b"x" * 3_000_000), ("c", b"x" * 2_999_999 + b"y")):
        (tmp_path / name).write_bytes(data)
    assert changes.same_content((fd, b"a"), (fd, b"b"))
    assert not changes.same_content((fd, b"a"), (fd, b"c"))
    os.close(fd)


@pytest.mark.timeout(20)
def test_holes_of_both_are_not_read(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for name, at, data in (("a", 1 << 39, b"x"), ("b", 1 << 39, b"x"), ("c", 1 << 38, b"x")):
        with (tmp_path / name).open("wb") as file:
            os.truncate(file.fileno(), (1 << 40) + 1)
            os.pwrite(file.fileno(), data, at)
    assert changes.same_content((fd, b"a"), (fd, b"b"))
    assert not changes.same_content((fd, b"a"), (fd, b"c"))
    os.close(fd)


def test_a_view_is_asked_by_directories(upper: int, tmp_path: Path) -> None:
    (tmp_path / "view/d").mkdir(parents=True)
    (tmp_path / "view/d/file").write_text("four")
    (tmp_path / "view/link").symlink_to("d")
    fd = os.open(tmp_path / "view", os.O_RDONLY)
    with contextlib.closing(changes.Below(fd)) as below:
        found = {
            path: below.status(path)
            for path in (b"d", b"d/file", b"d/none", b"gone/x", b"link/file", b"link")
        }
    os.close(fd)
    sizes = {path: status.st_size for path, status in found.items() if status is not None and path != b"d"}
    assert sizes == {b"d/file": 4, b"link": 1}
