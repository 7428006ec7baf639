"""What people put on top of a mount and beside it: overlays, bind mounts, containers, more mounts."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, start_as, tool_as, wait_for
from tests.support.models.twins import error
from tests.support.mount import layers
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

APP, OTHER = 10031, 10032
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  app: {{uid: {APP}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: ["/Work/***", "/DCIM/***"]}}
  - {{id: hide, require: {{redact: location}}, who: {{app: app}}, paths: "/DCIM/**"}}
"""
PHOTO = jpegs.photo_with(jpegs.exif())
SEEN_S = 1.5
QUEUE = 16_384
"""Events that a fanotify group holds unread (kernel: FANOTIFY_DEFAULT_MAX_EVENTS)."""


@pytest.fixture
def filled(empty_store: Path) -> Path:
    for name in ("DCIM", "Work"):
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    (empty_store / "DCIM/a.jpg").write_bytes(PHOTO)
    (empty_store / "DCIM/a.jpg").chmod(0o666)
    (empty_store / "Work/notes.txt").write_text("words\n")
    (empty_store / "Private").mkdir()
    return empty_store


@pytest.fixture
def container(mounts: Mounts, filled: Path) -> Mount:
    """The app's own mount, for whoever reaches it."""
    return mounts.start(POLICY, filled, "--app", "app", "--any-uid")


def test_an_overlay_on_top_shows_what_the_app_may_see_and_leaves_the_store_alone(
    container: Mount, filled: Path, arena: Path
) -> None:
    upper = arena / "upper-side"
    upper.mkdir()
    with layers.overlay(container.mountpoint, upper) as merged:
        assert sorted(os.listdir(merged)) == ["DCIM", "Work"]
        shown = (merged / "DCIM/a.jpg").read_bytes()
        assert (len(shown), jpegs.leaks(shown)) == (len(PHOTO), [])
        (merged / "Work/notes.txt").write_text("changed\n")  # copied up
        (merged / "DCIM/a.jpg").chmod(0o600)  # copied up, with its bytes
        os.unlink(merged / "DCIM/a.jpg")
        (merged / "Work/new.txt").write_text("new\n")
        assert sorted(os.listdir(merged / "Work")) == ["new.txt", "notes.txt"]
        assert sorted(os.listdir(merged / "DCIM")) == []
    assert (filled / "Work/notes.txt").read_text() == "words\n"
    assert (filled / "DCIM/a.jpg").read_bytes() == PHOTO
    assert sorted(os.listdir(filled / "Work")) == ["notes.txt"]
    copied = [path for path in (upper / "upper").rglob("*") if path.is_file()]  # no whiteouts
    assert not jpegs.leaks(b"".join(path.read_bytes() for path in copied))


@pytest.fixture
def elsewhere(container: Mount, arena: Path) -> Iterator[Path]:
    """A directory of the mount bound elsewhere, as containers get their part of a tree."""
    target = arena / "elsewhere"
    target.mkdir()
    layers.mount("--bind", container / "DCIM", target)
    try:
        yield target
    finally:
        layers.unmount(target)


def test_a_bind_mount_of_a_part_of_it_stays_through_reloads_and_changes(
    container: Mount, filled: Path, elsewhere: Path
) -> None:
    for number in range(3):
        (filled / f"DCIM/{number}.jpg").write_bytes(PHOTO)
        (filled / f"Work/{number}.txt").write_text("x")
        os.utime(filled / "Work")
        assert container.policy is not None
        container.policy.write_text(POLICY + f"# {number}\n")
        assert container.reload().returncode == 0
        wait_for(lambda n=number: (elsewhere / f"{n}.jpg").exists(), "seen through the bind mount", SEEN_S)
        assert not jpegs.leaks(call_as(OTHER, Path.read_bytes, elsewhere / f"{number}.jpg"))
        assert os.path.ismount(elsewhere)


def test_in_a_container_the_app_is_who_comes_through(container: Mount, filled: Path) -> None:
    """A user, mount and pid namespace of its own: its root is no root, and is the app."""
    script = f"""
        set -e
        test "$(id -u)" = 0
        cd {container.mountpoint}
        ls
        cp DCIM/a.jpg Work/copy.jpg
        echo words > Work/from-inside.txt
        mkdir Work/dir
        mv Work/from-inside.txt Work/dir/
        ln Work/dir/from-inside.txt Work/again.txt
        stat -c %u:%g:%h Work/again.txt
        ! chown 12345 Work/again.txt 2>/dev/null
        ! cat Private 2>/dev/null
    """
    inside = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc")
    said = tool_as(APP + 7, *inside, "sh", "-c", script, check=True)
    assert said.stdout.split() == [b"DCIM", b"Work", b"0:0:2"]
    made = (filled / "Work/again.txt").stat()
    assert (made.st_uid, made.st_gid) == (APP + 7, APP + 7), "outside it is who it really is"
    assert not jpegs.leaks((filled / "Work/copy.jpg").read_bytes())
    assert {event["app"] for event in container.events(uid=APP + 7)} == {"app"}


def test_in_a_shared_mount_the_root_of_a_container_is_the_uid_outside(mounts: Mounts, filled: Path) -> None:
    mount = mounts.start(POLICY, filled)
    inside = ("unshare", "--user", "--map-root-user", "cat", mount / "DCIM/a.jpg")
    assert tool_as(OTHER, *inside, check=True).stdout == PHOTO
    assert not jpegs.leaks(tool_as(APP, *inside, check=True).stdout)
    assert tool_as(10099, *inside).returncode == 1


def test_changes_through_one_mount_are_seen_in_the_others(mounts: Mounts, filled: Path) -> None:
    one, two = mounts.start(POLICY, filled, "--app", "other"), mounts.start(POLICY, filled)
    own = mounts.start(POLICY, filled, "--app", "app")

    def views() -> list[tuple[list[str], str]]:
        return [
            (
                sorted(call_as(uid, os.listdir, mount / "Work")),
                call_as(uid, error, Path.read_bytes, mount / "Work/notes.txt"),
            )
            for uid, mount in ((OTHER, one), (OTHER, two), (APP, two), (APP, own))
        ]

    def everywhere(names: list[str], content: bytes) -> None:
        expected = [(names, repr(content))] * 4
        wait_for(lambda: views() == expected, f"{names} and {content!r} in every mount", SEEN_S)

    everywhere(["notes.txt"], b"words\n")
    call_as(OTHER, Path.write_bytes, one / "Work/b", b"b")
    everywhere(["b", "notes.txt"], b"words\n")
    call_as(APP, os.rename, own / "Work/b", own / "Work/c")
    everywhere(["c", "notes.txt"], b"words\n")
    os.chmod(filled / "Work/notes.txt", 0o666)
    call_as(APP, Path.write_bytes, two / "Work/notes.txt", b"other words\n")
    everywhere(["c", "notes.txt"], b"other words\n")
    call_as(OTHER, os.unlink, one / "Work/c")
    (filled / "Work/notes.txt").write_bytes(b"from below\n")
    everywhere(["notes.txt"], b"from below\n")


def test_after_more_changes_than_the_queue_holds_nothing_outdated_is_shown(
    mounts: Mounts, filled: Path
) -> None:
    mount = mounts.start(POLICY, filled, "--app", "other")
    for number in range(50):
        (filled / f"Work/old-{number}").write_bytes(b"1")
    seen = call_as(OTHER, _state, str(mount / "Work"))
    assert len(seen) == 51
    work = str(filled / "Work")
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        for number in range(QUEUE + 2000):
            os.mknod(f"{work}/flood-{number}")
        for number in range(50):
            os.rename(filled / f"Work/old-{number}", filled / f"Work/moved-{number}")
        for number in range(QUEUE + 2000):
            os.unlink(f"{work}/flood-{number}")
        (filled / "Work/notes.txt").write_bytes(b"longer than before\n")
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    truth = _state(str(filled / "Work"))
    wait_for(lambda: call_as(OTHER, _state, str(mount / "Work")) == truth, "the truth is seen", 3.0)
    wait_for(lambda: mount.status()["watch"]["overflows"] >= 1, "the queue did overflow", 10.0)


def _state(directory: str) -> dict[str, int]:
    return {entry.name: os.stat(entry.path).st_size for entry in os.scandir(directory)}


def test_another_mount_namespace_that_has_it_keeps_no_daemon_alive(container: Mount) -> None:
    """One that was made meanwhile (a container) has the mount still, after it was taken away here."""
    child = start_as(0, _look_from_elsewhere, str(container / "Work/notes.txt"))
    assert child.receive() == b"words\n"
    assert container.stop() == []
    child.send("again")
    assert child.receive() in {"ENOTCONN", "ENOENT"}, "the daemon is gone, and nobody waits"
    child.send("end")
    child.result()
    container.start()


def _look_from_elsewhere(channel, path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=10)
    with open(path, "rb") as file:
        channel.send(file.read())
    channel.recv()
    channel.send(error(Path.read_bytes, Path(path)))
    channel.recv()
