"""`policyfs run` without root: what forbids it, and what the command does not find."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from policyfs.cli.mounts import run_user
from policyfs.linux.confinement.user_namespaces import Nested


def user_at(home: Path) -> run_user.User:
    account = pwd.struct_passwd(("erin", "x", 7, 7, "", str(home), "/bin/sh"))
    return run_user.User(2000, 2000, "/store", account, Nested(-1, -1))


def test_home_temporary_and_closed_directories_are_covered(tmp_path: Path, monkeypatch) -> None:
    for name in ("home/code", "tmp", "closed/in/it"):
        (tmp_path / name).mkdir(parents=True)
    for name in (".", "home", "home/code"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "closed").chmod(0o700)
    monkeypatch.setattr(run_user, "_TEMPORARY", (str(tmp_path / "tmp"), str(tmp_path / "none")))
    user = user_at(tmp_path / "home")

    def covered(at: str) -> list[tuple[str, int, int]]:
        below = str(tmp_path)
        return [one for one in user._covers(str(tmp_path / at)) if one[0].startswith(f"{below}/")]

    home, tmp = (str(tmp_path / "home"), 0o700, 2000), (str(tmp_path / "tmp"), 0o1777, 0)
    assert covered("home/code") == [home, tmp]
    assert covered("closed/in/it") == [(str(tmp_path / "closed"), 0o755, 0), home, tmp]


def test_an_unknown_store_is_left_to_the_mount_and_another_users_is_refused(tmp_path: Path) -> None:
    run_user._check_store(str(tmp_path / "none"), 7)
    with pytest.raises(run_user.PolicyfsError, match="is not yours"):
        run_user._check_store(str(tmp_path), 7)
