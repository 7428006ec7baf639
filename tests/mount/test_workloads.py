"""Ordinary work through the mount, by plain uids and unmodified tools: git, tar, rsync, SQLite, make.

Where it happens: in a shared mount and in an app's own mount (both in passthrough), in an app
mount without passthrough, in a shared mount with the kernel's mode-bit checks, and in two places
of the shared mount whose files are always mediated: /Own, where an app is under redaction of all
files but its own, and /Checked, where every write must be of an allowed content kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.machine.counts import count, first
from tests.support.machine.processes import call_as, start_as, tool_as
from tests.support.models.trees import (
    PROGRAM_PRINTS,
    alter_tree,
    differences,
    inventory,
    make_c_project,
    make_tree,
)
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs import databases

UID = 10081
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  worker: {{uid: {UID}}}
  helper: {{uid: {UID + 1}, grants: [work]}}
rules:
  - id: work
    allow: [all]
    who: {{app: [worker, helper]}}
    paths: ["/Work/***", "/Own/***", "/Checked/***"]
  - id: own
    require: {{redact: location}}
    paths: ["/Own/**"]
    unless: {{owner: self}}
  - id: kinds
    require: {{content: ["text/*", "application/*", "image/*", "audio/*", "video/*"]}}
    paths: ["/Checked/**"]
"""
GIT = {
    "GIT_AUTHOR_NAME": "Worker",
    "GIT_AUTHOR_EMAIL": "worker@example.org",
    "GIT_COMMITTER_NAME": "Worker",
    "GIT_COMMITTER_EMAIL": "worker@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
}
TOOL_S = 100.0
TEXTS = count(6, 60)
TRANSFERS = count(10, 40)


@dataclass(frozen=True, slots=True)
class Place:
    """A directory below a mount, empty, in which the uids may do anything.

    stored: the same directory in the store. passing: bytes must not reach the daemon.
    """

    mount: Mount
    directory: Path
    stored: Path
    uids: tuple[int, ...]
    passing: bool

    def tool(self, *command: str | os.PathLike[str], cwd: Path | None = None) -> bytes:
        """The output of a tool that must succeed, run as the first uid in the directory."""
        where = self.directory if cwd is None else cwd
        done = tool_as(self.uids[0], *command, cwd=where, environment=GIT, check=True, deadline_s=TOOL_S)
        return done.stdout

    def call(self, function: Callable, *arguments: object, uid: int | None = None):
        """What a function returns as a plain uid."""
        return call_as(self.uids[0] if uid is None else uid, function, *arguments, deadline_s=TOOL_S)


PLACES = {
    "shared": ("shared", "Work"),
    "app": ("app", "Work"),
    "mediated": ("mediated", "Work"),
    "posix": ("posix", "Work"),
    "own": ("shared", "Own"),
    "checked": ("shared", "Checked"),
}
OPTIONS = {
    "shared": (),
    "app": ("--app", "worker"),
    "mediated": ("--app", "worker", "--no-passthrough"),
    "posix": ("--posix",),
}
PASSING = {"shared", "app", "posix"}


@pytest.fixture(scope="module")
def offices(module_mounts: Mounts, module_arena: Path) -> Callable[[str], tuple[Mount, Path]]:
    """One mount of each sort with its own store, started when the first test needs it."""
    made: dict[str, tuple[Mount, Path]] = {}

    def of(sort: str) -> tuple[Mount, Path]:
        if sort not in made:
            # The kernel's mode-bit checks begin at the top: there the store is closed from above.
            above = module_arena / f"above-{sort}"
            above.mkdir(mode=0o700)
            store = above / "store"
            store.mkdir(mode=0o755 if sort == "posix" else 0o700)
            for name in ("Work", "Own", "Checked"):
                (store / name).mkdir(mode=0o755)
                os.chown(store / name, UID, UID)
            made[sort] = module_mounts.start(POLICY, store, *OPTIONS[sort]), store
        return made[sort]

    return of


@pytest.fixture
def place(request: pytest.FixtureRequest, offices: Callable[[str], tuple[Mount, Path]]) -> Place:
    """The place that the test's parameter names, in a directory of the test's own."""
    sort, top = PLACES[request.param]
    mount, store = offices(sort)
    name = f"{top}/{request.node.originalname}"
    uids = (UID, UID + 1) if sort == "shared" and top == "Work" else (UID,)
    call_as(UID, os.mkdir, mount / name)
    return Place(mount, mount / name, store / name, uids, passing=request.param in PASSING)


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest, place: Place):
    """In passthrough not one READ or WRITE reaches the daemon; elsewhere they do."""
    before = place.mount.fuse_counters()
    yield
    after = place.mount.fuse_counters()
    moved = [after.get(name, 0) - before.get(name, 0) for name in ("READ", "WRITE")]
    assert (moved == [0, 0]) == place.passing, f"READ, WRITE: {moved}"


def at(*names: str, long: tuple[str, ...] = ()):
    """Run the test in these places. long: only in `make soak`."""
    places = first(len(names), zip((*names, *long)))
    return pytest.mark.parametrize("place", places, indirect=True)


@pytest.mark.night
@at("own", long=("shared", "app", "mediated"))
def test_git(place: Place) -> None:
    source = place.directory / "source"
    place.tool("git", "init", "-q", "-b", "main", source)
    place.call(_make_versions, source)
    for number in range(3):
        place.call(_change, source, number)
        place.tool("git", "add", "-A", cwd=source)
        place.tool("git", "commit", "-q", "-m", f"version {number}", cwd=source)
    place.tool("git", "repack", "-q", "-a", "-d", cwd=source)
    place.tool("git", "clone", "-q", "source", "linked")  # hard links its objects
    place.tool("git", "clone", "-q", "--no-local", "source", "packed")
    for clone in ("linked", "packed"):
        where = place.directory / clone
        place.tool("git", "fsck", "--full", "--strict", cwd=where)
        assert place.tool("git", "status", "--porcelain", cwd=where) == b""
        assert place.tool("git", "rev-parse", "HEAD^{tree}", cwd=where) == place.tool(
            "git", "rev-parse", "HEAD^{tree}", cwd=source
        )
    clone = place.directory / "packed"
    place.tool("git", "switch", "-q", "-c", "topic", "HEAD~2", cwd=clone)
    place.call(_change, clone, 9)
    place.tool("git", "commit", "-q", "-a", "-m", "a change beside", cwd=clone)
    place.tool("git", "push", "-q", "origin", "topic", cwd=clone)
    place.tool("git", "gc", "-q", "--prune=now", cwd=clone)
    place.tool("git", "fsck", "--full", "--strict", cwd=clone)
    place.tool("git", "reset", "-q", "--hard", "main", cwd=clone)
    left, right = (place.call(_tracked, place.directory / name) for name in ("linked", "packed"))
    assert left == right


def _make_versions(source: Path) -> None:
    for number in range(TEXTS):
        directory = source / f"part{number % 6}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number}.txt").write_text(f"line {number}\n" * 40)
    (source / "binary").write_bytes(os.urandom(300_000))
    (source / "link").symlink_to("binary")
    (source / "tool.sh").write_text("#!/bin/sh\n")
    (source / "tool.sh").chmod(0o755)


def _change(source: Path, number: int) -> None:
    for path in sorted(source.glob("part*/*.txt"))[number::3]:
        with path.open("a") as file:
            file.write(f"change {number}\n")
    (source / "binary").write_bytes(os.urandom(200_000))


def _tracked(clone: Path) -> dict[bytes, object]:
    found = inventory(clone, times=False)
    return {path: entry for path, entry in found.items() if not path.startswith(b".git")}


@at("shared", long=("app",))
def test_tar_in_and_out(place: Place, arena: Path) -> None:
    native = _native_tree(arena)
    truth = place.call(inventory, native / "tree")
    place.tool("tar", "-C", native, "--xattrs", "-cf", native / "in.tar", "tree")
    place.tool("tar", "--xattrs", "-pxf", native / "in.tar")
    place.tool("tar", "--compare", "-f", native / "in.tar")
    assert differences(place.call(inventory, place.directory / "tree"), truth) == []
    assert differences(inventory(place.stored / "tree"), truth) == [], "in the store as well"
    place.tool("tar", "--xattrs", "--sparse", "-cf", "within.tar", "tree")
    place.call(os.mkdir, native / "out")
    place.tool("tar", "-C", native / "out", "--xattrs", "-pxf", place.directory / "within.tar")
    assert differences(place.call(inventory, native / "out" / "tree"), truth) == []


def _native_tree(arena: Path) -> Path:
    native = arena / "native"
    native.mkdir()
    os.chown(native, UID, UID)
    call_as(UID, os.mkdir, native / "tree")
    call_as(UID, make_tree, native / "tree")
    return native


@at("shared", long=("app",))
def test_rsync_with_checksums(place: Place, arena: Path) -> None:
    native = _native_tree(arena)
    truth = place.call(inventory, native / "tree")
    copy = ("rsync", "-aHX", "--checksum", "--modify-window=-1")  # -1: compare nanoseconds
    place.tool(*copy, f"{native}/tree/", "tree/")
    assert place.tool(*copy, "--dry-run", "--itemize-changes", f"{native}/tree/", "tree/") == b""
    assert differences(place.call(inventory, place.directory / "tree"), truth) == []
    assert differences(inventory(place.stored / "tree"), truth) == [], "in the store as well"
    place.tool(*copy, "tree/", native / "back/")
    assert differences(place.call(inventory, native / "back"), truth) == []
    place.call(alter_tree, native / "tree")
    place.tool(*copy, "--delete", "--inplace", f"{native}/tree/", "tree/")
    changed = place.call(inventory, native / "tree")
    assert differences(place.call(inventory, place.directory / "tree"), changed) == []


@at("checked", long=("own", "app", "shared", "mediated"))
def test_sqlite_in_wal_mode(place: Place) -> None:
    database = place.directory / "accounts.db"
    assert place.call(databases.create, database) == "wal"
    uids = place.uids * (4 // len(place.uids))
    children = [start_as(uid, _transfers, database, writer, TRANSFERS) for writer, uid in enumerate(uids)]
    children += [start_as(uids[-1], _watching, database, len(uids), TRANSFERS)]
    results = [child.result(TOOL_S) for child in children]
    assert results[:-1] == [TRANSFERS] * len(uids)
    assert results[-1] > 0
    expected = ("ok", databases.ACCOUNTS * databases.BALANCE, len(uids) * TRANSFERS)
    assert place.call(databases.verdict, database) == expected
    assert databases.verdict(place.stored / "accounts.db") == expected, "in the store as well"
    said = place.tool("sqlite3", database, "SELECT sum(balance) FROM account")
    assert said == b"%d\n" % expected[1]


def _transfers(_channel, path: Path, writer: int, count: int) -> int:
    return databases.transfer(path, writer, count)


def _watching(_channel, path: Path, writers: int, count: int) -> int:
    return databases.watch_sum(path, writers, count, deadline=100_000)


@pytest.mark.night
@at("checked", long=("posix", "mediated", "shared", "app", "own"))
def test_a_parallel_build(place: Place) -> None:
    place.call(make_c_project, place.directory)
    place.tool("make", "-j2", "program")
    assert place.tool("./program") == PROGRAM_PRINTS
    assert b"up to date" in place.tool("make", "-j2", "program")
    place.call((place.directory / "src" / "part_3.c").touch)
    built = place.tool("make", "-j2", "program").decode()
    assert [line.split()[-1] for line in built.splitlines() if " -c " in line] == ["src/part_3.c"]
    assert place.tool("./program") == PROGRAM_PRINTS
    place.tool("make", "clean")
    assert sorted(place.call(os.listdir, place.directory)) == ["Makefile", "include", "main.c", "src"]
