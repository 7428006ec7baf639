"""Lists of owners: any name comes back as it was, and every wrong line is told."""

from __future__ import annotations

import pytest

from policyfs.cli.owners.owner_list import Owned, names_of, read, written
from policyfs.domain import FileType
from policyfs.errors import PolicyfsError

ODD = [
    Owned((), FileType.DIRECTORY, "camera"),
    Owned((b"DCIM", "Ümlaut \u202e.jpg".encode()), FileType.REGULAR, "camera"),
    Owned((b"a\nb", b'"q"\\ \t'), FileType.SYMLINK, "app.x"),
    Owned((b"\xff\xfe\n", b"x"), FileType.REGULAR, "none"),
]


def test_odd_names_come_back() -> None:
    lines = list(written(ODD))
    assert len(lines) == 1 + len(ODD)
    assert read([line.encode() for line in lines], "list") == ODD


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (b"no json", "Expecting value"),
        (b"[]", "must be an object"),
        (b'{"path": "/a", "type": "regular"}', "the key 'owner' is missing"),
        (b'{"path": "a", "type": "regular", "owner": "x"}', "write the path from the top of the store"),
        (b'{"path": "/a/../b", "type": "regular", "owner": "x"}', "without ., .. and NUL bytes"),
        (b'{"path": "/a\\u0000", "type": "regular", "owner": "x"}', "without ., .. and NUL bytes"),
        (b'{"path": "/a", "type": "fifo", "owner": "x"}', "type must be one of regular, directory, symlink"),
        (b'{"path": "/a", "type": "regular", "owner": "any"}', "the name of an app"),
        (b'{"path": "/a", "type": "regular", "owner": 3}', "the name of an app"),
        (b'{"path": "/a", "path_b64": "*", "type": "regular", "owner": "x"}', "base64"),
        (b'{"path": 3, "type": "regular", "owner": "x"}', "path must be text"),
    ],
)
def test_each_wrong_line_is_told(line: bytes, wrong: str) -> None:
    head = next(iter(written([]))).encode()
    with pytest.raises(PolicyfsError, match="nothing was changed") as found:
        read([head, line, line], "list")
    assert "list:2: " in str(found.value)
    assert "list:3: " in str(found.value)
    assert wrong in str(found.value)


@pytest.mark.parametrize("lines", [[], [b"{}"], [b'{"policyfs": "owners", "version": 2}']])
def test_another_file_is_no_list(lines: list[bytes]) -> None:
    with pytest.raises(PolicyfsError, match="this is not a list of `policyfs owner export`"):
        read(lines, "list")


def test_names_of_a_path() -> None:
    assert names_of(b"/") == ()
    assert names_of(b"//a//b/") == (b"a", b"b")
