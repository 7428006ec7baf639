"""A directory in which an app works is moved elsewhere: in the store, or through another mount of it.

Natively the app notices nothing: it goes on in the directory, and below it, wherever that is now.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.test_gone_elsewhere import ask, inside
from tests.support.machine.counts import first
from tests.support.machine.processes import Child, start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP = 10331
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{one: {{uid: {APP}}}}}
rules:
  - {{id: all, allow: [all], who: {{app: one}}, paths: "/***"}}
  - {{id: other, allow: [all], who: {{app: one}}, paths: "/Other/***"}}
"""
FILES = 300
WAYS = {
    "shared mount, in the store": ((), True),
    "app mount, through another mount": (("--app", "one"), False),
    "with --posix, in the store": (("--posix",), True),
}
"""The options of the mount, and whether things are moved in the store or through another mount of it."""


def furnish(top: Path) -> Path:
    """Directories for the app, one of them with files."""
    for name in ("Work/d/inner", "Other"):
        (top / name).mkdir(parents=True)
    top.chmod(0o755)
    for number in range(FILES):
        (top / f"Work/d/{number:03}").write_bytes(b"%d" % number)
    (top / "Work/d/f").write_bytes(b"x")
    (top / "Work/d/inner/f").write_bytes(b"y")
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            os.chown(Path(directory, name), APP, APP)
    return top


@pytest.fixture(params=first(2, zip(WAYS)))
def way(request: pytest.FixtureRequest, mounts: Mounts, empty_store: Path) -> tuple[Mount, Path]:
    """A mount, and the directory in which the test moves things."""
    options, in_store = WAYS[request.param]
    mount = mounts.start(POLICY, furnish(empty_store), *options)
    return mount, empty_store if in_store else mounts.start(POLICY, empty_store).mountpoint


def _move(top: Path, old: str, new: str) -> None:
    """Move a directory natively, or through a mount, which no one but the app may use."""
    start_as(APP if os.path.ismount(top) else 0, lambda _: os.rename(top / old, top / new)).result()


@contextlib.contextmanager
def _stopped_tar(directory: Path, arena: Path) -> Iterator[subprocess.Popen[bytes]]:
    """GNU tar of a directory, which stops once after some files, until the body has run."""
    told, back, done = arena / "told", arena / "back", arena / "done"
    for fifo in (told, back):
        os.mkfifo(fifo)
        fifo.chmod(0o666)
    stop = f"exec=[ -e {done} ] || {{ echo > {told}; read _ < {back}; }}"
    words = ["tar", "-cf", "-", "-b1", "--checkpoint=60", f"--checkpoint-action={stop}", "-C", directory, "."]
    command = ["setpriv", "--reuid", str(APP), "--regid", str(APP), "--clear-groups", "--", *words]
    tar = subprocess.Popen(command, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        told.read_bytes()
        yield tar
        done.touch()
        back.write_bytes(b"\n")
    except BaseException:
        tar.kill()
        raise


def _tarred(directory: Path, arena: Path, top: Path) -> tuple[int, bytes, list[str]]:
    """Return code, errors and names of a tar of a directory that is moved meanwhile, in *top*."""
    with _stopped_tar(directory, arena) as tar:
        _move(top, "Work/d", "Other/new")
    output, errors = tar.communicate(timeout=30)
    return tar.returncode, errors, sorted(tarfile.open(fileobj=io.BytesIO(output)).getnames())


def test_tar_has_all_files(way: tuple[Mount, Path], arena: Path) -> None:
    mount, elsewhere = way
    places = [arena / "first", arena / "second"]
    for place in places:
        place.mkdir()
        place.chmod(0o755)
    top = furnish(arena / "native")
    natively = _tarred(top / "Work/d", places[0], top)
    assert len(natively[2]) > FILES
    assert _tarred(mount / "Work/d", places[1], elsewhere) == natively


@pytest.fixture
def natively(arena: Path) -> dict[str, object]:
    """What the app sees without a mount."""
    top = furnish(arena / "native")
    child = _inside(top / "Work/d")
    _move(top, "Work/d", "Other/new")
    return _seen(child)


def _seen(child: Child) -> dict[str, object]:
    seen = ask(child)
    assert isinstance(seen["a new file"], int)
    seen["listing"] = sorted(seen["listing"])
    return seen | {name: seen[name].st_mode for name in ("a name", "a name here")}


def _inside(directory: Path) -> Child:
    child = start_as(APP, inside, directory)
    assert child.receive() == "there"
    return child


MOVES = {
    "itself": ("Work/d", "Other/new"),
    "one above": ("Work", "Other/Work"),
    "and another is there": ("Work/d", "Other/new"),
}


def test_who_is_in_it_goes_on(
    way: tuple[Mount, Path], empty_store: Path, natively: dict[str, object]
) -> None:
    mount, elsewhere = way
    for move, (old, new) in MOVES.items():
        child = _inside(mount / "Work/d")
        _move(elsewhere, old, new)
        if move == "and another is there":
            (empty_store / old).mkdir()
        assert _seen(child) == natively, move
        child.kill()
        assert (empty_store / new / ("d" if move == "one above" else "") / "new").is_file()
        for name in ("Work", "Other"):
            shutil.rmtree(empty_store / name, ignore_errors=True)
        furnish(empty_store)


def _only_enters(channel, directory: Path, how: str) -> object:
    """Enter a directory, or get a descriptor of it, and use it only later."""
    if how == "chdir":
        os.chdir(directory)
        channel.send("there")
        channel.recv()
        return os.stat("f").st_size, sorted(os.listdir("."))[-2:]
    fd = os.open(directory, os.O_PATH)
    channel.send("there")
    channel.recv()
    return os.stat("f", dir_fd=fd).st_size, sorted(os.listdir(f"/proc/self/fd/{fd}"))[-2:]


def test_who_has_only_entered_it_goes_on(way: tuple[Mount, Path], empty_store: Path) -> None:
    mount, elsewhere = way
    entered = [start_as(APP, _only_enters, mount / "Work/d", how) for how in ("chdir", "O_PATH")]
    assert [child.receive() for child in entered] == ["there"] * 2
    _move(elsewhere, "Work/d", "Other/new")
    for child in entered:
        child.send("go")
        assert child.result() == (1, ["f", "inner"])
