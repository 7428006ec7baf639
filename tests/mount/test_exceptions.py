"""Exceptions end in running mounts: at their time, as by a reload, and for good."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policyfs.daemon.high_water import NAME
from policyfs.policy.exceptions import instant_text
from tests.support.machine import clocked
from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import content, error, fd_of
from tests.support.mount.daemons import Mount, MountFailed, policyfs
from tests.support.mount.stores import Mounts

CAMERA, GUEST = 10010, 10011
HOUR_S = 3600.0
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {camera}}}
  guest: {{uid: {guest}}}
rules:
  - {{id: own, allow: [all], who: {{app: camera}}, paths: "/***"}}
  - {{id: notes, allow: [see, read], who: {{app: guest}}, paths: "/Documents/***"}}
exceptions:
  - id: party
    allow: [see, read]
    until: {until}
    reason: slides for the party
    approved-by: Ann
    who: {{app: guest}}
    paths: "/Music/***"
"""


def policy(left_s: float) -> str:
    until = instant_text(time.time_ns() + int(left_s * 1e9))
    return POLICY.format(camera=CAMERA, guest=GUEST, until=until)


@pytest.fixture(params=first(1, [("shared",), ("app",)]))
def clock(request, mounts: Mounts, store: Path, arena: Path) -> tuple[Mount, Callable[[float], None]]:
    """A mount with an exception for an hour, and a function that makes its clock wrong."""
    file = arena / "clock"
    clocked.step(file, 0)
    options = ("--app", "guest") if request.param == "app" else ()
    mount = mounts.prepare(policy(HOUR_S), store, *options)
    mount.program = ("tests.support.machine.clocked", str(file))
    return mount.start(), lambda seconds: clocked.step(file, seconds)


def _guest(channel, mount: Path) -> None:
    """Look at what the exception shows, again and again; a handle stays open."""
    song = mount / "Music/song.mp3"
    held = os.open(song, os.O_RDONLY)
    while channel.recv() != "end":
        channel.send([
            error(os.stat, song).partition("(")[0], error(content, str(song))[:12],
            sorted(os.listdir(mount)), error(os.pread, held, 4, 0)[:8],
            error(content, str(mount / "Documents/notes.txt")),
        ])  # fmt: skip
    os.close(held)


def _exception(mount: Mount) -> dict:
    (found,) = mount.status()["policy"]["exceptions"]
    return found


def test_an_exception_ends_by_itself_and_for_good(clock) -> None:
    mount, step = clock
    guest = start_as(GUEST, _guest, mount.mountpoint)
    guest.send("look")
    before = guest.receive()
    assert before[0].startswith("os.stat_result")
    assert "Music" in before[2]
    assert _exception(mount)["in_force"]

    step(2 * HOUR_S)
    begun = time.monotonic()
    wait_for(lambda: not _exception(mount)["in_force"], "the exception has ended")
    assert time.monotonic() - begun < 5
    guest.send("look")
    after = guest.receive()
    assert after[:3] == ["ENOENT", "ENOENT", ["Documents"]]
    assert after[4] == before[4]
    status = mount.status()["policy"]
    assert (status["generation"], status["previous"]) == (2, "")

    step(0)  # the clock goes back: a reload brings nothing back, nor does a restart
    assert mount.reload().returncode == 0
    guest.send("look")
    assert guest.receive()[:3] == after[:3]
    guest.send("end")
    guest.result()
    assert mount.stop() == []
    mount.start()
    assert call_as(GUEST, os.listdir, mount.mountpoint) == ["Documents"]
    assert not _exception(mount)["in_force"]

    events = mount.events(app="guest", operation="open", path="/Music/song.mp3", decision="allow")
    assert {tuple(event["rules"]) for event in events} == {("exception:party",)}
    assert {event["generation"] for event in events} == {1}
    (ended,) = [record for record in mount.events(type="policy") if record["cause"] == "exception"]
    assert ended["result"] == "in force"
    assert ended["exceptions"] == {}
    assert ended["generation"] == 2
    assert list(mount.events(type="mount")[0]["exceptions"]) == ["party"]
    with mount.as_environment():
        assert policyfs("audit", "search", "--rule", "exception:party").stdout.count("song.mp3") >= 1
        assert "ENDED at" in policyfs("status", mount.mountpoint).stdout
        assert policyfs("audit", "verify").returncode == 0


def test_ends_are_lost_with_the_trail(clock) -> None:
    """docs/operations.md says so of a lost trail, if the clock then goes back."""
    mount, step = clock
    step(2 * HOUR_S)
    wait_for(lambda: not _exception(mount)["in_force"], "the exception has ended")
    assert mount.stop() == []
    shutil.rmtree(mount.trail)
    mount.start()
    assert call_as(GUEST, os.listdir, mount.mountpoint) == ["Documents"], "the clock knows it, too"
    assert mount.stop() == []
    shutil.rmtree(mount.trail)
    step(0)
    mount.start()
    assert "Music" in call_as(GUEST, os.listdir, mount.mountpoint)


def test_a_clock_that_is_not_set_begins_no_exception_again(
    mounts: Mounts, store: Path, arena: Path
) -> None:
    """The party was over while the machine was off; then its clock began in 1970, and jumped."""
    over, lasts = policy(-HOUR_S), policy(HOUR_S)
    clocked.step(arena / "clock", -time.time())
    mount = mounts.prepare(over, store)
    mount.program = ("tests.support.machine.clocked", str(arena / "clock"))
    with pytest.raises(MountFailed, match="the clock of this machine is not set"):
        mount.start()
    mount.log.write_text("")
    mount.policy.write_text(over.partition("exceptions:")[0])
    mount.start()
    mount.policy.write_text(over)
    assert "the clock of this machine is not set" in mount.reload().stderr
    clocked.step(arena / "clock", 0)
    assert mount.reload().returncode == 0
    assert call_as(GUEST, os.listdir, mount.mountpoint) == ["Documents"]
    mount.policy.write_text(lasts)
    assert mount.reload().returncode == 0
    assert "Music" in call_as(GUEST, os.listdir, mount.mountpoint)


def _replayed(mount: Mount, text: str, file: Path) -> dict[str, Any]:
    file.write_text(text)
    return json.loads(policyfs("policy", "replay", mount.trail_dir, "--policy", file, "--json").stdout)


def test_a_trail_is_replayed_with_the_exceptions_of_each_time(
    clock, arena: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(arena / "cache"))
    mount, step = clock
    song = mount / "Music/song.mp3"
    assert call_as(GUEST, content, song)
    assert call_as(GUEST, content, mount / "Documents/notes.txt")
    step(2 * HOUR_S)
    wait_for(lambda: not _exception(mount)["in_force"], "the exception has ended")
    step(0)  # it stays ended
    assert call_as(GUEST, error, content, song) == "ENOENT"
    assert mount.stop() == []

    text = mount.policy.read_text()
    same = _replayed(mount, text, arena / "same.yaml")
    assert (same["changes"], same["undecidable"], same["by_recorded_answer"]) == ([], {}, 0)
    without = _replayed(mount, text.partition("exceptions:")[0], arena / "without.yaml")
    [change] = [one for one in without["changes"] if one["operation"] == "open"]
    assert (change["direction"], change["count"], change["after"]) == ("narrower", 1, "ENOENT")
    assert change["examples"][0]["path"] == "/Music/song.mp3"
    for_good = text.partition("exceptions:")[0] + (
        '  - {id: music, allow: [see, read], who: {app: guest}, paths: "/Music/***", audit: required}\n'
    )
    changes = _replayed(mount, for_good, arena / "for-good.yaml")["changes"]
    assert changes
    assert {(one["direction"], one["before"]) for one in changes} == {("wider", "ENOENT")}

    learnt = policyfs("policy", "learn", mount.trail_dir)
    assert "- guest open, once" in learnt.stdout
    assert "only an exception of the recorded policy allows the request" in learnt.stdout
    assert "/Documents/notes.txt" in learnt.stdout
    assert "/Music" not in learnt.stdout


def _reads(channel, path: Path) -> None:
    with fd_of(path, os.O_RDONLY) as fd:
        while channel.recv() != "end":
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            channel.send(error(os.pread, fd, 4, 0))


def test_a_mediated_handle_reads_no_more(mounts: Mounts, store: Path, arena: Path) -> None:
    clocked.step(arena / "clock", 0)
    mount = mounts.prepare(policy(HOUR_S), store, "--no-passthrough")
    mount.program = ("tests.support.machine.clocked", str(arena / "clock"))
    mount.start()
    reader = start_as(GUEST, _reads, mount / "Music/song.mp3")
    reader.send("read")
    assert reader.receive().startswith("b'")
    clocked.step(arena / "clock", HOUR_S)
    wait_for(lambda: not _exception(mount)["in_force"], "the exception has ended")
    reader.send("read")
    assert reader.receive() == "ENOENT"
    reader.send("end")
    reader.result()


def test_a_longer_exception_needs_a_new_text(clock) -> None:
    mount, step = clock
    step(2 * HOUR_S)
    wait_for(lambda: not _exception(mount)["in_force"], "the exception has ended")
    step(0)
    mount.policy.write_text(policy(2 * HOUR_S))
    assert mount.reload().returncode == 0
    assert "Music" in call_as(GUEST, os.listdir, mount.mountpoint)


def test_a_damaged_file_of_ends_ends_all(
    mounts: Mounts, store: Path
) -> None:
    mount = mounts.start(policy(HOUR_S), store)
    assert mount.stop() == []
    (mount.trail / NAME).write_bytes(b"rubbish\n")
    mount.start()
    assert call_as(GUEST, os.listdir, mount.mountpoint) == ["Documents"]
    assert call_as(GUEST, error, os.stat, mount / "Music") == "ENOENT"
    assert "their file is damaged" in mount.log.read_text()
