"""A mount that lives on after its unmount, in another mount namespace or in open files, and the next one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.cli.audit import verify as audit_verify
from tests.support.machine.namespace import enter_private_namespace
from tests.support.machine.processes import Child, call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount, Said, policyfs
from tests.support.mount.stores import Mounts

APP = 10050
NOTES = "Documents/notes.txt"
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: leaving}
apps: {app: {uid: %d}}
rules:
  - {id: read, allow: [see, read], who: {app: %s}, paths: ["/**"], audit: required}
"""
OPEN, CLOSED = POLICY % (APP, "app"), POLICY.replace("allow: [see, read]", "allow: [see]") % (APP, "app")


def command(mount: Mount, *words: str | os.PathLike[str]) -> Said:
    with mount.as_environment():
        return policyfs(*words)


def _bound(channel, path: Path) -> list[str]:
    """A container: a mount namespace in which the mount goes on."""
    enter_private_namespace()
    channel.send("bound")
    said = []
    while channel.recv() == "read":
        said.append(call_as(APP, code_of, path.read_bytes) or "read")
        channel.send(said[-1])
    return said


def _held(channel, path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    channel.send("open")
    channel.recv()
    os.close(fd)


@pytest.fixture
def container(mounts: Mounts, store: Path):
    """A mount, and a mount namespace that has a copy of it."""
    mount = mounts.start(OPEN, store)
    child = start_as(0, _bound, mount / NOTES)
    assert child.receive() == "bound"
    yield mount, child
    child.kill()


def next_mount(mounts: Mounts, old: Mount) -> Mount:
    """The next daemon for the same mountpoint, which begins while the old one lives."""
    new = Mount(old.store, old.mountpoint, old.policy, work=mounts.work)
    new.log = old.log.with_suffix(".new")
    mounts.all.append(new)
    return new.start()


def reads(child: Child) -> str:
    child.send("read")
    return str(child.receive())


def gone(old: Mount, how: str) -> None:
    assert old.process is not None
    assert old.process.wait(20) == 0, how


def test_what_lives_on_is_told_and_the_next_mount_starts_at_once(container, mounts: Mounts) -> None:
    """Attack F3.4: Keep a mount alive in a mount namespace of one's own, or by open files, so that no new
    mount is possible, and nobody notices
    Guard: policyfs/journal/writing/recorders.py::open_journal, policyfs/daemon/control/server.py::claim
    Also: ::test_open_files_of_a_mount_that_has_left_are_named
    Without: tests/attack/test_own_mount_taken.py::test_no_next_mount_where_a_trail_takes_one_recorder
    """
    old, child = container
    said = command(old, "umount", old.mountpoint)
    assert said.returncode == 1
    assert "still use the mount" in said.stderr
    assert f"(pid {child.pid}, uid 0): mount {old.mountpoint} in another mount namespace" in said.stderr
    new = next_mount(mounts, old)
    assert call_as(APP, (new / NOTES).read_text) == "plain words\n"
    assert reads(child) == "read"

    listed = command(old, "status").stdout
    [_, now, before, told] = listed.splitlines()
    assert (now.split()[0], now.split()[-2:]) == (str(new.mountpoint), [str(new.pid), "well"])
    assert (before.split()[0], before.split()[-2:]) == (str(old.mountpoint), [str(old.pid), "LEAVING"])
    assert told == f"{old.mountpoint}: NOT WELL: unmounted, but processes still use the mount"
    one = new.status()
    assert (one["pid"], one["leaving"]) == (new.pid, False)

    # Each has a chain of its own, and each is whole.
    chains = [path.name for path in new.trail.iterdir() if path.is_dir()]
    assert len(chains) == 2
    assert one["trail"]["directory"] != str(old.trail_dir)
    said = command(old, "audit", "verify")
    assert (said.returncode, said.stdout.count(": whole")) == (0, 2), said

    # A reload is for both.
    old.policy.write_text(CLOSED, encoding="utf-8")
    assert command(old, "reload", old.mountpoint).returncode == 0
    assert code_of(call_as, APP, (new / NOTES).read_text) == "EACCES"
    assert reads(child) == "EACCES"

    # The end of the old one leaves the new one where it is.
    os.kill(old.pid, signal.SIGTERM)
    gone(old, "SIGTERM")
    assert reads(child) in {"ENOTCONN", "ECONNABORTED"}
    assert code_of(call_as, APP, (new / NOTES).read_text) == "EACCES"
    assert command(old, "status").stdout.count(str(old.mountpoint)) == 1
    assert command(new, "audit", "verify").returncode == 0
    old.process = None


@pytest.mark.parametrize("what", ["--wait", "--abort"])
def test_umount_waits_for_what_lives_on_or_ends_it(container, what: str) -> None:
    old, child = container
    if what == "--abort":
        assert command(old, "umount", what, old.mountpoint).returncode == 0
        assert reads(child) in {"ENOTCONN", "ECONNABORTED"}
    else:
        waiting = start_as(0, lambda _: command(old, "umount", what, old.mountpoint).returncode)
        wait_for(lambda: old.events(type="detached"), "it is detached")
        assert reads(child) == "read"
        child.send("enough")
        assert waiting.result() == 0
    gone(old, what)
    assert old.events(type="close")[-1]["cause"] == "command"


def _waits(channel, path: Path) -> str:
    channel.send("begins")
    return code_of(path.read_text) or "read"


def test_abort_ends_a_daemon_that_has_left_and_hangs(container) -> None:
    """Its control socket answers nobody, and the mount is no mount of this namespace any more."""
    mount, child = container
    assert command(mount, "umount", "--lazy", mount.mountpoint).returncode == 0
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        child.send("read")
        said = command(mount, "umount", "--abort", mount.mountpoint)
        assert said.returncode == 0, said
        assert child.receive() in {"ENOTCONN", "ECONNABORTED", "EIO"}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(mount.pid, signal.SIGCONT)
    assert mount.process.wait(20) == -signal.SIGKILL
    mount.process = None


def test_abort_frees_those_who_wait_for_a_daemon_that_hangs(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(OPEN, store, "--no-passthrough")
    os.kill(mount.pid, signal.SIGSTOP)
    child = start_as(APP, _waits, mount / NOTES)
    assert child.receive() == "begins"
    try:
        assert command(mount, "umount", "--abort", mount.mountpoint).returncode == 0
        assert child.result() in {"ENOTCONN", "ECONNABORTED"}
        assert not mount.is_mounted()
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    mount.process.wait(20)
    mount.process = None


@pytest.mark.parametrize("before", [(), ("--lazy",)], ids=["by nobody", "by umount --lazy"])
def test_open_files_of_a_mount_that_has_left_are_named(mounts: Mounts, store: Path, before) -> None:
    old = mounts.start(OPEN, store, "--no-passthrough")
    child = start_as(APP, _held, old / NOTES)
    assert child.receive() == "open"
    if before:
        said = command(old, "umount", *before, old.mountpoint)
        assert said.returncode == 0
        assert f"pid {child.pid}" in said.stderr
    else:
        old.expected_exit = 1
        assert os.system(f"umount -l {old.mountpoint}") == 0
        wait_for(lambda: old.events(type="detached"), "it is seen")
    said = command(old, "umount", old.mountpoint)
    assert said.returncode == 1
    assert f"pid {child.pid}" in said.stderr
    assert "fd " in said.stderr
    new = next_mount(mounts, old)
    child.send("close")
    child.result()
    assert old.process.wait(20) == old.expected_exit
    old.process = None
    assert call_as(APP, (new / NOTES).read_text) == "plain words\n"


def _cut_last_line(segment: Path) -> None:
    segment.with_suffix(".seal").unlink()  # its own seal would tell
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:-1]))


def _remove(segment: Path) -> None:
    segment.unlink()
    shutil.rmtree(segment.parent)


def _forget_ends(mount: Mount) -> None:
    """Remove the ends of chains that root keeps beside the keys: they would tell, too."""
    ends = list(Path(mount.environment["POLICYFS_KEY_DIR"]).glob("*.end"))
    assert ends
    for end in ends:
        end.unlink()


@pytest.mark.parametrize(
    ("harm", "said"),
    [(_cut_last_line, "lines at the end were removed later"), (_remove, "the whole chain")],
    ids=["end cut off", "removed"],
)
def test_a_chain_does_not_disappear_unseen(
    mounts: Mounts, store: Path, harm: Callable[[Path], None], said: str
) -> None:
    """What its own digests cannot tell, those of a neighbour do, which began when it was there.

    Attack F3.5: Remove the end of the hash chain of a daemon that has ended, or the whole chain
    Guard: policyfs/trail/chain/witness.py::Witness.finish, policyfs/trail/chain/witness.py::vanished
    Also: tests/unit/test_trail_chain_witness.py
    Without: ::test_it_does_where_its_neighbours_say_nothing
    """
    harmed, witness = mounts.start(OPEN, store), mounts.prepare(OPEN, store)
    call_as(APP, (harmed / NOTES).read_text)
    assert harmed.stop() == []
    witness.start()
    assert command(witness, "audit", "verify").returncode == 0
    [segment] = harmed.trail_dir.glob("*.jsonl")
    harm(segment)
    _forget_ends(harmed)
    verified = command(witness, "audit", "verify")
    assert verified.returncode == 1
    assert said in verified.stdout


@pytest.mark.parametrize("harm", [_cut_last_line, _remove], ids=["end cut off", "removed"])
def test_it_does_where_its_neighbours_say_nothing(
    mounts: Mounts, store: Path, harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    harmed, neighbour = mounts.start(OPEN, store), mounts.prepare(OPEN, store)
    assert harmed.stop() == []
    neighbour.start()
    [segment] = harmed.trail_dir.glob("*.jsonl")
    harm(segment)
    _forget_ends(harmed)
    monkeypatch.setattr(audit_verify, "sightings", lambda records: [])
    assert command(neighbour, "audit", "verify").returncode == 0
