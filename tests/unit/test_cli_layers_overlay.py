"""The overlay of a layer, in a user namespace."""

from __future__ import annotations

import os
from pathlib import Path

from policyfs.cli.layers.overlay import overlay
from policyfs.kernel import mount_api
from policyfs.linux.confinement.namespaces import enter_own_mounts
from policyfs.linux.confinement.user_namespaces import nested
from tests.support.machine.inchild import in_child

UID = 4711


def test_changes_go_into_the_layer_as_its_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for name in ("view", "at", "top/upper", "top/work", "top/lower"):
        (tmp_path / name).mkdir(parents=True)
        os.chown(tmp_path / name, UID, UID)
    os.chown(tmp_path / "top", UID, UID)
    (tmp_path / "top").chmod(0o700)
    (tmp_path / "view/file").write_text("old")
    os.chown(tmp_path / "view/file", UID, UID)

    def tries() -> bool:
        enter_own_mounts()
        top, directory = (os.open(tmp_path / name, os.O_RDONLY) for name in ("top", "view"))
        view = mount_api.bind(directory, read_only=True)
        mount_api.attach(overlay(top, view, nested((UID, UID), (UID, UID)).root), str(tmp_path / "at"))
        at = os.open(tmp_path / "at", os.O_PATH)  # directories above may be closed to the user
        os.setgid(UID)
        os.setuid(UID)
        with open(os.open("file", os.O_WRONLY | os.O_TRUNC, dir_fd=at), "w") as file:
            file.write("new")
        return os.getcwd() != str(tmp_path / "top")

    assert in_child(tries) is True
    assert (tmp_path / "view/file").read_text() == "old"
    made = tmp_path / "top/upper/file"
    assert (made.read_text(), made.stat().st_uid) == ("new", UID)
    assert "user.overlay.origin" in os.listxattr(made)
