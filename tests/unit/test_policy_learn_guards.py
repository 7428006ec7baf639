"""Guards of proposals."""

from __future__ import annotations

import pytest

from policyfs.policy.learn.guards import Guard, guard_of, is_private, names_of
from policyfs.policy.replay.recorded import Cause, Recorded

READ = Recorded("a", 7, None, "open", "open(O_RDONLY)", True, 0, Cause.NONE, ())


@pytest.mark.parametrize(
    ("fields", "path", "made", "guard"),
    [
        ({}, b"/D/x.jpg", False, None),
        ({"app": None}, b"/D/x.jpg", False, Guard.STRANGER),
        ({"syscall": "strange"}, b"/D/x.jpg", False, Guard.UNCLEAR),
        ({"operation": "access", "syscall": "access"}, b"/D/x.jpg", False, Guard.UNCLEAR),
        ({"operation": "unlink", "syscall": "unlink"}, b"/D/x.jpg", True, Guard.DELETE),
        ({"operation": "rename", "syscall": "rename"}, b"/D/x.jpg", True, Guard.DELETE),
        ({"operation": "link", "syscall": "link"}, b"/D/x.jpg", True, Guard.LINK),
        ({"syscall": "open(O_RDWR)"}, b"/D/x.jpg", False, Guard.OVERWRITE),
        ({"syscall": "open(O_RDWR)"}, b"/D/x.jpg", True, None),
        ({"operation": "attr", "syscall": "chmod"}, b"/D/x.jpg", False, Guard.OVERWRITE),
        ({"operation": "create", "syscall": "open(O_RDWR|O_CREAT)"}, b"/D/x.jpg", False, None),
        ({"kind": "application/zip"}, b"/D/x.zip", False, Guard.RAW),
        ({"kind": "image/jpeg"}, b"/D/x.jpg", False, None),
        ({"kind": "inode/x-empty"}, b"/D/x.jpg", False, None),
        ({}, b"/D/\xff.jpg", False, Guard.NAME),
        ({}, b"/D/\x1b.jpg", False, Guard.NAME),
        ({}, b"/D/.git/config", False, Guard.PRIVATE),
        ({}, b"/D/.hidden", False, None),
        ({}, b"/Android/data/b/x", False, Guard.PRIVATE),
        ({}, b"/Android/data/a/x", False, None),
        ({}, b"/Secret/x", False, Guard.PRIVATE),
    ],
)
def test_what_is_kept_back(fields: dict[str, str], path: bytes, made: bool, guard: Guard | None):
    assert guard_of(READ._replace(**fields), names_of(path), made=made) is guard


def test_private_directories():
    assert not is_private(["Android", "data"], "a")
    assert is_private(["Android", "obb", "b"], "a")
    assert names_of(b"/") == []
