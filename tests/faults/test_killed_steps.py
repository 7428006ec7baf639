"""kill -9 before each single step that the journal, its sealer and its keys make on disk."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from policyfs.cli.audit.evidence import Anchors
from policyfs.cli.audit.verify import reports_on
from policyfs.domain import Audit
from policyfs.journal.files.segments import Chain
from policyfs.journal.sealing.keys import PUBLIC, KeyStore, is_signed
from policyfs.journal.writing.journal import Journal
from policyfs.kernel.bridge import Appender
from policyfs.trail.chain.restarts import KILLED
from policyfs.trail.chain.seal import read_keys
from tests.support.machine.counts import count
from tests.support.mount.trail import MOUNT_ID, ROOMY, an_event, paths, read_all, segments

STEPS: Final = ("open", "write", "rename", "fsync", "unlink", "mkdir", "ftruncate")
"""Functions of os that change what is on disk, or are beside such a change."""
EVERY: Final = count(14, 1)
"""Of the steps, each how manyth one is tried."""
EVENTS: Final = 10
WAIT_S: Final = 20.0


def _step(fd: int, data: bytes) -> None:
    """Do nothing: `_dies_at` counts it."""


class _Steps:
    """The appender, each write of which is a step."""

    def __init__(self) -> None:
        self._appender = Appender()
        self.wait, self.result, self.close = self._appender.wait, self._appender.result, self._appender.close

    def begin(self, fd: int, offset: int, data: bytes, /) -> bool:
        _step(fd, data)
        return self._appender.begin(fd, offset, data)


def _put(journal: Journal, path: bytes, *, by_loop: bool) -> None:
    """Record one event as a thread does, or as the event loop does."""
    if not by_loop:
        journal.record(an_event(path), Audit.REQUIRED)
        return
    ticket = journal.admit(an_event(path), Audit.REQUIRED)
    assert ticket is not None
    assert journal.at_once([ticket]).wait(WAIT_S)
    ticket.check()


def _daemon(root: Path, keys: KeyStore, told: Callable[[bytes], object], name: str, keep: int) -> None:
    """Record, rotate, seal, compress, remove old segments, make a new key, and end."""
    journal = Journal(
        str(root / MOUNT_ID), MOUNT_ID, keep=keep, segment_bytes=3000, limits=ROOMY, keys=keys, sync_ns=1,
        appender=_Steps(),
    )  # fmt: skip
    assert journal._sealer is not None
    journal._sealer._compress_from = 1
    for number in range(EVENTS):
        path = b"/%s-%d" % (name.encode(), number)
        _put(journal, path, by_loop=number % 2 == 0)
        told(path)
        if number % 3 == 2:
            time.sleep(0.003)  # for the sealer
            journal._checked_ns = 0  # old segments are removed once a second
            journal.flush()
    keys.rotate()
    journal.close({"reason": name})


def _dies_at(step: int, root: Path, pipe: int, keep: int) -> None:
    """Be two daemons after each other, and die before so many steps; a write is cut in half."""
    done, lock, write, step_of_loop = itertools.count(1), threading.Lock(), os.write, _step

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            with lock:
                if next(done) == step:
                    if function in {write, step_of_loop} and arguments[0] != pipe:
                        write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **more)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    globals()["_step"] = counted(_step)
    keys = KeyStore(root / "keys")
    for name in ("first", "second"):
        _daemon(root / "trail", keys, lambda path: write(pipe, path + b"\n"), name, keep)


def _die(step: int, root: Path, keep: int) -> tuple[bool, list[bytes]]:
    """Let a process die at a step. Whether it did, and the paths of the events that were on record for it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _dies_at(step, root, writer, keep)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as stream:
        told = stream.read().splitlines()
    _, status = os.waitpid(pid, 0)
    assert status in {0, signal.SIGKILL}
    return status != 0, told


def _check(root: Path, told: list[bytes], step: int, keep: int) -> None:
    """A next daemon goes on; then all is there that was told, it holds, and what is over is gone."""
    directory, keys = root / "trail" / MOUNT_ID, KeyStore(root / "keys")
    begun = directory.exists() and bool(segments(directory))
    before = read_all(directory) if begun else []
    _daemon(root / "trail", keys, lambda path: None, "after", keep)
    kept = [path for path in paths(directory) if path in told]
    # Rotation removes the oldest, and may have removed its own records of that, too.
    assert kept == told[len(told) - len(kept) :], step
    assert keep or len(kept) == len(told), step
    chain, machine = Chain(MOUNT_ID, directory), keys.public()
    [report] = reports_on([chain], str(root / "trail"), Anchors([], [], machine))
    assert report.whole, (step, report.breaks)
    # Of a crash, the next daemon's beginning tells; rotation may have removed that.
    ended = not before or before[-1].kind == "close"
    named = sum(KILLED in note.what for note in report.notes)
    assert named == (0 if ended else 1) or keep, (step, report.notes)
    _check_files(directory, root / "keys", step)


def _check_files(directory: Path, keys: Path, step: int) -> None:
    with_lines = {record.place.segment for record in read_all(directory)}  # a header may have been cut
    names = {name.partition(".")[0] for name in with_lines}
    assert {path.stem for path in directory.glob("*.seal")} == names, step
    assert not list(directory.glob(".new-*")), step
    chain = read_keys((keys / PUBLIC).read_bytes().splitlines(keepends=True), is_signed)
    public = re.compile(r"keys\.public|\w+-\w+\.end")
    secrets = [path.name for path in keys.iterdir() if not public.fullmatch(path.name)]
    assert secrets == [f"{chain.keys[-1].key}.private"], (step, "only the newest secret is there")


@pytest.mark.timeout(600)
def test_a_journal_killed_at_any_step_loses_nothing_and_goes_on(tmp_path: Path) -> None:
    """Fault daemon.1: kill -9 of a daemon without a keeper at any moment, a fault in C, or a signal such as
    SIGQUIT
    App: ENOTCONN, or EIO from requests under way. Passthrough continues. The launcher ends the
    connection, even if threads of the daemon wait for a lock or a disk
    ([exceptions](decisions/0065-the-launcher-ends-the-connection.md): then callers may wait until you
    mount there again, or run `policyfs umount`)
    Store: the first part of what an app was writing; a file written under a temporary name and renamed
    is complete. Nothing of a held head. A create that was not answered may leave an empty file without a
    record. A removal or rename has happened, or not. The next daemon removes an unfinished directory or
    symlink ([61](decisions/0061-names-are-locked.md))
    Trail: everything that had to be on record before its answer. The next mount resumes the chain, and
    `verify` names the crash
    Also:
    tests/faults/test_killed_trail.py::test_what_an_app_was_allowed_is_on_the_trail_of_a_killed_daemon,
    tests/faults/test_killed.py::test_a_daemon_killed_at_any_moment_leaves_a_whole_store,
    tests/faults/test_torn_drafts.py::test_a_daemon_killed_while_it_takes_room_leaves_all_old_bytes,
    tests/faults/test_killed_waiting.py::test_the_app_gets_an_error_and_the_daemon_is_gone,
    tests/faults/test_killed_waiting.py::test_both_wait_where_nobody_ends_the_connection,
    tests/faults/test_killed_waiting.py::test_both_wait_where_a_fault_waits_for_all_threads,
    tests/attack/test_lock_circle.py::test_a_daemon_that_is_killed_meanwhile_keeps_nobody_waiting,
    tests/attack/test_ending.py::test_umount_frees_those_whom_a_killed_daemon_left_waiting
    """
    died = 0
    for step in itertools.count(1, EVERY):
        root = tmp_path / f"{step}"
        (root / "trail").mkdir(parents=True)
        keep = 0 if step // EVERY % 2 else 5
        dead, told = _die(step, root, keep)
        _check(root, told, step, keep)
        if not dead:
            break
        died += 1
    assert died * EVERY > 80
