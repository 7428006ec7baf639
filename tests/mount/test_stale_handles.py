"""Open files that a new policy would not have granted: counted, told, on record, ended on demand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount, Said, policyfs
from tests.support.mount.stores import Mounts

ONE, TWO = 10010, 10011
HEAD = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  one: {{uid: {ONE}}}
  two: {{uid: {TWO}}}
rules:
  - {{id: all, allow: [all], who: {{app: one}}, paths: "/***"}}
"""
OPEN = HEAD + '  - {id: two, allow: [all], who: {app: two}, paths: "/***"}\n'
NO_MUSIC = HEAD + '  - {id: two, allow: [all], who: {app: two}, paths: "/Documents/***"}\n'
READ_ONLY = HEAD + '  - {id: two, allow: [see, read], who: {app: two}, paths: "/***"}\n'
SHOWS = "shows data that the policy now hides"
REDACTED = OPEN + '  - {id: places, require: {redact: location}, who: {app: two}, paths: "/DCIM/***"}\n'


def _holds(channel, path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    channel.send("open")
    while channel.recv() != "close":
        channel.send(error(os.pread, fd, 3, 0))
    os.close(fd)
    channel.send("closed")
    channel.recv()


def _reload(mount: Mount, policy: str, *words: str) -> Said:
    mount.policy.write_text(policy)
    with mount.as_environment():
        return policyfs("reload", mount.mountpoint, *words)


def _stale(mount: Mount) -> dict:
    return mount.status()["stale_handles"]


@pytest.fixture
def mount(mounts: Mounts, store: Path) -> Mount:
    (store / "Documents/notes.txt").chmod(0o666)
    return mounts.start(OPEN, store)


@pytest.mark.parametrize(
    ("policy", "path", "flags", "access", "reason"),
    [
        (NO_MUSIC, "/Music/song.mp3", os.O_RDONLY, "read", "the policy now refuses this open: ENOENT"),
        (
            READ_ONLY,
            "/Documents/notes.txt",
            os.O_RDWR,
            "read and write",
            "the policy now refuses this open: EACCES",
        ),
        (REDACTED, "/DCIM/Camera/a.jpg", os.O_RDONLY, "read", f"{SHOWS}: location"),
    ],
    ids=["hidden", "not-written", "redacted"],
)
def test_a_reload_tells_of_them_until_they_are_closed(
    mount: Mount, policy: str, path: str, flags: int, access: str, reason: str
) -> None:
    mount.expected_log.append("files stay open")
    holder = start_as(TWO, _holds, mount.mountpoint / path[1:], flags)
    assert holder.receive() == "open"
    granted = start_as(ONE, _holds, mount.mountpoint / path[1:], flags)
    assert granted.receive() == "open"
    assert _stale(mount)["count"] == 0
    said = _reload(mount, policy)
    assert said.returncode == 0
    assert "1 open file in passthrough that this policy would not open in this way (two 1)" in said.stdout
    assert f"two {path} (pid {holder.pid}, {access}): {reason}" in said.stdout
    found = _stale(mount)
    assert (found["count"], found["apps"]) == (1, {"two": 1})
    assert found["files"][0]["path"] == path
    with mount.as_environment():
        assert f"two {path}" in policyfs("status", mount.mountpoint).stdout
    (record,) = mount.events(type="stale_handles")
    assert (record["count"], record["generation"], record["files"]) == (1, 2, found["files"])
    holder.send("read")
    assert not holder.receive().startswith("E")  # the kernel asks nobody
    holder.send("close")
    assert holder.receive() == "closed"
    wait_for(lambda: _stale(mount)["count"] == 0, "none is open any more")
    for one in (holder, granted):
        one.send("close")
    holder.result()
    assert granted.receive() == "closed"
    granted.send("end")
    granted.result()


def test_a_policy_that_grants_them_again_ends_the_matter(mount: Mount) -> None:
    holder = start_as(TWO, _holds, mount.mountpoint / "Music/song.mp3", os.O_RDONLY)
    holder.receive()
    assert "would not open in this way" in _reload(mount, NO_MUSIC).stdout
    assert "would not open in this way" not in _reload(mount, OPEN).stdout
    assert _stale(mount)["count"] == 0
    for word in ("close", "end"):
        holder.send(word)
    holder.result()


def test_mediated_handles_are_none_of_them(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(OPEN, store, "--no-passthrough")
    holder = start_as(TWO, _holds, mount.mountpoint / "Music/song.mp3", os.O_RDONLY)
    holder.receive()
    assert "would not open in this way" not in _reload(mount, NO_MUSIC).stdout
    holder.send("read")
    assert holder.receive() == "ENOENT"
    for word in ("close", "end"):
        holder.send(word)
    holder.result()


def test_a_watched_file_is_loaded_when_it_changes(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(OPEN, store, "--watch")
    mount.expected_log.append("refused")
    new = mount.policy.with_name("new")
    new.write_text(NO_MUSIC)
    os.rename(new, mount.policy)
    wait_for(lambda: mount.status()["policy"]["generation"] == 2, "the new policy is in force")
    assert call_as(TWO, error, os.stat, mount / "Music") == "ENOENT"
    mount.policy.write_text(NO_MUSIC + "  - nonsense\n")
    wait_for(lambda: mount.events(type="policy", result="refused"), "the refusal is on record")
    assert mount.status()["policy"]["generation"] == 2
    mount.policy.write_text(OPEN)
    wait_for(lambda: mount.status()["policy"]["generation"] == 3, "the next one is in force")
    assert {record["cause"] for record in mount.events(type="policy")} == {"watch"}


def test_a_signal_tells_the_trail_of_them_too(mount: Mount) -> None:
    import signal

    holder = start_as(TWO, _holds, mount.mountpoint / "Music/song.mp3", os.O_RDONLY)
    holder.receive()
    mount.policy.write_text(NO_MUSIC)
    os.kill(mount.pid, signal.SIGHUP)
    (record,) = wait_for(lambda: mount.events(type="stale_handles"), "they are on record")
    assert record["apps"] == {"two": 1}
    for word in ("close", "end"):
        holder.send(word)
    holder.result()
