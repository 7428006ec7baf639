"""With --inotify, a program hears of changes in the store as natively, up to stated merges."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

import pytest

from tests.support.machine.processes import Child, call_as, code_of, pause, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, wait_until_heard
from tests.support.programs.inotify import END, Told, watch

APP = 10136
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{viewer: {{uid: {APP}}}}}
rules:
  - {{id: viewer, allow: [see, read], who: {{app: viewer}}, paths: "/top/***"}}
"""
LIMIT_S = 20.0
MANY = 40
Heard = set[tuple[str, str, str]]
"""Directory, kinds, name."""


def _tree(at: Path) -> Path:
    """Make the files that all changes are made to."""
    for name in ("top", "top/a", "top/a/inner", "top/b", "away"):
        (at / name).mkdir()
    for name in ("top/a/1", "top/a/2", "top/a/inner/3", "top/b/4", "top/log", "away/out"):
        (at / name).write_text("words\n")
    return at


def _run(at: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    words = (words[0], *identity, *words[1:]) if words[0] == "git" else words
    subprocess.run(words, cwd=at, check=True, capture_output=True, timeout=60)


def _versions(at: Path) -> None:
    """Two branches of the files below *at*, the first of which is checked out."""
    _run(at, "git", "init")
    _run(at, "git", "add", "a", "b", "log")
    _run(at, "git", "commit", "-m", "first")
    _run(at, "git", "checkout", "-b", "other")
    shutil.rmtree(at / "a/inner")
    (at / "a/1").write_text("other words, and more\n")
    (at / "b/new").write_text("new\n")
    (at / "b/deep").mkdir()
    (at / "b/deep/5").write_text("new\n")
    _run(at, "git", "add", "-A", "a", "b")
    _run(at, "git", "commit", "-m", "second")
    _run(at, "git", "checkout", "main")


def _grows(at: Path) -> TextIO:
    """Append to a log that stays open."""
    file = (at / "log").open("a")
    file.write("more words\n")
    file.flush()
    return file


def _truncates(at: Path) -> None:
    os.truncate(at / "log", 2)
    os.truncate(at / "b/4", 100)


CHANGES: dict[str, Callable[[Path], TextIO | None]] = {
    "rm -r": lambda at: _run(at, "rm", "-r", "a"),
    "rm -r of both": lambda at: _run(at, "rm", "-r", "a", "b"),
    "mv a file": lambda at: _run(at, "mv", "a/1", "a/one"),
    "mv a file across": lambda at: _run(at, "mv", "a/1", "b/1"),
    "mv a file over another": lambda at: _run(at, "mv", "-f", "a/1", "b/4"),
    "mv a file in": lambda at: _run(at, "mv", "../away/out", "a"),
    "mv a file out": lambda at: _run(at, "mv", "a/1", "../away"),
    "mv a directory": lambda at: _run(at, "mv", "a/inner", "b/other"),
    "mv a directory in": lambda at: _run(at, "mv", "../away", "a"),
    "mv a directory out": lambda at: _run(at, "mv", "a/inner", "../away"),
    "mv, and rm of what was above": lambda at: _run(at, "sh", "-c", "mv a/inner/3 b/3; rm -r a"),
    "cp -r": lambda at: _run(at, "cp", "-r", "a/.", "b"),
    "cp -r over the same": lambda at: _run(at, "cp", "-rT", "a", "b"),
    "git checkout": lambda at: _run(at, "git", "checkout", "other"),
    "appends": _grows,
    "truncate": _truncates,
    "chmod": lambda at: _run(at, "chmod", "600", "a/1"),
}
STAYS_OPEN = {"appends": 1, "truncate": 2}
"""Changes that are told only a moment later: the number of files."""
WATCHED = ("top", "top/a", "top/a/inner", "top/b")


def _listened(child: Child, top: Path) -> Heard:
    (top / END).touch()
    told: list[Told] = child.result(LIMIT_S + 10)
    assert told and told[-1].name == END, told
    return {(one.directory, one.kind, one.name) for one in told[:-1] if one.name}


def _merged(heard: Heard) -> Heard:
    """What is heard of them through a mount (docs/operations.md, "inotify and NFS")."""
    found: Heard = set()
    came = any(kind == "MOVED_TO" for _, kind, _ in heard)
    went = any(kind == "MOVED_FROM" for _, kind, _ in heard)
    for directory, kind, name in heard:
        if kind == "MOVED_FROM DIR" or (kind == "MOVED_FROM" and not came):
            found.add((directory, kind.replace("MOVED_FROM", "DELETE"), name))
        elif kind == "MOVED_TO DIR":
            found.add((directory, "CREATE DIR", name))
        elif kind == "MOVED_TO" and not went:
            found |= {(directory, one, name) for one in ("CREATE", "MODIFY", "CLOSE_WRITE")}
        else:
            found.add((directory, kind, name))
    return found


def _names(top: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in top.rglob("*")}


@pytest.fixture
def own(mounts: Mounts, empty_store: Path) -> Mount:
    mount = mounts.start(POLICY, _tree(empty_store), "--app", "viewer", "--inotify")
    wait_for(lambda: mount.status()["inotify"]["pid"], "the announcer runs")
    return mount


def _heard(store: Path, seen_at: Path, change: str, then: Callable[[], object]) -> Heard:
    """The events of a change, of names that are there before or after it. then: called after the change."""
    if change == "git checkout":
        _versions(store / "top")
    call_as(APP, _scan, seen_at)
    child = start_as(APP, watch, [seen_at / name for name in WATCHED], LIMIT_S)
    assert child.receive() == "watching"
    there = _names(store / "top")
    with contextlib.closing(CHANGES[change](store / "top") or contextlib.ExitStack()):
        then()
        there |= _names(store / "top")
        heard = _listened(child, store / "top")
    return {one for one in heard if f"{one[0]}/{one[2]}" in there and not one[2].startswith(".git")}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_heard_as_natively(own: Mount, arena: Path, empty_store: Path, change: str) -> None:
    (arena / "native").mkdir()
    native = _tree(arena / "native")
    told = own.status()["inotify"]["told"] + STAYS_OPEN.get(change, 0)
    wanted = _merged(_heard(native, native, change, lambda: None))
    heard = _heard(
        empty_store, own.mountpoint, change,
        lambda: wait_for(lambda: own.status()["inotify"]["told"] >= told, "writes are told"),
    )  # fmt: skip
    assert heard == wanted
    assert own.status()["inotify"]["lost"] == 0


def _scan(at: Path) -> None:
    for above, _, names in os.walk(at):
        for name in names:
            os.stat(os.path.join(above, name))


def test_tail_follows_a_log_that_stays_open(own: Mount, empty_store: Path, arena: Path) -> None:
    said = arena / "said"
    with said.open("wb") as output:
        tail = subprocess.Popen(
            ["tail", "-n", "+1", "-F", own / "top/log"], stdout=output, stderr=output, user=APP, group=APP,
            extra_groups=[], cwd="/", env=os.environ | {"LC_ALL": "C"},
        )  # fmt: skip
    try:
        wait_for(lambda: said.read_text() == "words\n", "it is read")
        with (empty_store / "top/log").open("a") as log:
            for line in ("one\n", "two\n"):
                log.write(line)
                log.flush()
                wait_for(lambda line=line: said.read_text().endswith(line), f"{line} is read")
            os.truncate(empty_store / "top/log", 0)
            wait_for(lambda: "file truncated" in said.read_text(), "it is truncated")
    finally:
        tail.kill()
        tail.wait(10)


def test_each_of_many_removals_is_told(own: Mount, empty_store: Path) -> None:
    for number in range(MANY):
        (empty_store / f"top/b/d{number}").mkdir()
        (empty_store / f"top/b/d{number}/file").touch()
    call_as(APP, _scan, own.mountpoint)
    places = [own / "top", own / "top/b", *(own / f"top/b/d{number}" for number in range(MANY))]
    child = start_as(APP, watch, places, LIMIT_S)
    assert child.receive() == "watching"
    for number in range(MANY):
        shutil.rmtree(empty_store / f"top/b/d{number}")
        if number % 2:
            (empty_store / f"top/b/d{number}").mkdir()  # another directory, as of a checkout
    heard = _listened(child, empty_store / "top")
    assert {one for one in heard if one[1].startswith("DELETE")} == {
        *((f"d{number}", "DELETE", "file") for number in range(MANY)),
        *(("b", "DELETE DIR", f"d{number}") for number in range(MANY)),
    }
    wait_for(lambda: not own.status()["inotify"]["waiting"], "the last order is answered")
    assert own.status()["inotify"]["lost"] == 0


def test_a_removal_is_told_after_a_program_has_missed_the_name(own: Mount, empty_store: Path) -> None:
    """The kernel then has an answer that the name is absent."""
    child = start_as(APP, watch, [own / "top"], LIMIT_S)
    assert child.receive() == "watching"
    call_as(APP, _scan, own.mountpoint)
    pause(announcer := own.status()["inotify"]["pid"])
    (empty_store / "top/log").unlink()
    (empty_store / "top/b/4").unlink()
    (empty_store / "top/b").rmdir()
    wait_for(lambda: own.status()["inotify"]["waiting"] >= 3, "the orders wait")
    for name in ("log", "b"):
        assert call_as(APP, code_of, os.stat, own / f"top/{name}") == "ENOENT"
    os.kill(announcer, signal.SIGCONT)
    assert _listened(child, empty_store / "top") == {("top", "DELETE", "log"), ("top", "DELETE DIR", "b")}


def _works_in(channel: Connection, directory: Path) -> str:
    os.chdir(directory)
    channel.send(os.getcwd())
    channel.recv()
    return code_of(os.getcwd)


def test_a_working_directory_that_is_gone_has_no_path(own: Mount, empty_store: Path) -> None:
    worker = start_as(APP, _works_in, own / "top/a")
    assert worker.receive() == str(own / "top/a")
    child = start_as(APP, watch, [own / "top", own / "top/a"], LIMIT_S)
    assert child.receive() == "watching"
    shutil.rmtree(empty_store / "top/a")
    assert ("a", "DELETE", "1") in _listened(child, empty_store / "top")
    wait_until_heard(own)
    worker.send("it is gone")
    assert worker.result() == "ENOENT"
    hidden = [name for name in call_as(APP, os.listdir, own.mountpoint) if "aside" in name]
    assert hidden == []


def test_what_happens_outside_the_store_is_left_out(own: Mount, empty_store: Path, arena: Path) -> None:
    call_as(APP, _scan, own.mountpoint)
    (empty_store / "top/a").rename(arena / "a")
    (arena / "a/1").chmod(0o600)
    (arena / "a/2").unlink()
    shutil.rmtree(arena / "a/inner")
    wait_for(lambda: own.status()["inotify"]["told"], "the removal is told")
    wait_for(lambda: not own.status()["inotify"]["waiting"], "no order waits")
    assert own.status()["inotify"]["lost"] == 0
