"""With --inotify, inotify reports in an app mount what other programs change in the store."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.mount.test_takeover import kill_daemon
from tests.mount.test_upgrade import follow
from tests.support.machine.counts import SOAK, count
from tests.support.machine.processes import Child, call_as, start_as, state_of, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs.inotify import END, Told, watch
from tests.support.samples import pngs

APP, OTHER = 10130, 10131
STORM = count(300, 10_000)
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
  - {{id: by-type, deny: [see], who: {{app: viewer}}, paths: "/Music/link*", when: {{type: inode/symlink}},
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
    for name in ("link", "link 2"):
        (empty_store / "Music" / name).symlink_to("old.txt")
    return empty_store


@pytest.fixture
def own(mounts: Mounts, filled: Path) -> Mount:
    mount = mounts.start(POLICY, filled, "--app", "viewer", "--inotify")
    wait_for(lambda: mount.status()["inotify"]["pid"], "the announcer runs")
    return mount


@pytest.mark.parametrize("end", [kill_daemon, follow])
def test_inotify_goes_on_after_the_end_of_the_daemon(mounts: Mounts, filled: Path, end) -> None:
    mount = mounts.start(POLICY, filled, "--app", "viewer", "--inotify", "--keeper")
    before = wait_for(lambda: mount.status()["inotify"]["pid"], "the announcer runs")
    child = _watching(mount)
    _each(mount, (lambda: _put(filled / "Music/a.txt", "words"), 1))
    end(mount)
    wait_for(lambda: mount.status()["inotify"]["pid"] not in {None, before}, "another announcer runs")
    assert not Path(f"/proc/{before}").exists() or state_of(before) == "Z"
    _each(mount, ((filled / "Music/a.txt").unlink, 1))
    told = _words(_told(child, filled))
    assert told == ["CREATE a.txt", "MODIFY a.txt", "CLOSE_WRITE a.txt", "DELETE a.txt"]


def test_an_order_of_a_killed_daemon_changes_nothing(mounts: Mounts, filled: Path) -> None:
    """The announcer's unlink(2) comes again, when the name has another file."""
    mount = mounts.prepare(POLICY.replace("allow: [see, read]", "allow: [all]"), filled, "--app", "viewer",
                           "--inotify", "--keeper")  # fmt: skip
    mount.program = ("tests.support.mount.announcing",)
    mount.start()
    announcer = wait_for(lambda: mount.status()["inotify"]["pid"], "the announcer runs")
    child, old = _watching(mount), filled / "Music/old.txt"
    old.unlink()
    wait_for(lambda: "request_wait" in Path(f"/proc/{announcer}/wchan").read_text(), "it waits")
    old.write_text("another song")

    def follows() -> bool:
        with contextlib.suppress(AssertionError):
            return mount.status()["inotify"]["pid"] not in {None, announcer}
        return False

    wait_for(follows, "another daemon, and another announcer")
    _each(mount, (lambda: _put(filled / "Music/a.txt", "words"), 1))
    assert old.read_text() == "another song"
    assert "CREATE a.txt" in _words(_told(child, filled))


@pytest.fixture
def any_uid(mounts: Mounts, filled: Path) -> Mount:
    """The mount of a service: only root can enter the directory above."""
    mount = mounts.prepare(POLICY, filled, "--app", "viewer", "--any-uid", "--inotify")
    above = mount.mountpoint
    above.chmod(0o700)
    mount.mountpoint = above / "mount"
    mount.mountpoint.mkdir()
    mount.start()
    wait_for(lambda: mount.status()["inotify"]["pid"], "the announcer runs")
    return mount


def _watching(mount: Mount, *names: str, uid: int = APP) -> Child:
    child = start_as(uid, watch, [mount / name for name in names or ("Music",)])
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


def _put(path: Path, text: str) -> None:
    """Let a whole file appear at once: one order."""
    (outside := path.parents[2] / "outside").write_text(text)
    outside.rename(path)


def test_inotify_reports_each_change_of_a_file_in_order(own: Mount, filled: Path) -> None:
    child, music = _watching(own), filled / "Music"
    _each(
        own,
        (lambda: _put(music / "a.txt", "words"), 1),
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
    watcher = _watching(own, "Films", "Music")
    _each(own, ((filled / "Music/album").mkdir, 1))
    child = start_as(APP, _where, cwd=str(own / "Music/album"))
    assert child.receive() == str(own / "Music/album")
    _each(own, (lambda: (filled / "Music/album").rename(filled / "Films/album"), 2))
    child.send("moved")
    assert child.result() == str(own / "Films/album")
    assert _words(_told(watcher, filled, "Films"))[1:] == ["CREATE DIR album", "DELETE DIR album"]


def _where(channel: Connection) -> str:
    channel.send(os.getcwd())
    channel.recv()
    return os.getcwd()


def test_a_file_that_moves_in_or_out_of_sight_is_made_or_removed(own: Mount, filled: Path) -> None:
    child, music = _watching(own, "Music", "Films"), filled / "Music"
    _each(
        own,
        (lambda: (music / "old.txt").rename(filled / "old.txt"), 1),
        (lambda: (filled / "old.txt").rename(music / "new.txt"), 1),
        (lambda: (music / "new.txt").rename(music / "secret.txt"), 1),
        (lambda: (music / "own.txt").rename(filled / "Films/own.txt"), 1),
        (lambda: (filled / "Films/own.txt").rename(music / "own 2.txt"), 1),
    )
    assert _words(_told(child, filled)) == [
        "DELETE old.txt", "CREATE new.txt", "MODIFY new.txt", "CLOSE_WRITE new.txt", "DELETE new.txt",
        "DELETE own.txt", "CREATE own 2.txt", "MODIFY own 2.txt", "CLOSE_WRITE own 2.txt",
    ]  # fmt: skip


def test_a_file_that_is_seen_by_its_kind_is_made_once_it_has_its_bytes(mounts: Mounts, filled: Path) -> None:
    allow = 'allow: [see, read], who: {app: viewer}, paths: "/Films/**", when: {type: "image/*"}'
    policy = f"{POLICY.partition('rules:')[0]}rules:\n  - {{id: images, {allow}}}\n"
    mount = mounts.start(policy, filled, "--app", "viewer", "--inotify")
    wait_for(lambda: mount.status()["inotify"]["pid"], "the announcer runs")
    child = _watching(mount, "Films")
    with (filled / "Films/a.png").open("wb") as file:
        wait_for(lambda: mount.fuse("MKNOD"), "the announcer has found it hidden")
        file.write(pngs.plain(b""))
    wait_for(lambda: mount.status()["inotify"]["told"], "it is told")
    call_as(APP, os.stat, mount / "Films/a.png")
    (filled / "Films/a.png").unlink()
    (filled / "Films" / "b.txt").write_text("hidden by its kind")
    (filled / "Films" / END).write_bytes(pngs.plain(b""))
    assert _words(child.result()[:-1]) == [
        "CREATE a.png", "MODIFY a.png", "CLOSE_WRITE a.png", "DELETE a.png",
    ]  # fmt: skip


def test_inotify_reports_no_name_that_the_app_does_not_see(own: Mount, filled: Path) -> None:
    """Attack F5.2: With `--inotify`: learn hidden names by announced changes; get the daemon's answers to
    the announcer, or misuse its requests, by killing, stopping or tracing it
    Guard: policyfs/fs/kernel_cache/announcements.py::Announcements.is_from,
    policyfs/fs/kernel_cache/announcements.py::Announcements.policy_changed,
    policyfs/content/workers/announcer.py::live
    Also: tests/attack/test_announced.py::test_an_app_gets_no_answer_of_the_announcer,
    tests/attack/test_announced.py::test_a_killed_announcer_changes_nothing_in_the_store,
    tests/attack/test_announced.py::test_an_app_cannot_trace_its_announcer,
    tests/attack/test_announced.py::test_a_removal_is_not_told_once_a_reload_hides_the_name
    Without: tests/attack/test_announced.py::test_it_would_get_them,
    tests/attack/test_announced.py::test_it_would_be_told
    """
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
    (filled / "Music/link").unlink()
    (filled / "Music/link 2").rename(filled / "Music/link 3")
    assert {one.name for one in _told(child, filled)} <= {"seen.bin"}


def test_a_name_that_its_path_hides_costs_no_call(own: Mount, filled: Path) -> None:
    child = _watching(own, "Films")
    for number in range(5):
        (filled / f"Films/secret {number}").touch()
    assert _told(child, filled, "Films") == []
    assert own.fuse("MKNOD") + own.fuse("CREATE") == 1  # for the last file


def test_a_name_that_a_reload_hides_by_its_kind_is_told_no_more(own: Mount, filled: Path) -> None:
    child = _watching(own)
    call_as(APP, os.stat, own / "Music/old.txt")
    hiding = 'deny: [see], who: {app: viewer}, paths: "/Music/**", when: {type: text/plain}, errno: ENOENT'
    own.policy.write_text(f"{POLICY}  - {{id: since, {hiding}}}\n")
    assert own.reload().returncode == 0
    (filled / "Music/old.txt").chmod(0o600)
    (filled / "Music/old.txt").rename(filled / "Music/old 2.txt")
    (filled / "Music/old 2.txt").unlink()
    (filled / "Music/own.txt").unlink()
    (filled / "Music/b.bin").write_bytes(bytes(100))
    assert {one.name for one in _told(child, filled)} == {"b.bin"}


def test_any_caller_of_a_services_mount_is_told(any_uid: Mount, filled: Path) -> None:
    child, music = _watching(any_uid, "Music", "Films", uid=0), filled / "Music"
    _each(
        any_uid,
        (lambda: _put(music / "a.txt", "words"), 1),
        (lambda: (music / "a.txt").rename(music / "b.txt"), 1),
        (lambda: (music / "b.txt").rename(music / "secret.txt"), 1),
        ((music / "secret.txt").unlink, 0),
        ((music / "album").mkdir, 1),
        ((music / "album").rmdir, 1),
        ((music / "old.txt").unlink, 1),
        (lambda: _put(filled / "Films/words.txt", "hidden by their kind\n"), 0),
    )
    assert _words(_told(child, filled)) == [
        "CREATE a.txt", "MODIFY a.txt", "CLOSE_WRITE a.txt", "MOVED_FROM a.txt", "MOVED_TO b.txt",
        "DELETE b.txt", "CREATE DIR album", "DELETE DIR album", "DELETE old.txt",
    ]  # fmt: skip
    status = Path(f"/proc/{any_uid.status()['inotify']['pid']}/status").read_text()
    assert re.search(r"Uid:(.*)", status)[1].split()[0] not in {"0", str(APP)}


def test_no_policy_for_single_uids_goes_with_it(any_uid: Mount) -> None:
    rule = "  - {id: one, deny: [see], who: {uid: 5}, paths: /Music/old.txt}\n"
    any_uid.policy.write_text(POLICY + rule)
    refused = any_uid.reload()
    assert refused.returncode != 0
    assert "inotify tells all of them the same" in refused.stderr


def test_what_a_read_only_mount_keeps_from_the_announcer_is_lost(own: Mount, filled: Path) -> None:
    call_as(APP, os.listdir, own / "Music")
    subprocess.run(["mount", "-o", "remount,bind,ro", own.mountpoint], check=True, timeout=10)
    (filled / "Music/a.txt").touch()
    wait_for(lambda: own.status()["inotify"]["lost"], "the change counts as lost")


def test_a_read_only_store_has_no_announcer(mounts: Mounts, filled: Path) -> None:
    subprocess.run(["mount", "--bind", filled, filled], check=True, timeout=10)
    subprocess.run(["mount", "-o", "remount,bind,ro", filled], check=True, timeout=10)
    try:
        mount = mounts.start(POLICY, filled, "--app", "viewer", "--inotify")
        assert mount.status()["inotify"] == "none"
        assert not mount.stop()
    finally:
        subprocess.run(["umount", filled], check=True, timeout=10)


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
        (lambda: call_as(OTHER, os.rename, theirs / "Music/old.txt", theirs / "Music/b.txt"), 1),
        (lambda: call_as(OTHER, (theirs / "Music/b.txt").write_text, "words"), 2),
        (lambda: call_as(OTHER, os.mkdir, theirs / "Music/album"), 1),
    )
    told = _words(_told(child, filled))
    # The other daemon and the app itself both close the file after writing.
    assert list(dict.fromkeys(one for one in told if "ATTRIB" not in one)) == [
        "MOVED_FROM old.txt", "MOVED_TO b.txt", "MODIFY b.txt", "CLOSE_WRITE b.txt", "CREATE DIR album",
    ]  # fmt: skip


CHOKIDAR = """
const root = process.argv[1];
const settled = {stabilityThreshold: 100, pollInterval: 20};
require("chokidar").watch(root, {ignoreInitial: true, awaitWriteFinish: settled})
    .on("ready", () => console.log("ready"))
    .on("all", (event, path) => console.log(event, path.slice(root.length + 1)));
"""
"""A watcher as Immich's: new files count once their size stays the same."""


@pytest.mark.soak
def test_chokidar_sees_what_changes_in_the_store(own: Mount, filled: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("wb") as output:
        watcher = subprocess.Popen(
            ["node", "-e", CHOKIDAR, own.mountpoint], stdout=output, user=APP, group=APP, extra_groups=[],
            cwd="/", env=os.environ | {"NODE_PATH": "/usr/share/nodejs"},
        )  # fmt: skip
    expected = ["ready"]

    def hears(*events: str) -> None:
        expected.extend(events)
        wait_for(lambda: len(said.read_text().splitlines()) >= len(expected), f"{events} are heard", 20)
        assert said.read_text().splitlines() == expected

    try:
        hears()
        films, album = filled / "Films", filled / "Films/album"
        (films / "secret.mkv").write_bytes(bytes(100))
        (films / "a.mkv").write_bytes(bytes(100))
        hears("add Films/a.mkv")
        album.mkdir()
        hears("addDir Films/album")
        (films / "a.mkv").rename(album / "b.mkv")
        wait_for(lambda: "add Films/album/b.mkv" in said.read_text(), "the move is heard")
        expected += said.read_text().splitlines()[len(expected) :]
        assert sorted(expected[-2:]) == ["add Films/album/b.mkv", "unlink Films/a.mkv"]
        with (album / "b.mkv").open("ab") as file:
            file.write(b"more")
        hears("change Films/album/b.mkv")
        (album / "b.mkv").unlink()
        hears("unlink Films/album/b.mkv")
        album.rmdir()
        hears("unlinkDir Films/album")
    finally:
        watcher.kill()
        watcher.wait(10)


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
    while not channel.poll(0.002):
        for entry in os.scandir(directory):
            with contextlib.suppress(FileNotFoundError):
                entry.stat()
        scans += 1
    return scans


def _weigh(mount: Mount, nice: int) -> None:
    """Give all sessions that take part one weight. If it is large, others on the machine do not count."""
    announcer = mount.status()["inotify"]["pid"]
    launcher = int(Path(f"/proc/{announcer}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (os.getpid(), mount.pid, launcher, announcer):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def test_a_storm_of_changes_is_told_in_order_once_beside_a_scanner(own: Mount, filled: Path) -> None:
    limit_s = 20.0 + STORM / 50
    if SOAK:
        _weigh(own, -15)
    child = start_as(APP, watch, [own / "Films", own / "Music"], limit_s)
    assert child.receive() == "watching"
    scanner = start_as(APP, _scans, own / "Films")
    made_s, begin_s = [], time.monotonic()
    for number in range(STORM):
        time.sleep(max(0.0, begin_s + number / RATE - time.monotonic()))  # the pace of a copy over a network
        _put(filled / f"Music/{number}", "words")
        made_s.append(time.monotonic())
        (filled / f"Films/secret {number}").touch()
    (filled / "Music" / END).touch()
    told = child.result(limit_s + 10)[:-1]
    scanner.send("enough")
    assert scanner.result() > 0
    if SOAK:
        _weigh(own, 0)
    kinds = ("CREATE", "MODIFY", "CLOSE_WRITE")
    assert _words(told) == [f"{kind} {number}" for number in range(STORM) for kind in kinds]
    late_s = sorted(one.at_s - made_s[int(one.name)] for one in told)
    assert late_s[len(late_s) // 2] < 5.0
    assert not SOAK or late_s[len(late_s) * 99 // 100] <= 0.1
    assert own.status()["inotify"]["lost"] == 0
