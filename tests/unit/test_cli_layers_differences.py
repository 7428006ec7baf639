"""What a commit would change, as text and as JSON."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.cli.layers.differences import Difference, differences, text_of


@pytest.fixture
def tops(tmp_path: Path) -> Iterator[tuple[Path, Path, int, int]]:
    upper, view = tmp_path / "upper", tmp_path / "view"
    upper.mkdir()
    view.mkdir()
    fds = [os.open(path, os.O_RDONLY) for path in (upper, view)]
    yield upper, view, fds[0], fds[1]
    for fd in fds:
        os.close(fd)


def test_each_kind_of_change_is_named(tops) -> None:
    upper, _, *fds = tops
    for name, text in (("content", "a"), ("mode", "b"), ("type", "c"), ("moved", "d" * 100), ("time", "e")):
        for top in tops[:2]:
            (top / name).write_text(text)
            os.utime(top / name, (5, 5))
    (upper / "content").write_text("A")
    (upper / "mode").chmod(0o600)
    (upper / "type").unlink()
    (upper / "type").mkdir()
    os.utime(upper / "time", (6, 6))
    (upper / "moved").rename(upper / "new-name")
    os.mknod(upper / "moved", stat.S_IFCHR, os.makedev(0, 0))
    found = {one.path: one for one in differences(*fds)}
    assert {path: (one.kind, one.what, one.old) for path, one in found.items()} == {
        b"content": ("changed", ("content", "time"), b""), b"mode": ("changed", ("mode 644 -> 600",), b""),
        b"type": ("changed", ("type",), b""), b"new-name": ("renamed", (), b"moved"),
        b"time": ("changed", ("time",), b""),
    }  # fmt: skip
    assert found[b"new-name"].fields() == {"kind": "renamed", "path": "new-name", "from": "moved"}
    assert list(text_of(found[b"content"], *fds)) == ["@@ -1 +1 @@", "-a", "+A"]
    assert not list(text_of(found[b"new-name"], *fds))


def test_names_obey_no_terminal_and_data_is_no_text(tops) -> None:
    upper, _, *fds = tops
    (upper / "a\x1b[2Jb").write_bytes(b"\x1b]0;x\x07\n")
    (upper / "data").write_bytes(b"\0\1")
    for one in differences(*fds):
        lines = [one.text(), *text_of(one, *fds)]
        assert not any("\x1b" in line for line in lines)
        assert one.path != b"data" or len(lines) == 1


def test_a_line_has_a_note() -> None:
    one = Difference("removed", b"d", is_directory=True)
    assert one.text("refused by the rule r") == "- d/  [refused by the rule r]"
