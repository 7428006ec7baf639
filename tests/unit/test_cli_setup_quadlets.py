"""Quadlets of the machine and its users that have the library are named. Their forms: tests/corpus."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from policyfs.cli.setup import quadlets as module
from policyfs.cli.setup.quadlets import past_quadlets, quadlets
from policyfs.errors import PolicyfsError


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of the machine's Quadlets; a user has a home directory beside it."""
    user = pwd.struct_passwd(("anna", "x", 1000, 1000, "", str(tmp_path / "anna"), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [user])
    monkeypatch.setattr(module, "_SYSTEM", (str(tmp_path / "system"), str(tmp_path / "none")))
    monkeypatch.setattr(module, "_USERS", str(tmp_path / "users"))
    for place in ("system", "anna/.config/containers/systemd", "users/1000"):
        (tmp_path / place).mkdir(parents=True)
    return tmp_path / "system"


def test_those_with_the_library_are_named(system: Path, tmp_path: Path) -> None:
    own, shared = tmp_path / "anna/.config/containers/systemd", tmp_path / "users/1000"
    (system / "a.container").write_text("[Container]\nVolume=/srv/media/Films:/films\nVolume=/srv:/all\n")
    (system / "b.container").write_text("[Container]\nVolume=/srv/other:/other\nPodmanArgs=--mount=x\n")
    (system / "c.volume").write_text("[Volume]\n")
    (own / "d\x1b.container").write_text("[Container]\nVolume=%h/media:/media\n")
    (shared / "e.container").write_text("[Container]\nMount=type=bind,source=%h,target=/home,ro\n")
    named = [text.split(" ")[0].rsplit("/", 1)[-1] for text in past_quadlets("/srv/media")]
    assert named == ["a.container", "b.container:"]
    assert [text.split(" has ")[0] for text in past_quadlets(f"{tmp_path}/anna/media")][1:] == [
        f"{own}/d\\x1b.container", f"{shared}/e.container",
    ]  # fmt: skip
    assert [volume.read_only for one in quadlets() for volume in one.volumes] == [False] * 4 + [True]


def test_one_that_is_no_file_is_an_error(system: Path) -> None:
    (system / "a.container").mkdir()
    with pytest.raises(PolicyfsError, match="is not a regular file"):
        list(quadlets())
    (system / "a.container").rmdir()
    (system / "a.container").symlink_to("nowhere")
    assert [one.volumes for one in quadlets()] == [()]
