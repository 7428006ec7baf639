"""An app's own mount: nobody else gets in, the kernel remembers, and changes elsewhere are seen."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.machine.counts import count
from tests.support.machine.processes import call_as, code_of, start_as, tool_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs
from tests.support.samples.jpegs import leaks

APP, OTHER, MANAGER = 10110, 10111, 10112
SEEN_WITHIN_S = 1.0
STATS = count(30_000, 1_000_000)
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  viewer: {{uid: {APP}}}
  manager: {{uid: {MANAGER}, grants: [media.location]}}
  nobody: {{uid: {OTHER}}}
rules:
  - {{id: viewer, allow: [see, read], who: {{app: viewer}}, paths: ["/DCIM/**", "/Music/**"]}}
  - {{id: manager, allow: [all], who: {{app: manager}}, paths: "/**"}}
  - {{id: no-location, require: {{redact: location}}, who: {{app: viewer}}, paths: "/DCIM/**"}}
"""
PHOTO = jpegs.photo_with(jpegs.exif())


@pytest.fixture
def filled(empty_store: Path) -> Path:
    for name in ("DCIM", "Music", "Private"):
        (empty_store / name).mkdir()
    for number in range(20):
        (empty_store / f"Music/{number}.txt").write_text(f"song {number}\n")
    (empty_store / "DCIM/a.jpg").write_bytes(PHOTO)
    (empty_store / "Private/diary.txt").write_text("dear\n")
    return empty_store


@pytest.fixture
def own(mounts, filled: Path) -> Mount:
    """The viewer's own mount."""
    return mounts.start(POLICY, filled, "--app", "viewer")


# ------------------------------------------------------------------------------ who gets in


OTHERS = [(0, None), (0, APP), (OTHER, None), (OTHER, APP), (APP, OTHER), (MANAGER, None)]
"""uid and primary group of callers that are not the app; root is one of them."""


def test_the_kernel_lets_nobody_else_in(own) -> None:
    before = own.fuse_counters()
    for uid, gid in OTHERS:
        for attempt in (os.listdir, os.stat, os.chdir):
            assert call_as(uid, code_of, attempt, own.mountpoint, gid=gid) == "EACCES"
        for path in ("DCIM/a.jpg", "nothing"):
            assert call_as(uid, code_of, os.stat, own / path, gid=gid) == "EACCES"
            assert call_as(uid, code_of, os.open, own / path, os.O_PATH, gid=gid) == "EACCES"
        assert call_as(uid, code_of, os.mkdir, own / "new", gid=gid) == "EACCES"
        space = call_as(uid, os.statvfs, own.mountpoint, gid=gid)
        assert space.f_blocks == 0  # answered, with nothing in it
    assert own.fuse_counters() == before, "the kernel says so by itself"


def test_a_setuid_caller_is_not_let_in(own) -> None:
    def as_both() -> str:
        os.setresgid(APP, APP, APP)
        os.setresuid(OTHER, APP, APP)
        return code_of(os.listdir, own.mountpoint)

    assert call_as(0, as_both) == "EACCES"


def test_the_app_gets_in_and_sees_its_part(own) -> None:
    assert sorted(call_as(APP, os.listdir, own.mountpoint)) == ["DCIM", "Music"]
    assert call_as(APP, (own / "Music/3.txt").read_bytes) == b"song 3\n"
    photo = call_as(APP, (own / "DCIM/a.jpg").read_bytes)
    assert len(photo) == len(PHOTO)
    assert leaks(PHOTO)
    assert not leaks(photo)
    for path in ("Private", "Private/diary.txt"):
        assert call_as(APP, code_of, os.stat, own / path) == "ENOENT"


GROUPS = POLICY.replace(f"{{uid: {APP}}}", f"{{uid: {APP}, gid: [100, {APP}]}}")


@pytest.mark.parametrize(("policy", "gid"), [(POLICY, 100), (GROUPS, 100), (GROUPS, APP)])
def test_the_kernel_lets_in_the_group_that_was_asked_for(mounts, filled, policy, gid) -> None:
    """As a container's `user: 10110:100`."""
    mount = mounts.start(policy, filled, "--app", "viewer", "--gid", str(gid))
    assert sorted(call_as(APP, os.listdir, mount.mountpoint, gid=gid)) == ["DCIM", "Music"]
    for uid, other in ((APP, {100: APP, APP: 100}[gid]), (OTHER, gid), (0, gid), (0, None)):
        assert call_as(uid, code_of, os.listdir, mount.mountpoint, gid=other) == "EACCES"


def _made(channel, directory: Path) -> str:
    os.chdir(directory)
    channel.send("in it")
    channel.recv()
    return os.getcwd()


def test_several_groups_are_let_in_and_nobody_else(mounts, filled) -> None:
    """By the daemon: the kernel may answer nobody by itself, and takes no directory from who is in it."""
    mount = mounts.start(GROUPS, filled, "--app", "viewer")
    for gid in (APP, 100):
        assert sorted(call_as(APP, os.listdir, mount.mountpoint, gid=gid)) == ["DCIM", "Music"]
        assert not leaks(call_as(APP, (mount / "DCIM/a.jpg").read_bytes, gid=gid))
        assert call_as(APP, code_of, os.stat, mount / "Private", gid=gid) == "ENOENT"
    inside = start_as(APP, _made, mount / "Music", gid=100)
    assert inside.receive() == "in it"
    for uid, gid in ((0, None), (0, 100), (OTHER, None), (OTHER, 100), (APP, OTHER), (MANAGER, APP)):
        for attempt in (os.listdir, os.stat, os.chdir):
            assert call_as(uid, code_of, attempt, mount.mountpoint, gid=gid) == "EACCES"
        for path in ("DCIM/a.jpg", "DCIM", "Music/3.txt", "Private", "nothing"):
            assert call_as(uid, code_of, os.stat, mount / path, gid=gid) == "EACCES", (uid, gid, path)
            assert call_as(uid, code_of, os.open, mount / path, os.O_RDONLY, gid=gid) == "EACCES"
        assert call_as(uid, code_of, os.mkdir, mount / "new", gid=gid) == "EACCES"
        assert call_as(uid, code_of, os.listdir, mount / "Music", gid=gid) == "EACCES"
    inside.send("where")
    assert inside.result() == str(mount / "Music")
    assert (call_as(APP, (mount / "Music/3.txt").read_bytes, gid=100)) == b"song 3\n"


def test_a_reload_that_takes_the_group_away_is_refused(mounts, filled) -> None:
    mount = mounts.start(GROUPS, filled, "--app", "viewer", "--gid", "100")
    mount.policy.write_text(GROUPS.replace("gid: [100, ", "gid: ["))
    said = mount.reload()
    assert said.returncode == 2
    expected = "this mount admits group 100, which does not belong to the app viewer in the new policy"
    assert expected in said.stderr
    assert call_as(APP, os.listdir, mount.mountpoint, gid=100)


def test_any_uid_may_come_through_where_that_was_asked_for(mounts, filled) -> None:
    mount = mounts.start(POLICY, filled, "--app", "viewer", "--any-uid")
    for uid in (APP, OTHER, MANAGER, 0):
        assert sorted(call_as(uid, os.listdir, mount.mountpoint)) == ["DCIM", "Music"]
        assert not leaks(call_as(uid, (mount / "DCIM/a.jpg").read_bytes))


# ------------------------------------------------------------------------------ what the kernel keeps


def _stat_many(paths: list[bytes], times: int) -> None:
    for _ in range(times // len(paths)):
        for path in paths:
            os.stat(path)


def test_stats_of_known_files_stay_in_the_kernel(own, filled) -> None:
    for path in filled.rglob("*"):  # as in a library that nobody has touched for a while
        os.utime(path, (1_700_000_000, 1_700_000_000))
    names = [own / f"Music/{number}.txt" for number in range(20)]
    paths = [os.fsencode(path) for path in (*names, own / "DCIM/a.jpg", own / "Music")]
    call_as(APP, _stat_many, paths, len(paths))
    before = sum(own.fuse_counters().values())
    call_as(APP, _stat_many, paths, STATS, deadline_s=60)
    asked = sum(own.fuse_counters().values()) - before
    assert asked < 1000, f"{asked} requests for {STATS} stats"


def test_absent_names_and_listings_stay_in_the_kernel_too(own) -> None:
    def look() -> None:
        for number in range(2000):
            assert code_of(os.stat, own / "Music/absent.txt") == "ENOENT"
            if number % 10 == 0:
                os.listdir(own / "Music")

    call_as(APP, look)
    before = own.fuse_counters()
    call_as(APP, look)
    after = own.fuse_counters()
    assert after.get("LOOKUP", 0) - before.get("LOOKUP", 0) < 50
    assert sum(after.get(name, 0) - before.get(name, 0) for name in ("READDIR", "READDIRPLUS")) < 50


def test_names_and_listings_of_written_files_stay_where_every_name_is_seen(mounts, filled) -> None:
    """The app writes in passthrough, another program in the store: only attributes are asked for again."""
    mount = mounts.start(POLICY, filled, "--app", "manager")
    paths = [mount / f"Music/{number}.txt" for number in range(20)]

    def look() -> list[int]:
        assert len(os.listdir(mount / "Music")) == 20
        return [path.stat().st_size for path in paths]

    def append() -> None:
        for path in paths:
            with open(path, "ab", buffering=0) as file:
                file.write(b"more")

    def heard(size: int) -> bool:
        """True once the last change is shown; events come in order."""
        return call_as(MANAGER, lambda: (mount / "Private/diary.txt").stat().st_size) == size

    def changed() -> bool:
        """Write, and check what is asked for. Return False if events were lost: another test beside this one
        can fill the queue of the file system, and then the kernel keeps nothing."""
        before, watch = call_as(MANAGER, look), mount.status()["watch"]
        call_as(MANAGER, append)
        for path in filled.glob("Music/*.txt"):
            path.chmod(path.stat().st_mode ^ 0o044)
            with open(path, "ab", buffering=0) as file:
                file.write(b"elsewhere")
        with (filled / "Private/diary.txt").open("a") as file:
            file.write("and the last")
        size = os.stat(file.name).st_size
        wait_for(lambda: heard(size), "the last of the events")
        wait_for(lambda: not mount.status()["notifications"]["queued"], "the kernel was told")
        asked = mount.fuse_counters()
        wait_for(lambda: call_as(MANAGER, look) == [size + 13 for size in before], "the sizes are shown", 5.0)
        now = mount.fuse_counters()
        if mount.status()["watch"]["overflows"] > watch["overflows"]:
            return False
        for name in ("LOOKUP", "READDIR", "READDIRPLUS"):
            assert now.get(name, 0) == asked.get(name, 0), name
        return True

    assert any(changed() for _ in range(5))


def test_nodes_are_made_for_names_only_if_they_are_looked_at(own, filled) -> None:
    """READDIRPLUS where it pays: at the beginning of a listing, and while its names are looked up."""
    (filled / "Music/many").mkdir()
    for number in range(1000):
        (filled / f"Music/many/{number:04d}.txt").touch()
    assert len(call_as(APP, os.listdir, own / "Music/many")) == 1000
    assert own.fuse("READDIR") > 1
    assert own.status()["nodes"] < 300

    def sizes() -> int:
        with os.scandir(own / "Music/many") as entries:
            return sum(entry.stat().st_size == 0 for entry in entries)

    looked_up = own.fuse("LOOKUP")
    assert call_as(APP, sizes) == 1000
    assert own.fuse("LOOKUP") - looked_up <= 1000


# ------------------------------------------------------------------------------ changes elsewhere


def _watch(channel, directory: Path) -> None:
    """Answers what the app sees, over and over, through a kernel that has seen it all before."""
    while (what := channel.recv()) is not None:
        function, path = what
        try:
            channel.send(function(directory / path))
        except OSError as error:
            channel.send(errno.errorcode[error.errno or 0])


class Eyes:
    """The app that looks."""

    def __init__(self, mount: Mount) -> None:
        self.child = start_as(APP, _watch, mount.mountpoint)

    def see(self, function: Callable, path: str):
        self.child.send((function, path))
        return self.child.receive()

    def soon(self, function: Callable, path: str, wanted) -> float:
        """Seconds until the app sees it; fails after SEEN_WITHIN_S."""
        start = time.monotonic()
        wait_for(lambda: self.see(function, path) == wanted, f"{path} is {wanted}", SEEN_WITHIN_S)
        return time.monotonic() - start


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def size_of(path: Path) -> int:
    return path.stat().st_size


def listing(path: Path) -> list[str]:
    return sorted(os.listdir(path))


@pytest.fixture(params=["store", "another mount"])
def elsewhere(request, mounts, own, filled) -> tuple[int, Path]:
    """Uid and directory through which the store is changed."""
    if request.param == "store":
        return 0, filled
    filled.joinpath("Music").chmod(0o777)
    return MANAGER, mounts.start(POLICY, filled).mountpoint


def _write(path: Path, text: str, flags: str = "w") -> None:
    with path.open(flags, encoding="utf-8") as file:
        file.write(text)


@pytest.mark.alone
def test_changes_elsewhere_are_seen_within_a_second(own, elsewhere) -> None:
    uid, there = elsewhere
    eyes = Eyes(own)
    music = there / "Music"

    def change(function: Callable, *arguments) -> None:
        call_as(uid, function, *arguments)

    for path in ("1.txt", "2.txt", "3.txt", "new.txt", "moved.txt", "album", "album/x.txt"):
        eyes.see(size_of, f"Music/{path}")  # every cache is warm now
    before = eyes.see(listing, "Music")

    change(_write, music / "new.txt", "fresh\n")
    eyes.soon(size_of, "Music/new.txt", 6)
    eyes.soon(listing, "Music", sorted([*before, "new.txt"]))
    change(os.unlink, music / "new.txt")
    eyes.soon(size_of, "Music/new.txt", "ENOENT")
    eyes.soon(listing, "Music", before)

    change(os.rename, music / "1.txt", music / "moved.txt")
    eyes.soon(size_of, "Music/1.txt", "ENOENT")
    eyes.soon(Path.read_bytes, "Music/moved.txt", b"song 1\n")
    change(os.mkdir, music / "album")
    eyes.soon(listing, "Music/album", [])
    change(_write, music / "album/x.txt", "below")
    eyes.soon(Path.read_bytes, "Music/album/x.txt", b"below")
    change(os.rename, music / "album", music / "record")
    eyes.soon(size_of, "Music/album", "ENOENT")
    eyes.soon(Path.read_bytes, "Music/record/x.txt", b"below")

    if uid == 0:  # the store's files are root's: natively, too, only root may
        change(os.chmod, music / "2.txt", 0o640)
        eyes.soon(mode_of, "Music/2.txt", 0o640)
    change(_write, music / "moved.txt", "a longer song\n")
    eyes.soon(Path.read_bytes, "Music/moved.txt", b"a longer song\n")
    change(_write, music / "3.txt", "and more\n", "a")
    eyes.soon(Path.read_bytes, "Music/3.txt", b"song 3\nand more\n")
    tool_as(uid, "truncate", "-s", "3", music / "3.txt", check=True)
    eyes.soon(size_of, "Music/3.txt", 3)
    change(_write, music / "other.txt", "instead\n")
    change(os.rename, music / "other.txt", music / "2.txt")
    eyes.soon(Path.read_bytes, "Music/2.txt", b"instead\n")
    eyes.child.send(None)
    eyes.child.result()


@pytest.mark.alone
def test_a_photo_changed_elsewhere_is_read_anew_and_without_its_place(own, filled) -> None:
    eyes = Eyes(own)
    other = jpegs.with_segments(jpegs.plain(3, 64), jpegs.exif_segment(jpegs.exif("MM")))
    assert not leaks(eyes.see(Path.read_bytes, "DCIM/a.jpg"))
    for data in (other, PHOTO, other):
        (filled / "DCIM/a.jpg").write_bytes(data)
        eyes.soon(size_of, "DCIM/a.jpg", len(data))
        shown = eyes.see(Path.read_bytes, "DCIM/a.jpg")
        assert jpegs.pixels(shown) == jpegs.pixels(data)
        assert not leaks(shown)
    eyes.child.send(None)
    eyes.child.result()


@pytest.mark.alone
def test_exec_maps_of_the_kernel_are_those_of_the_file(own, filled) -> None:
    """A program in the store runs through the mount, and a newer one after it was replaced."""
    program = filled / "Music/program"
    for word in ("one", "two"):
        text = f"#!/bin/sh\necho {word}\n"
        (filled / "Music/program.new").write_text(text)
        (filled / "Music/program.new").chmod(0o755)
        (filled / "Music/program.new").rename(program)

        def said() -> str:
            done: subprocess.CompletedProcess[bytes] = tool_as(APP, own / "Music/program")
            return done.stdout.decode().strip()

        wait_for(lambda: said() == word, word, SEEN_WITHIN_S)  # noqa: B023
