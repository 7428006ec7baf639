"""Files that a killed daemon left under a name of its own: no app gets them by that name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from policyfs.store.names.aside_names import aside
from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, code_of
from tests.support.mount.stores import Mounts

CAMERA: Final = 10010
POLICIES: Final = {
    "by path": "",
    "by name": '  - {id: secret, deny: [all], who: {app: camera}, paths: "/**/*.secret"}\n',
    "by owner": '  - {id: none, deny: [see], who: {app: camera}, paths: "/**", when: {owner: camera}}\n',
}
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}, gid: {CAMERA}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
"""


@pytest.mark.parametrize("options", first(1, [((),), (("--app", "camera"),)]), ids=["shared", "app"])
@pytest.mark.parametrize("rules", POLICIES.values(), ids=POLICIES)
def test_such_a_name_is_shown_to_no_app(
    mounts: Mounts, empty_store: Path, rules: str, options: tuple[str, ...]
) -> None:
    name = os.fsdecode(aside())
    for each in (name, "a.jpg"):
        (empty_store / each).write_bytes(b"bytes")
    for path in (empty_store, *empty_store.iterdir()):
        path.chmod(0o777)
    mount = mounts.start(POLICY + rules, empty_store, *options)
    for _ in range(3):
        assert call_as(CAMERA, os.listdir, mount.mountpoint) == ["a.jpg"]
        assert call_as(CAMERA, code_of, os.stat, mount / name) == "ENOENT"
        assert call_as(CAMERA, code_of, os.unlink, mount / name) == "ENOENT"
        assert call_as(CAMERA, code_of, os.open, mount / name, os.O_RDONLY) == "ENOENT"
    assert call_as(CAMERA, code_of, os.open, mount / name, os.O_RDWR | os.O_CREAT) == "EACCES"
    assert call_as(CAMERA, code_of, os.mkdir, mount / name) == "EACCES"
    assert call_as(CAMERA, code_of, os.symlink, "a.jpg", mount / name) == "EACCES"
    for move in (os.rename, os.link):
        assert call_as(CAMERA, code_of, move, mount / "a.jpg", mount / name) == "EACCES"
    for move in (os.rename, os.link):
        assert call_as(CAMERA, code_of, move, mount / "a.jpg", mount / os.fsdecode(aside())) == "EACCES"
    assert sorted(os.listdir(empty_store)) == sorted(["a.jpg", name])
    assert (empty_store / name).read_bytes() == b"bytes"
    assert mount.status()["bugs"] == 0


STACKED: Final = POLICY.replace("allow: [all]", "allow: [see, read, write, create]") + (
    '  - {id: own, allow: [delete], who: {app: any}, paths: "/***", when: {type: "text/*"}}\n'
)


def test_a_mount_on_a_mount_removes_and_replaces_all_the_same(mounts: Mounts, empty_store: Path) -> None:
    """The lower one permits no such name."""
    for each in "abc":
        (empty_store / each).write_text(f"words {each}\n")
    for path in (empty_store, *empty_store.iterdir()):
        path.chmod(0o777)
    lower = mounts.start(POLICY.replace("apps:\n", "apps:\n  root: {uid: 0, gid: 0}\n"), empty_store)
    upper = mounts.start(STACKED, lower.mountpoint)
    upper.expected_mediated = True
    assert call_as(CAMERA, code_of, os.unlink, upper / "a") == ""
    assert call_as(CAMERA, code_of, os.rename, upper / "b", upper / "c") == ""
    assert os.listdir(empty_store) == ["c"]
    assert (empty_store / "c").read_text() == "words b\n"
    assert upper.stop() == []
