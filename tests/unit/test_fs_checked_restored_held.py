"""Late writes of a killed daemon, of which it may have made some. (Drafts: mount/test_takeover_held.py.)"""

from __future__ import annotations

from pathlib import Path

from policyfs.fs.checked.restored_held import _placed
from policyfs.fs.inodes.pending_writes import Write


def test_no_late_write_is_appended_twice(tmp_path: Path) -> None:
    late = Write(None, b"ab"), Write(2, b"c"), Write(None, b"de")
    for there, end, expected in (
        (b"0123", 4, late), (b"0123ab", None, late), (b"0123zz", 4, late),
        (b"0123a", 4, (Write(4, b"ab"), late[1], Write(6, b"de"))),
        (b"0123abde", 4, (Write(4, b"ab"), late[1], Write(6, b"de"))),
    ):  # fmt: skip
        (tmp_path / "file").write_bytes(there)
        with open(tmp_path / "file", "rb") as file:
            assert _placed(late, end, file.fileno()) == expected
