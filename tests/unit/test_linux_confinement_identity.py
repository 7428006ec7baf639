"""A change of user that leaves no capability, whatever the secure bits and the ambient set say."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from policyfs.linux.confinement import identity
from policyfs.linux.confinement.capabilities import rights_of
from policyfs.linux.confinement.identity import become
from tests.support.machine.ambient import hand_on_everything
from tests.support.machine.inchild import in_child

UID: Final = 10_071
_BITS: Final = {
    "SECBIT_NO_SETUID_FIXUP, locked": 0b1100, "open": 0b0100, "SECBIT_KEEP_CAPS": 0b10000, "none": 0,
}  # fmt: skip
_CHANGES: Final = {"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "seteuid", "setegid",
                   "setgroups", "initgroups"}  # fmt: skip


def _rights(change: Callable[[], None], bits: int) -> list[object]:
    hand_on_everything(bits)
    change()
    own = rights_of("thread-self")
    done = subprocess.run(["grep", "^Cap[IPEA]", "/proc/self/status"], stdout=subprocess.PIPE, check=True)
    run = {int(line.split()[1], 16) for line in done.stdout.splitlines()}
    sets = [sorted(found) for found in (own.effective, own.permitted, own.handed_on, own.bounding)]
    ids = [list(os.getresuid()), list(os.getresgid()), sorted(os.getgroups())]
    return [sets, own.no_new_privs, *ids, sorted(run)]


@pytest.mark.parametrize("bits", _BITS.values(), ids=_BITS.keys())
def test_no_capability_stays(bits: int) -> None:
    """Attack F3.11: Keep capabilities over the change to the uid of an app or a worker, where root started
    policyfs with ambient capabilities or with secure bits (`SecureBits=no-setuid-fixup`)
    Guard: policyfs/linux/confinement/identity.py::become
    Also: tests/unit/test_content_workers_sandbox.py::test_no_capability_outlives_the_change_of_uid,
    tests/mount/test_run.py::test_a_command_has_no_capability_of_its_caller
    Without: ::test_they_would_stay
    """
    found = in_child(lambda: _rights(lambda: become(UID, UID + 1, [UID + 2]), bits))
    assert found == [[[], [], [], []], True, [UID] * 3, [UID + 1] * 3, [UID + 2], [0]]


@pytest.mark.parametrize("bits", [0b1100, 0b0100])
def test_they_would_stay(bits: int) -> None:
    """With setresuid(2) alone, a process of the app has every capability of root, and hands them on."""

    def plainly() -> None:
        os.setgroups([])
        os.setresuid(UID, UID, UID)

    found = in_child(lambda: _rights(plainly, bits))
    assert len(found[0][0]) > 30
    assert found[5] != [0]


def test_what_did_not_change_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, nothing in (("setgroups", lambda groups: None), ("setresgid", lambda *ids: None),
                          ("setresuid", lambda *ids: None)):  # fmt: skip
        with monkeypatch.context() as patched:
            patched.setattr(os, name, nothing)
            assert "cannot give up all rights" in str(in_child(lambda: become(UID, UID, [UID])))
    monkeypatch.setattr(identity, "keep", lambda wanted: None)

    def change() -> None:
        hand_on_everything(0b1100)
        become(UID, UID)

    assert "cannot give up all rights" in str(in_child(change))


def test_no_other_module_changes_ids() -> None:
    package = Path(identity.__file__).parents[2]
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if (text := file.read_text(encoding="utf-8")) and any(name in text for name in _CHANGES)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and node.attr in _CHANGES
    }
    assert found == {"linux/confinement/identity.py"}, "use policyfs.linux.confinement.identity.become"
