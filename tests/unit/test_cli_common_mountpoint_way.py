"""Who can replace what is on the way to a mountpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from policyfs.cli.common.mountpoint_way import Place, check_way, replaceable
from policyfs.cli.main import main
from policyfs.errors import EXIT_OK, PolicyfsError

APP: Final = 10_015


@pytest.fixture
def place(arena: Path) -> Path:
    """A directory to which only root has the way; app: a directory of an app in it; real: one of root."""
    for name in ("app", "real", "sticky", "open", "app/inner"):
        (arena / name).mkdir()
        (arena / name).chmod(0o755)
    (arena / "sticky").chmod(0o1777)
    (arena / "open").chmod(0o777)
    os.chown(arena / "app", APP, APP)
    return arena


def _found(path: Path) -> list[Place]:
    return list(replaceable(str(path)))


def test_a_way_of_root_alone_is_fine(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "link").symlink_to(place / "real")
    (place / "sticky/mine").symlink_to("../real")
    for path in (place / "real", place / "link", place / "sticky/mine", place / "app"):
        assert _found(path) == []
        check_way(str(path))
    assert capsys.readouterr().err == ""


def test_a_link_of_an_app_is_refused(place: Path) -> None:
    """Attack F3.12: Lead a command of root (`mount`, `up`, `down`, `unit`, `umount`, `reload`, `policy
    apply` and others) elsewhere by a symlink on the way to the mountpoint, also after the check. (An app
    that owns a directory on the way can move the mount with it; `mount` warns)
    Guard: policyfs/cli/common/mountpoint_way.py::check_way, policyfs/kernel/mount_api.py::attach
    Also: ::test_no_command_follows_a_link_of_an_app_to_another_mount,
    tests/unit/test_kernel_mount_api.py::test_no_symlink_on_the_way_is_followed
    Without: ::test_a_way_of_root_alone_is_fine
    """
    links = (place / "app/link", place / "sticky/link", place / "open/link")
    for link in links:
        link.symlink_to(place / "real")
        os.lchown(link, APP, APP)
    assert [_found(link) for link in links] == [
        [Place(str(link), uid, True)] for link, uid in zip(links, (APP, APP, None), strict=True)
    ]  # fmt: skip
    for link in links:
        with pytest.raises(PolicyfsError, match=f"leads through the symbolic link {link}.*/real"):
            check_way(str(link))
    (place / "app/loop").symlink_to("loop")
    assert len(_found(place / "app/loop")) > 1, "and it ends"


def test_a_directory_that_an_app_can_move_is_told(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_way(str(place / "app/inner"))
    said = capsys.readouterr().err
    assert said.startswith(f"policyfs: warning: the user with the uid {APP} can move {place}/app/inner")
    monkeypatch.chdir(place)
    assert _found(Path("app/inner")) == [Place(str(place / "app/inner"), APP, False)]
    assert _found(Path("app/inner/none/deeper")) == [Place(str(place / "app/inner"), APP, False)]
    assert _found(place / "none/inner") == []


def test_a_link_behind_a_directory_that_can_be_moved_is_refused(place: Path) -> None:
    os.chown(place / "app/inner", APP, APP)
    (place / "app/inner/link").symlink_to(place / "real")
    for path in ("app/inner/link", "app/inner/link/none/deeper"):
        with pytest.raises(PolicyfsError, match="app/inner/link"):
            check_way(str(place / path))


def test_no_command_follows_a_link_of_an_app_to_another_mount(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "app/link").symlink_to(place / "real")
    (place / "policy.yaml").write_text("apiVersion: policyfs/v1\nkind: Policy\nrules: []\n")
    at = str(place / "app/link")
    for words in (
        ["umount", at], ["umount", "--dead", at], ["status", at], ["reload", at], ["prove", at],
        ["policy", "apply", at, str(place / "policy.yaml")],
    ):  # fmt: skip
        assert main(words) != EXIT_OK
        assert "leads through the symbolic link" in "".join(capsys.readouterr()), words
