"""What is seen beside the mount: each sentence of the threat model on it is shown to be true here."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.machine.processes import Child, call_as, start_as
from tests.support.models.twins import error
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

APP, OTHER = 10070, 10071
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{app: {{uid: {APP}}}, other: {{uid: {OTHER}}}}}
rules:
  - id: directories
    allow: [see, create]
    who: {{app: any}}
    paths: "/Shared/***"
    when: {{type: inode/directory}}
  - {{id: own, allow: [all], who: {{app: any}}, paths: "/Shared/**", when: {{owner: self}}}}
  - {{id: times, require: {{redact: [time]}}, who: {{app: app}}, paths: "/Shared/**"}}
  - {{id: all, allow: [see, read], who: {{app: any}}, paths: ["/Open/***"]}}
  - {{id: no-times, require: {{redact: [time]}}, who: {{app: app}}, paths: ["/Open/***"]}}
"""
SECRET = "a secret name"
_libc = ctypes.CDLL(None, use_errno=True)
_EVENT = struct.Struct("iIII")
KINDS = ("shared mount", "app mount")
LONG_AGO = 1_000_000_000


def _names(events: bytes) -> set[str]:
    found, at = set(), 0
    while at < len(events):
        *_, length = _EVENT.unpack_from(events, at)
        at += _EVENT.size
        found.add(os.fsdecode(events[at : at + length].rstrip(b"\0")))
        at += length
    return found - {""}


def _watch(channel, directory: Path) -> tuple[set[str], list[str]]:
    """Names that inotify tells of, and those that a listing shows."""
    fd = _libc.inotify_init1(os.O_NONBLOCK)
    assert _libc.inotify_add_watch(fd, os.fsencode(directory), 0xFFF) >= 0
    channel.send("watching")
    channel.recv()
    try:
        events = os.read(fd, 1 << 16)
    except BlockingIOError:
        events = b""
    return _names(events), os.listdir(directory)


def _make(directory: Path) -> int:
    (directory / SECRET).write_text("words")
    return os.stat(directory / SECRET).st_ino


@pytest.fixture
def shared(empty_store: Path) -> Path:
    for name in ("Shared", "Open"):
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    (empty_store / "Open/a.txt").write_text("words")
    os.utime(empty_store / "Open/a.txt", (LONG_AGO, LONG_AGO))
    return empty_store


@pytest.fixture
def watched(mounts: Mounts, shared: Path) -> Callable[..., tuple[Child, Callable[[], int]]]:
    """`watched(own)`: the app watches a directory in which another makes a file that it may not see."""

    def start(own: bool) -> tuple[Child, Callable[[], int]]:
        mine = mounts.start(POLICY, shared, *(("--app", "app") if own else ()))
        theirs = mounts.start(POLICY, shared, "--app", "other") if own else mine
        child = start_as(APP, _watch, mine / "Shared")
        assert child.receive() == "watching"
        return child, lambda: call_as(OTHER, _make, theirs / "Shared")

    return start


@pytest.mark.parametrize(("own", "told"), [(False, {SECRET}), (True, set())], ids=KINDS)
def test_inotify_tells_names_of_hidden_files_in_a_shared_mount_only(watched, own, told) -> None:
    """Attack F5.1: Learn names of hidden files by inotify on a visible directory, from a mount of one's own
    Guard: policyfs/kernel/session.py::mount_device (each app mount is a file system of its own)
    """
    child, make = watched(own)
    make()
    child.send("made")
    assert child.result() == (told, [])


@pytest.mark.parametrize("own", [False, True], ids=KINDS)
def test_inotify_tells_nothing_of_what_changes_in_the_store(mounts: Mounts, shared: Path, own) -> None:
    """So programs that wait for changes need a time at which they look again; what they see then is new."""
    mount = mounts.start(POLICY, shared, *(("--app", "app") if own else ()))
    child = start_as(APP, _watch, mount / "Open")
    assert child.receive() == "watching"
    (shared / "Open/b.txt").write_text("words")
    child.send("made")
    told, listed = child.result()
    assert (told, sorted(listed)) == (set(), ["a.txt", "b.txt"])


def _lock(channel, path: Path) -> None:
    with path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 5, 1000)
        channel.send("locked")
        channel.recv()


@pytest.mark.parametrize("own", [False, True], ids=KINDS)
def test_proc_locks_shows_inode_numbers_and_ranges_of_everybodys_locks(mounts, shared, own) -> None:
    """Attack F5.3: Read `/proc/locks`; ask `stat` for times under `redact: [time]`
    Guard: none yet: stated above ("Locks and times outside the mount")
    Also: ::test_stat_tells_the_times_of_a_file_whose_content_tells_none
    """
    mount = mounts.start(POLICY, shared, *(("--app", "other") if own else ()))
    inode = call_as(OTHER, _make, mount / "Shared")
    child = start_as(OTHER, _lock, mount / "Shared" / SECRET)
    assert child.receive() == "locked"
    lines = call_as(APP, Path("/proc/locks").read_text).splitlines()
    assert [line for line in lines if f":{inode} 1000 1004" in line]
    child.send("enough")
    child.result()


@pytest.mark.parametrize("own", [False, True], ids=KINDS)
def test_stat_tells_the_times_of_a_file_whose_content_tells_none(mounts: Mounts, shared: Path, own) -> None:
    mount = mounts.start(POLICY, shared, *(("--app", "app") if own else ()))
    assert call_as(APP, os.stat, mount / "Open/a.txt").st_mtime == LONG_AGO


DRAFTS = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{app: {{uid: {APP}}}, other: {{uid: {OTHER}}}}}
rules:
  - {{id: all, allow: [see, write, create, delete], who: {{app: any}}, paths: "/In/***"}}
  - {{id: other, allow: [read], who: {{app: other}}, paths: "/In/**"}}
  - {{id: text, allow: [read], who: {{app: app}}, paths: "/In/**", when: {{type: text/plain}}}}
  - {{id: no-place, require: {{no: [location]}}, paths: "/In/**", raw_types: [text/plain]}}
"""
WORDS = b"plain words\n" * 100
PHOTO = jpegs.photo_with(jpegs.exif())


def _reads_beside(channel, path: Path) -> tuple[bytes, bytes]:
    """The beginning of a file that one may read and write, and again once another app has written it."""
    path.write_bytes(WORDS)
    fd = os.open(path, os.O_RDWR)
    before = os.pread(fd, 11, 0)
    channel.send("open")
    channel.recv()
    return before, os.pread(fd, 11, 0)


def _writes(channel, path: Path) -> str:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, PHOTO)
    channel.send("written")
    channel.recv()
    return error(os.close, fd)


@pytest.mark.parametrize(
    ("reads", "writes", "seen"),
    [(OTHER, APP, PHOTO), (APP, OTHER, WORDS)],
    ids=["who may read all", "who may read some kinds"],
)
def test_bytes_before_their_check_are_seen_by_apps_that_may_read_them_whatever_they_are(
    mounts, empty_store: Path, reads: int, writes: int, seen: bytes
) -> None:
    """Both apps may write the file, and share its draft."""
    (empty_store / "In").mkdir()
    (empty_store / "In").chmod(0o777)
    mount = mounts.start(DRAFTS, empty_store)
    reader = start_as(reads, _reads_beside, mount / "In/a")
    assert reader.receive() == "open"
    writer = start_as(writes, _writes, mount / "In/a")
    assert writer.receive() == "written"
    reader.send("read")
    found = reader.result()
    writer.send("close")
    assert (writer.result(), found) == ("EPERM", (WORDS[:11], seen[:11]))
    assert (empty_store / "In/a").read_bytes() == WORDS


HIDES = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{app: {{uid: {APP}}}, other: {{uid: {OTHER}}}}}
rules:
  - {{id: all, allow: [all], paths: "/***"}}
  - {{id: hidden, deny: [all], who: {{app: app}}, paths: "/Open/**/secret*", errno: ENOENT}}
"""


def _where(channel, path: Path) -> str:
    """The name of an open file after another app has moved it."""
    fd = os.open(path, os.O_RDONLY)
    channel.send("open")
    channel.recv()
    return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))


@pytest.mark.parametrize(("own", "seen"), [(False, "secret name"), (True, "a.txt")], ids=KINDS)
def test_the_kernel_shows_the_new_name_of_an_open_file_in_a_shared_mount_only(
    mounts: Mounts, shared: Path, own: bool, seen: str
) -> None:
    mine = mounts.start(HIDES, shared, *(("--app", "app") if own else ()))
    theirs = mounts.start(HIDES, shared, "--app", "other") if own else mine
    (shared / "Open/a.txt").chmod(0o666)
    child = start_as(APP, _where, mine / "Open/a.txt")
    assert child.receive() == "open"
    call_as(OTHER, os.rename, theirs / "Open/a.txt", theirs / "Open/secret name")
    child.send("moved")
    assert child.result().removesuffix(" (deleted)") == seen  # the daemon may have dropped the old name


@pytest.mark.parametrize("own", [False, True], ids=KINDS)
def test_names_hidden_by_their_path_count_as_links_and_keep_a_directory(
    mounts: Mounts, shared: Path, own: bool
) -> None:
    (shared / "Open/d").mkdir()
    os.link(shared / "Open/a.txt", shared / "Open/d/secret")
    mount = mounts.start(HIDES, shared, *(("--app", "app") if own else ()))
    assert call_as(APP, os.listdir, mount / "Open/d") == []
    assert call_as(APP, os.stat, mount / "Open/a.txt").st_nlink == 2
    assert call_as(APP, error, os.rmdir, mount / "Open/d") == "ENOTEMPTY"


def _reads_on(channel, path: Path) -> tuple[str, str, bytes]:
    """What an app reads of a file that it had open and mapped before a reload: after that, and once another
    app reads the file, too. Then it writes by its mapping."""
    fd = os.open(path, os.O_RDWR)
    memory = mmap.mmap(fd, 4096)
    channel.send("open")
    channel.recv()
    told = error(os.pread, fd, 5, 0)
    channel.send("asked")
    channel.recv()
    found = error(os.pread, fd, 5, 0), memory[:5]
    memory[5:10] = b" and "
    return told, *found


def _holds(channel, path: Path) -> None:
    """Keep a file mapped, and read it."""
    fd = os.open(path, os.O_RDWR)
    memory = mmap.mmap(fd, 4096)
    channel.send(memory[:5])
    channel.recv()
    os.fsync(fd)
    memory.close()
    os.close(fd)


def test_pages_that_another_app_uses_are_read_and_written_on_after_a_reload(
    mounts: Mounts, shared: Path
) -> None:
    (shared / "Open/a.txt").write_bytes(b"words".ljust(4096))
    (shared / "Open/a.txt").chmod(0o666)
    mount = mounts.start(HIDES, shared, "--no-passthrough")
    mount.expected_mediated = True
    child = start_as(APP, _reads_on, mount / "Open/a.txt")
    assert child.receive() == "open"
    denied = HIDES.replace("deny: [all]", "deny: [read, write]").replace("/Open/**/secret*", "/Open/**")
    mount.policy.write_text(denied.replace("ENOENT", "EACCES"))
    assert mount.reload().returncode == 0
    child.send("reloaded")
    assert child.receive() == "asked"
    other = start_as(OTHER, _holds, mount / "Open/a.txt")
    assert other.receive() == b"words"
    child.send("read")
    assert child.result() == ("EACCES", "b'words'", b"words")
    other.send("enough")
    other.result()
    assert (shared / "Open/a.txt").read_bytes()[:10] == b"words and "


def test_a_look_up_of_a_hidden_file_unmounts_what_is_mounted_on_it(mounts: Mounts, shared: Path) -> None:
    (shared / "Open/secret").write_text("words")
    mount = mounts.start(HIDES, shared)
    call_as(OTHER, os.stat, mount / "Open/secret")
    subprocess.run(["mount", "--bind", "/dev/null", mount / "Open/secret"], check=True, timeout=20)
    assert "/Open/secret" in Path("/proc/self/mountinfo").read_text()
    assert call_as(APP, error, os.lstat, mount / "Open/secret") == "ENOENT"
    assert "/Open/secret" not in Path("/proc/self/mountinfo").read_text()
