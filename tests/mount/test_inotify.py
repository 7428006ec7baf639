"""With --inotify, inotify reports in an app mount what other programs change in the store."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.support.machine.processes import Child, call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs.inotify import END, Told, watch

APP, OTHER = 10130, 10131
STORM = 300
RATE = 200
"""Changes in a second."""
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: inotify}}
apps: {{viewer: {{uid: {APP}}}, manager: {{uid: {OTHER}}}}}
rules:
  - {{id: viewer, allow: [see, read], who: {{app: viewer}}, paths: ["/Music/***", "/Films/***"]}}
  - {{id: words, allow: [write], who: {{app: viewer}}, paths: "/Music/own.txt"}}
  - {{id: manager, allow: [all], who: {{app: manager}}, paths: "/***"}}
  - {{id: hidden, deny: [all], who: {{app: viewer}}, paths: "/**/secret*", errno: ENOENT}}
  - {{id: by-kind, deny: [see], who: {{app: viewer}}, paths: "/Films/**", when: {{type: text/plain}},
      errno: ENOENT}}
"""


@pytest.fixture
def filled(empty_store: Path) -> Path:
    for name in ("Music", "Films"):
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    (empty_store / "Music/old.txt").write_text("a song")
    (empty_store / "Music/own.txt").write_text("words")
    (empty_store / "Music/own.txt").chmod(0o666)
    return empty_store


@pytest.fixture
def own(mounts: Mounts, filled: Path) -> Mount:
    mount = mounts.start(POLICY, filled, "--app", "viewer", "--inotify")
    wait_for(lambda: mount.status()["inotify"]["pid"], "the announcer runs")
    return mount


def _watching(mount: Mount, *names: str) -> Child:
    child = start_as(APP, watch, [mount / name for name in names or ("Music",)])
    assert child.receive() == "watching"
    return child


def _told(child: Child, store: Path, name: str = "Music") -> list[Told]:
    """All events until that of a last file, without it."""
    (store / name / END).touch()
    told: list[Told] = child.result()
    assert told and str(told[-1]) == f"CREATE {END}"
    return told[:-1]


def _words(told: list[Told]) -> list[str]:
    return [str(one) for one in told]


def _each(mount: Mount, *changes: tuple[Callable[[], object], int]) -> None:
    """Make one change after the other: each once inotify has reported the last. Numbers: calls for it."""
    for change, calls in changes:
        before = mount.status()["inotify"]["told"]
        change()
        wait_for(lambda at=before + calls: mount.status()["inotify"]["told"] >= at, "it is told")


def test_inotify_reports_each_change_of_a_file_in_order(own: Mount, filled: Path) -> None:
    child, music = _watching(own), filled / "Music"
    _each(
        own,
        (lambda: (music / "a.txt").write_text("words"), 3),
        (lambda: (music / "a.txt").chmod(0o640), 1),
        (lambda: (music / "a.txt").rename(music / "b.txt"), 1),
        ((music / "old.txt").unlink, 1),
        (lambda: (music / "b.txt").write_text("other words"), 2),
        ((music / "b.txt").unlink, 1),
    )
    told = _told(child, filled)
    assert _words(told) == [
        "CREATE a.txt", "MODIFY a.txt", "CLOSE_WRITE a.txt", "ATTRIB a.txt", "MOVED_FROM a.txt",
        "MOVED_TO b.txt", "DELETE old.txt", "MODIFY b.txt", "CLOSE_WRITE b.txt", "DELETE b.txt",
    ]  # fmt: skip
    moves = [one.cookie for one in told if "MOVED" in one.kind]
    assert moves[0] == moves[1] != 0
    assert sorted(call_as(APP, os.listdir, own / "Music")) == ["own.txt", END]


def test_inotify_reports_changes_of_directories(own: Mount, filled: Path) -> None:
    child, music = _watching(own), filled / "Music"
    _each(
        own,
        ((music / "album").mkdir, 1),
        (lambda: (music / "album").rename(music / "album 2"), 2),
        ((music / "album 2").rmdir, 1),
    )
    assert _words(_told(child, filled)) == [
        "CREATE DIR album", "CREATE DIR album 2", "DELETE DIR album", "DELETE DIR album 2",
    ]  # fmt: skip


def test_a_working_directory_keeps_its_path_when_its_directory_is_moved(own: Mount, filled: Path) -> None:
    (filled / "Music/album").mkdir()
    watcher = _watching(own, "Films", "Music")
    child = start_as(APP, _where, cwd=str(own / "Music/album"))
    assert child.receive() == str(own / "Music/album")
    _each(own, (lambda: (filled / "Music/album").rename(filled / "Films/album"), 2))
    child.send("moved")
    assert child.result() == str(own / "Films/album")
    assert _words(_told(watcher, filled, "Films")) == ["CREATE DIR album", "DELETE DIR album"]


def _where(channel: Connection) -> str:
    channel.send(os.getcwd())
    channel.recv()
    return os.getcwd()


def test_a_file_that_moves_in_or_out_of_sight_is_made_or_removed(own: Mount, filled: Path) -> None:
    child, music = _watching(own, "Music", "Films"), filled / "Music"
    _each(
        own,
        (lambda: (music / "old.txt").rename(filled / "old.txt"), 1),
        (lambda: (filled / "old.txt").rename(music / "new.txt"), 3),
        (lambda: (music / "new.txt").rename(music / "secret.txt"), 1),
        (lambda: (music / "own.txt").rename(filled / "Films/own.txt"), 1),
    )
    assert _words(_told(child, filled)) == [
        "DELETE old.txt", "CREATE new.txt", "MODIFY new.txt", "CLOSE_WRITE new.txt", "DELETE new.txt",
        "DELETE own.txt",
    ]  # fmt: skip


def test_inotify_reports_no_name_that_the_app_does_not_see(own: Mount, filled: Path) -> None:
    child = _watching(own, "Films", "Music")
    films = filled / "Films"
    (films / "secret.mkv").write_bytes(bytes(100))
    (films / "secret.mkv").chmod(0o600)
    (films / "secret.mkv").rename(films / "secret 2.mkv")
    (films / "words.txt").write_text("hidden by their kind\n")
    (films / "words.txt").rename(films / "more words.txt")
    (films / "seen.bin").write_bytes(bytes(100))
    (films / "secret 2.mkv").unlink()
    (films / "more words.txt").unlink()
    (films / "secret.d").mkdir()
    (films / "secret.d").rmdir()
    assert {one.name for one in _told(child, filled)} <= {"seen.bin"}


def test_an_apps_own_writes_are_reported_once(own: Mount, filled: Path) -> None:
    child = _watching(own)
    call_as(APP, (own / "Music/own.txt").write_text, "other words")
    told = _words(_told(child, filled))
    assert told.count("CLOSE_WRITE own.txt") == 1


def test_what_an_app_does_in_its_mount_is_reported_in_anothers(own: Mount, mounts, filled: Path) -> None:
    theirs = mounts.start(POLICY, filled, "--app", "manager")
    child = _watching(own)
    _each(
        own,
        (lambda: call_as(OTHER, (theirs / "Music/a.txt").write_text, "words"), 3),
        (lambda: call_as(OTHER, os.rename, theirs / "Music/a.txt", theirs / "Music/b.txt"), 1),
    )
    told = _words(_told(child, filled))
    # The other daemon and the app itself both close the new file after writing.
    assert list(dict.fromkeys(one for one in told if "ATTRIB" not in one)) == [
        "CREATE a.txt", "MODIFY a.txt", "CLOSE_WRITE a.txt", "MOVED_FROM a.txt", "MOVED_TO b.txt",
    ]  # fmt: skip


def test_a_killed_announcer_is_replaced_and_status_says_so(own: Mount, filled: Path) -> None:
    call_as(APP, os.kill, own.status()["inotify"]["pid"], signal.SIGKILL)
    wait_for(lambda: own.status()["inotify"]["starts"] == 2, "another announcer runs")
    wait_for(lambda: own.status()["inotify"]["pid"], "it is ready")
    child = _watching(own)
    (filled / "Music/a.txt").touch()
    assert _words(_told(child, filled))[0] == "CREATE a.txt"


def _scans(channel: Connection, directory: Path) -> int:
    """List and stat a directory until told to stop. Return how often."""
    scans = 0
    while not channel.poll():
        for entry in os.scandir(directory):
            with contextlib.suppress(FileNotFoundError):
                entry.stat()
        scans += 1
    return scans


def test_a_storm_of_changes_is_told_in_order_once_beside_a_scanner(own: Mount, filled: Path) -> None:
    limit_s = 20.0 + STORM / 50
    child = start_as(APP, watch, [own / "Films", own / "Music"], limit_s)
    assert child.receive() == "watching"
    scanner = start_as(APP, _scans, own / "Films")
    made_s, begin_s = [], time.monotonic()
    for number in range(STORM):
        time.sleep(max(0.0, begin_s + number / RATE - time.monotonic()))  # the pace of a copy over a network
        os.mknod(filled / f"Music/{number}")
        made_s.append(time.monotonic())
        (filled / f"Films/secret {number}").touch()
    (filled / "Music" / END).touch()
    told = child.result(limit_s + 10)[:-1]
    scanner.send("enough")
    assert scanner.result() > 0
    assert _words(told) == [f"CREATE {number}" for number in range(STORM)]
    late_s = sorted(one.at_s - made_s[int(one.name)] for one in told)
    assert late_s[len(late_s) // 2] < 5.0
    assert own.status()["inotify"]["lost"] == 0
