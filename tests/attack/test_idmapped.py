"""On an idmapped mount the kernel names no caller: nobody may do there what the app may not do elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.processes import call_as, code_of
from tests.support.machine.user_namespaces import call_inside, idmapped
from tests.support.mount.daemons import MountFailed
from tests.support.mount.stores import Mounts

USER: Final = 1000
OPTIONS: Final = ("--app", "box", "--any-uid", "--posix")
POLICY: Final = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: box}
apps: {box: {}, other: {}}
rules:
  - {id: all, allow: [all], who: {app: box}, paths: ["/open/***", "/shut/***"]}
  - {id: look, allow: [see, read], who: {app: box}, paths: "/look/***"}
  - {id: others, allow: [all], who: {app: other}, paths: "/***"}
"""
OF_ONE_UID: Final = (
    f"{POLICY}  - {{id: no, deny: [see], who: {{uid: {USER}, app: any}}, paths: /look/diary}}\n"
)


def _fill(store: Path) -> Path:
    store.mkdir(mode=0o755, exist_ok=True)
    store.chmod(0o755)
    for name in ("open", "shut", "look", "hidden"):
        (store / name).mkdir(mode=0o755)
        (store / name / "diary").write_text("dear\n")
        (store / name / "diary").chmod(0o600 if name == "shut" else 0o666)
    (store / "open").chmod(0o777)
    return store


@pytest.fixture
def filled(empty_store: Path) -> Path:
    return _fill(empty_store)


def _attempts(root: str) -> list[tuple[str, str]]:
    calls: dict[str, Callable[[str], Any]] = {
        "stat": os.stat,
        "read": lambda path: os.close(os.open(path, os.O_RDONLY)),
        "write": lambda path: os.close(os.open(path, os.O_WRONLY)),
        "chmod": lambda path: os.chmod(path, 0o644),
        "chown": lambda path: os.chown(path, USER, USER),
        "utime": os.utime,
        "list": lambda path: os.listdir(os.path.dirname(path)),
        "create": lambda path: os.close(os.open(f"{path}-new", os.O_CREAT | os.O_WRONLY, 0o644)),
        "mkdir": lambda path: os.mkdir(f"{path}-dir"),
        "link": lambda path: os.link(path, f"{path}-too"),
        "mknod": lambda path: os.mkfifo(f"{path}-pipe"),
        "xattr": lambda path: os.setxattr(path, "user.x", b"x"),
        "rename": lambda path: os.rename(path, f"{path}-moved"),
        "unlink": lambda path: os.unlink(f"{path}-moved"),
    }
    return [
        (f"{name} {call}", code_of(make, f"{root}/{name}/diary"))
        for name in ("open", "shut", "look", "hidden")
        for call, make in calls.items()
    ]


@pytest.mark.parametrize("uid", [0, USER])
def test_the_app_may_do_there_what_it_may_do_elsewhere(
    mounts: Mounts, filled: Path, arena: Path, uid: int
) -> None:
    with idmapped(mounts.start(POLICY, filled, *OPTIONS, "--idmap").mountpoint, arena / "inside") as inside:
        told = call_inside(_attempts, str(inside), uid=uid)
    other = _fill(arena / "other-store")
    assert told == call_as(uid, _attempts, str(mounts.start(POLICY, other, *OPTIONS).mountpoint))
    assert {code for what, code in told if what.startswith("hidden")} == {"ENOENT"}


def test_a_rule_about_one_uid_is_not_skipped(mounts: Mounts, filled: Path) -> None:
    """The mount is refused, since the kernel does not tell who is this uid.

    Attack B4.4: Be the uid that a rule restricts, on an idmapped mount, where the kernel tells no uid
    Guard: policyfs/cli/mounts/mount.py::_check_uids
    Also: ::test_the_app_may_do_there_what_it_may_do_elsewhere
    Without: ::test_it_is_where_the_mount_is_not_refused
    """
    mount = mounts.prepare(OF_ONE_UID, filled, *OPTIONS, "--idmap")
    mount.expected_exit = 2
    with pytest.raises(MountFailed, match="rules about single uids"):
        mount.start()


def test_it_is_where_the_mount_is_not_refused(without, filled: Path, arena: Path) -> None:
    mount = without("uids-alike", OF_ONE_UID, filled, *OPTIONS, "--idmap")
    with idmapped(mount.mountpoint, arena / "inside") as inside:
        assert call_inside((inside / "look/diary").read_text, uid=USER) == "dear\n"
