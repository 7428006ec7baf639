"""The processes that reach a directory by another way than its path: real mount namespaces and users."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.linux.reach import Reach, look_at, reaches, shares_of
from tests.support.machine.inchild import in_child
from tests.support.machine.processes import call_as

UID = 2000
ROOT = 'mkdir "$R/usr"; mount --bind /usr "$R/usr"; ln -s usr/bin usr/lib usr/lib64 "$R"; '
"""Makes a directory a root in which programs run."""
BOX = f'R=/mnt; mount -t tmpfs x $R; {ROOT} mkdir -p "$R/$S"'
AS_USER = f"exec setpriv --reuid {UID} --clear-groups"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A closed directory on a file system of its own, as a disk for the library."""
    disk = tmp_path / "srv"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=711", "disk", disk], check=True)
    (disk / "media/Films").mkdir(parents=True)
    (disk / "media/Films/film").write_text("film")
    (disk / "root").mkdir()
    tmp_path.chmod(0o711)
    yield disk / "media"
    subprocess.run(["umount", "--recursive", disk], check=True)


@contextmanager
def process(store: Path, script: str) -> Iterator[int]:
    """A process that a shell becomes by `exec cat`, until the test ends. $S is the store, $T is above it."""
    environment = {**os.environ, "S": str(store), "T": str(store.parent)}
    words = ["unshare", "--mount", "sh", "-ec", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdin is not None and running.stdout is not None
        running.stdin.write(b"x")
        running.stdin.flush()
        assert running.stdout.read(1) == b"x", script
        yield running.pid
        running.stdin.close()
    assert running.returncode == 0


def found(store: Path, pid: int, *own: int) -> list[tuple[str, str]]:
    """The ways of one process. $T is the directory above the store."""
    looked: list[list[object]] = in_child(lambda: look_at(str(store), own).found)
    ways = [one for one in (Reach(*fields) for fields in looked) if one.pid == pid]  # type: ignore[arg-type]
    assert all(one.given == (one.what == "mount") for one in ways)
    return [(one.what, one.path.replace(str(store.parent), "$T")) for one in ways]


@pytest.mark.parametrize(
    ("script", "ways"),
    [
        ("exec cat", []),
        ('mount --bind "$S/Films" "$T/root"; exec cat', [("mount", "$T/root")]),
        ('mount --bind "$S" "$T/root"; exec cat', [("mount", "$T/root")]),
        (f'mount --bind "$S/Films" "$T/root"; {AS_USER} cat', [("mount", "$T/root")]),
        # Of the directory above, only root gets through the mode of the store.
        ('mount --bind "$T" /mnt; exec cat', [("mount", "/mnt/media")]),
        (f'mount --bind "$T" /mnt; {AS_USER} cat', []),
        # At its own path the mode still guards it: as with ReadWritePaths= of a unit.
        ('mount --bind "$S" "$S"; exec cat', [("mount", "$T/media")]),
        (f'mount --bind "$S" "$S"; {AS_USER} cat', []),
        ('mount --bind "$T" "$T"; exec cat', []),
        # Another mount covers it.
        ('mount --bind "$S" "$S"; mount -t tmpfs x "$S"; exec cat', []),
        ('mount --bind "$S" "$T/root"; mount -t tmpfs x "$T/root"; exec cat', []),
        ('mount --bind "$T" /mnt; mount -t tmpfs x /mnt/media; exec cat', []),
        ('mount --bind "$S" "$T/root"; mount -t tmpfs x "$T"; exec cat', []),
        # In another root, as in a container.
        (f'{BOX}; mount --bind "$S" "$R/$S"; exec chroot $R cat', [("mount", "$T/media")]),
        # A mount that is in use, but not by way of a mount of its own.
        (f'exec 5<"$S/Films/film"; {AS_USER} cat', [("file", "$T/media/Films/film")]),
        (f'cd "$S/Films"; {AS_USER} cat', [("cwd", "$T/media/Films")]),
        ('cd "$S/Films"; exec cat', [("cwd", "$T/media/Films")]),
        (f'R="$S"; {ROOT} exec chroot "$S" cat', [("cwd", "$T/media")]),
        ('cp /bin/cat "$S/cat"; exec "$S/cat"', [("exe", "$T/media/cat")]),
        # What is at the path of the store is something else here, as the mount of an app.
        (f'mount -t tmpfs -o mode=755 x "$S"; echo >"$S/a"; exec 5<"$S/a"; cd "$S"; {AS_USER} cat', []),
    ],
)  # fmt: skip
def test_ways(store: Path, script: str, ways: list[tuple[str, str]]) -> None:
    with process(store, script) as pid:
        assert found(store, pid) == ways


def test_a_user_with_very_many_mounts_keeps_nobody_from_looking(store: Path) -> None:
    """In a time that grows with their number, and not with its square."""

    def look(doubled: int) -> float:
        bind = 'mount -t tmpfs x /mnt; mkdir /mnt/0; mount --bind "$S" /mnt/0; '
        double = f"for n in $(seq {doubled}); do mkdir /mnt/$n; mount --rbind /mnt /mnt/$n; done; exec cat"
        with process(store, bind + double) as pid:
            assert in_child(lambda: pid in [one.pid for one in look_at(str(store), ()).found if one.given])
            spent: float = in_child(lambda: (look_at(str(store), ()), time.process_time())[1])
            return spent

    assert look(12) < look(1) + 1.5


def test_a_disk_in_the_store_is_a_part_of_it(store: Path) -> None:
    (store / "disk2").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "disk2", store / "disk2"], check=True)
    with process(store, 'mount --bind "$S/disk2" "$T/root"; exec cat') as pid:
        assert found(store, pid) == [("mount", "$T/root")]


def test_own_processes_are_left_out_with_their_children(store: Path) -> None:
    with process(store, 'cd "$S"; exec cat') as pid:
        assert found(store, pid) == [("cwd", "$T/media")]
        assert found(store, pid, pid) == []
        assert found(store, pid, os.getpid()) == [], "it is a child"


def test_what_a_user_may_not_look_at_is_counted(store: Path) -> None:
    def unseen() -> bool:
        return 0 in look_at(str(store), ()).unseen

    assert call_as(UID, unseen)


def test_shares(store: Path) -> None:
    assert list(shares_of(str(store))) == []
    subprocess.run(["mount", "--bind", store / "Films", store.parent / "root"], check=True)
    assert list(shares_of(str(store))) == [f"{store.parent}/root"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [("/srv/media", True), ("/srv", True), ("/", True), ("/srv/media/a", True), ("/srv/media2", False)],
)
def test_reaches(source: str, expected: bool) -> None:
    assert reaches(source, "/srv/media") == expected
