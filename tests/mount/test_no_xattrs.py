"""--no-xattrs: the kernel answers for the whole mount that there are none, and asks no more."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.support.machine.processes import call_as, tool_as
from tests.support.mount.daemons import policyfs, write_policy
from tests.support.mount.stores import Mounts

APP = 10010
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {camera: {uid: 10010}}
rules:
  - {id: all, allow: [all], who: {app: camera}, paths: "/**"}
"""
REQUESTS = ("GETXATTR", "LISTXATTR", "SETXATTR", "REMOVEXATTR")


def _all_ways(path: Path) -> list[int]:
    """The errors of every call about extended attributes."""
    errors = []
    calls = (
        lambda: os.getxattr(path, "user.place"),
        lambda: os.listxattr(path),
        lambda: os.setxattr(path, "user.place", b"x"),
        lambda: os.removexattr(path, "user.place"),
    )
    for call in calls:
        try:
            call()
            errors.append(0)
        except OSError as error:
            errors.append(error.errno or 0)
    return errors


def _write_new(directory: Path) -> None:
    for number in range(20):
        (directory / f"new-{number}").write_bytes(b"text")


def test_no_request_about_them_comes_twice(mounts: Mounts, empty_store: Path) -> None:
    empty_store.chmod(0o777)
    for number in range(50):
        (empty_store / f"{number}.jpg").touch()
    os.setxattr(empty_store / "1.jpg", "user.place", b"at home")
    mount = mounts.start(POLICY, empty_store, "--no-xattrs")
    for _ in range(2):
        assert call_as(APP, _all_ways, mount / "1.jpg") == [errno.EOPNOTSUPP] * 4
    tool_as(APP, "ls", "-la", mount.mountpoint, check=True)
    call_as(APP, _write_new, mount.mountpoint)
    assert {name: mount.fuse(name) for name in REQUESTS} == dict.fromkeys(REQUESTS, 1)
    assert os.getxattr(empty_store / "1.jpg", "user.place") == b"at home"


def test_a_kernel_that_checks_acls_needs_them(empty_store: Path, arena: Path) -> None:
    policy = write_policy(POLICY, arena)
    said = policyfs("mount", "--policy", policy, "--posix", "--no-xattrs", empty_store, arena)
    assert said.returncode == 2
    assert "cannot be used together" in said.stderr
