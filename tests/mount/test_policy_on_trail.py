"""What a mount is asked to do, and by whom, is on its trail: starts, failed ones, changes of policy."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine.processes import call_as, wait_for
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount, MountFailed, Said, policyfs, policyfs_process
from tests.support.mount.stores import Mounts

APP = 10010
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: told}}
apps: {{app: {{uid: {APP}}}}}
rules:
  - {{id: look, allow: [see, read], who: {{app: app}}, paths: "/***"}}
"""
CLOSED = POLICY.replace("[see, read]", "[see]")
THIRD = POLICY.replace("id: look", "id: third")
BROKEN = POLICY.replace("allow", "alow")


def digest(policy: str) -> str:
    return hashlib.sha256(policy.encode()).hexdigest()


def command(mount: Mount, *words: str | os.PathLike[str]) -> Said:
    with mount.as_environment():
        return policyfs(*words)


def told(mount: Mount, kind: str) -> list[dict[str, Any]]:
    return mount.events(type=kind)


@pytest.fixture
def mount(mounts: Mounts, store: Path) -> Mount:
    return mounts.start(POLICY, store)


def test_a_start_is_on_record_with_all_its_options(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(POLICY, store, "--app", "app", "--no-passthrough", "--copy-max", "4M")
    mount.executed = True  # by this process, which the record is to name
    mount.start()
    [start] = told(mount, "mount")
    assert (start["policy"], start["name"]) == (digest(POLICY), "told")
    assert (start["pid"], start["uid"]) == (os.getpid(), 0)
    assert start["exe"] == os.readlink("/proc/self/exe")
    options = start["options"]
    assert options["policy"] == str(mount.policy)
    assert (options["app"], options["no_passthrough"], options["copy_max"]) == ("app", True, 4 << 20)
    assert (options["posix"], options["store"]) == (False, str(store))


def test_a_change_of_policy_is_on_record_with_who_did_it_and_its_text(mount: Mount) -> None:
    """Each record names the process that ran the command, not the command's own interpreter."""
    for text, code in ((CLOSED, 0), (BROKEN, 3)):
        mount.policy.write_text(text)
        reloaded = policyfs_process("reload", mount.mountpoint, environment=mount.environment, executed=True)
        assert reloaded.returncode == code
    os.kill(mount.pid, signal.SIGHUP)
    wait_for(lambda: len(told(mount, "policy")) == 3, "the reload by a signal is on record")
    changed, refused, signalled = told(mount, "policy")
    assert (changed["result"], changed["policy"], changed["previous"], changed["generation"]) == (
        "in force", digest(CLOSED), digest(POLICY), 2,
    )  # fmt: skip
    by = (os.getpid(), 0, os.readlink("/proc/self/exe"))
    assert {(one["pid"], one["uid"], one["exe"]) for one in (changed, refused, signalled)} == {by}
    assert [(one["cause"], one["how"]) for one in (changed, refused, signalled)] == [
        ("command", "policyfs reload"), ("command", "policyfs reload"), ("signal", "SIGHUP"),
    ]  # fmt: skip
    for one in (refused, signalled):
        assert (one["result"], one["policy"], one["refused"]) == ("refused", digest(CLOSED), digest(BROKEN))
        assert "alow" in one["reason"]
    for text in (POLICY, CLOSED, BROKEN):
        said = command(mount, "audit", "show", "--policy", digest(text)[:12])
        assert (said.returncode, said.stdout) == (0, text)
    for path in (mount.trail_dir / "policies").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    listed = command(mount, "audit", "show", "--policy").stdout
    for word in (digest(POLICY)[:16], digest(CLOSED)[:16], "SIGHUP", "refused"):
        assert word in listed
    assert command(mount, "audit", "show", "--policy", "0" * 16).returncode == 1
    assert command(mount, "audit", "verify").returncode == 0
    assert "refused" in command(mount, "audit", "search").stdout


def test_a_policy_in_several_files_is_kept_as_it_is(mounts: Mounts, store: Path, arena: Path) -> None:
    directory = arena / "policies"
    directory.mkdir()
    apps, rules = POLICY.split("rules:\n")
    (directory / "apps.yaml").write_text(apps)
    (directory / "rules.yaml").write_text("apiVersion: policyfs/v1\nkind: Policy\nrules:\n" + rules)
    mount = mounts.prepare(POLICY, store)
    mount.policy = directory
    mount.start()
    [start] = told(mount, "mount")
    kept = mount.trail_dir / "policies" / start["policy"]
    assert sorted(path.name for path in kept.iterdir()) == ["apps.yaml", "rules.yaml"]
    said = policyfs("policy", "check", kept)
    assert said.returncode == 0
    assert start["policy"][:16] in said.stdout


def test_back_to_the_policy_before_also_after_a_restart(mount: Mount) -> None:
    said = command(mount, "reload", "--previous", mount.mountpoint)
    assert said.returncode == 1
    assert "no earlier policy to go back to" in said.stderr
    mount.policy.write_text(CLOSED)
    assert mount.reload().returncode == 0
    assert mount.reload().returncode == 0  # the same again is no other policy
    assert call_as(APP, error, (mount / "Documents/notes.txt").read_text) == "EACCES"
    said = command(mount, "reload", "--previous", mount.mountpoint)
    assert (said.returncode, mount.policy.read_text()) == (0, CLOSED)
    assert "did not change the policy's file" in said.stdout
    assert mount.status()["policy"]["digest"] == digest(POLICY)
    assert call_as(APP, (mount / "Documents/notes.txt").read_text)
    assert told(mount, "policy")[-1]["how"] == "policyfs reload --previous"
    mount.policy.write_text(THIRD)
    assert mount.stop() == []
    mount.start()
    assert mount.status()["policy"]["previous"] == digest(POLICY)
    text = next((mount.trail_dir / "policies" / digest(POLICY)).iterdir())
    text.write_text(CLOSED)
    said = command(mount, "reload", "--previous", mount.mountpoint)
    assert said.returncode == 1
    assert "was changed, so policyfs does not load that text" in said.stderr
    verified = command(mount, "audit", "verify")
    assert verified.returncode == 1
    assert f"the text of policy {digest(POLICY)[:16]}" in verified.stdout


def test_starts_that_failed_are_on_record_where_there_is_a_trail(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(BROKEN, store)
    mount.executed = True  # by this process, which the record is to name
    with pytest.raises(MountFailed):
        mount.start()
    mount.process = None
    [failed] = told(mount, "failed")
    assert "alow" in failed["reason"]
    assert failed["options"]["policy"] == str(mount.policy)
    assert failed["pid"] == os.getpid()
    mount.policy.write_text(POLICY)
    mount.store = store / "missing"
    with mount.as_environment():
        assert policyfs("mount", "--policy", mount.policy, mount.store, mount.mountpoint).returncode == 1
    assert "does not exist" in told(mount, "failed")[-1]["reason"]
    assert command(mount, "audit", "verify").returncode == 0
    assert "did not mount" in command(mount, "audit", "search").stdout


def test_a_text_that_is_gone_is_named(mount: Mount) -> None:
    assert mount.stop() == []
    shutil.rmtree(mount.trail_dir / "policies" / digest(POLICY))
    verified = command(mount, "audit", "verify")
    assert verified.returncode == 1
    assert "whole, but INCOMPLETE" in verified.stdout
    assert f"the text of policy {digest(POLICY)[:16]} (policies/) is missing" in verified.stdout
    report = json.loads(command(mount, "audit", "verify", "--json").stdout)
    assert report["whole"]
    assert [text["what"][:18] for text in report["missing"]] == ["the text of policy"]
