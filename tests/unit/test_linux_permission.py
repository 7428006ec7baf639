"""Mode bits and ACLs for another user, as the kernel sees them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.linux.permission import first_refusal

UID = 10011


@pytest.fixture
def fds(tmp_path: Path) -> Iterator[dict[str, int]]:
    """Descriptors of files below directories that the user may not pass through."""
    tmp_path.chmod(0o700)
    found = {}
    for name, mode in {"open": 0o644, "closed": 0o600, "group": 0o640, "acl": 0o600}.items():
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
        os.chown(tmp_path / name, 0, 4242 if name == "group" else 0)
        found[name] = os.open(tmp_path / name, os.O_PATH)
    subprocess.run(["setfacl", "-m", f"u:{UID}:r", tmp_path / "acl"], check=True)
    yield found
    for fd in found.values():
        os.close(fd)


def test_the_first_object_that_refuses(fds: dict[str, int]) -> None:
    def refused(*wanted: tuple[str, int], groups: tuple[int, ...] = ()) -> int | None:
        return first_refusal(UID, UID, groups, [(fds[name], mode) for name, mode in wanted])

    assert refused(("open", os.R_OK)) is None
    assert refused(("open", os.R_OK), ("closed", os.R_OK)) == 1
    assert refused(("open", os.W_OK), ("closed", os.R_OK)) == 0
    assert refused(("group", os.R_OK)) == 0
    assert refused(("group", os.R_OK), groups=(4242,)) is None
    assert refused(("acl", os.R_OK)) is None
    assert refused(("acl", os.W_OK)) == 0
    assert refused() is None


def test_root_stays_root(fds: dict[str, int]) -> None:
    assert first_refusal(UID, UID, (), [(fds["open"], os.R_OK)] * 1000 + [(fds["closed"], os.R_OK)]) == 1000
    assert os.geteuid() == 0


def test_a_user_that_a_child_cannot_become_is_an_error(fds: dict[str, int]) -> None:
    with pytest.raises(PermissionError, match="cannot become the user -1"):
        first_refusal(-1, UID, (), [(fds["open"], os.R_OK)])
