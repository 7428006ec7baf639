"""First opens that the bridge answers: no name has another's decision, and no decision lasts too long."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.mount.test_raw_tree import CLOSED, FILES, ONE, POLICY, listed, read, read_all, refusal, store
from tests.support.machine.counts import count
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

__all__ = ["store"]
TWO = ONE + 1
SHARED = POLICY.replace("apps: {", f"apps: {{two: {{uid: {TWO}, gid: {TWO}}}, ").replace(
    "rules:\n",
    'rules:\n  - {id: two, allow: [all], who: {app: two}, paths: ["/d/***", "/e/***"]}\n',
)
OPEN = SHARED + "  - {id: anyone, allow: [all]}\n"
EXCEPTED = {
    'deny: [read], paths: ["/d/f5"]': (None, errno.EACCES),
    'deny: [all], errno: ENOENT, paths: ["/d/f5"]': (errno.ENOENT, errno.ENOENT),
    'allow: [all], audit: required, paths: ["/d/f5"]': (None, None),
    'deny: [read], mode: monitor, paths: ["/d/f5"]': (None, None),
}
"""Rules for one of two apps, with the errors that it gets for stat(2) and open(2)."""
SECONDS = count(3, 240) / 2


def excepted(mount: Mount) -> int | None:
    """The error for a hidden name among names that the bridge answers for."""
    call_as(ONE, read_all, str(mount / "d"))
    answer: int | None = call_as(ONE, refusal, lambda: os.stat(mount / "d/secret"))
    return answer


def after_a_reload(mount: Mount) -> int | None:
    """The error for a file that was known, but not open, when a reload closed it."""
    call_as(ONE, listed, str(mount / "d"))
    mount.policy.write_text(CLOSED)
    assert mount.reload().returncode == 0
    answer: int | None = call_as(ONE, refusal, lambda: read(str(mount / "d/f2")))
    return answer


def test_a_hidden_name_among_open_ones_stays_hidden(mounts: Mounts, store: Path) -> None:
    assert excepted(mounts.prepare(POLICY, store, "--app", "one").start()) == errno.ENOENT


def test_it_is_seen_without_the_guard(without, store: Path) -> None:
    assert excepted(without("names-without-exceptions", POLICY, store, "--app", "one")) is None


def test_a_reload_ends_the_decision(mounts: Mounts, store: Path) -> None:
    assert after_a_reload(mounts.prepare(POLICY, store, "--app", "one").start()) == errno.EACCES


def _used(channel: Connection, directory: str) -> None:
    """Let the bridge answer in a directory, by names that are alike for all. Then keep a file open."""
    for number in (6, 7, 8) * 3:
        read(f"{directory}/f{number}")
    with open(f"{directory}/f{5 + channel.recv()}", "rb"):
        channel.send(None)
        channel.recv()


def answer(do: Callable[[], object]) -> int | None:
    """The error of a call. Call again after EIO: on a busy machine a record can be later than a look-up waits
    for it (sharing/kernel_locks.py)."""
    errors = (refusal(do) for _ in range(20))
    return next(error for error in errors if error != errno.EIO)


@pytest.mark.parametrize("rule", EXCEPTED)
def test_no_app_gets_a_file_by_the_decision_for_another(mounts: Mounts, store: Path, rule: str) -> None:
    """The kernel knows the name and the node of a file that one app has open, and shows both to all apps."""
    policy = OPEN.replace("rules:\n", f"rules:\n  - {{id: excepted, who: {{app: two}}, {rule}}}\n")
    mount = mounts.prepare(policy, store).start()
    children = [start_as(uid, _used, str(mount / "d")) for uid in (TWO, ONE)]
    for number, child in zip((1, 0), children, strict=True):
        child.send(number)
        assert child.receive() is None
    answers = [call_as(TWO, answer, partial(call, str(mount / "d/f5"))) for call in (os.stat, read)]
    for child in children:
        child.send(None)
        child.result()
    assert tuple(answers) == EXCEPTED[rule]
    mount.stop()
    found = [event for event in mount.events(path="/d/f5", uid=TWO) if event.get("operation") == "open"]
    assert all("excepted" in event["rules"] or event["decision"] == "would_deny" for event in found)
    assert len(found) == (answers[0] is None)


def _reads(channel: Connection, directory: str) -> tuple[set[int], set[bytes]]:
    """Read all files again and again until told to end. Return the errors, and the bytes."""
    errors, found = set[int](), set[bytes]()
    while not channel.poll():
        try:
            for name in os.listdir(directory):
                try:
                    os.stat(f"{directory}/{name}")
                    found.add(read(f"{directory}/{name}"))
                except OSError as error:
                    errors.add(error.errno or 0)
        except OSError as error:
            errors.add(error.errno or 0)
    return errors, found


def _changes(channel: Connection, directory: str) -> set[int]:
    """Replace, move, link and remove files at random until told to end. Return the errors."""
    errors, chance = set[int](), random.Random(os.getpid())
    while not channel.poll():
        one, other = (f"{directory}/f{chance.randrange(FILES)}" for _ in range(2))
        calls = (
            lambda one=one: Path(one).write_bytes(b"open"),
            lambda one=one, other=other: os.rename(one, other),
            lambda one=one: os.unlink(one),
            lambda one=one, other=other: os.link(one, other),
            lambda one=one: os.chmod(one, 0o666),
            lambda one=one: os.utime(one),
            lambda one=one: os.listxattr(one),
        )
        try:
            chance.choice(calls)()
        except OSError as error:
            errors.add(error.errno or 0)
    return errors


def _filled(directory: Path, words: bytes) -> None:
    for number in range(FILES):
        (directory / f"f{number}").unlink(missing_ok=True)
        (directory / f"f{number}").write_bytes(words)
        (directory / f"f{number}").chmod(0o666)


def test_files_change_while_several_readers_look_for_them(without, store: Path) -> None:
    """A directory goes out of sight, where its names lead to other files, and comes back."""
    _filled(store / "d", b"open")
    _filled(store / "e", b"open")
    mount = without("readers-on", SHARED, store)
    readers = [start_as(uid, _reads, str(mount / name)) for uid in (ONE, TWO) for name in "de"]
    changers = [start_as(uid, _changes, str(mount / "e")) for uid in (ONE, TWO)]
    end_s = time.monotonic() + SECONDS
    while time.monotonic() < end_s:
        (store / "d").rename(store / "shut" / "d")
        for uid in (ONE, TWO):
            wait_for(lambda uid=uid: call_as(uid, refusal, lambda: os.listdir(mount / "d")), "it is gone")
        _filled(store / "shut/d", b"hidden")
        time.sleep(0.02)
        _filled(store / "shut/d", b"open")
        (store / "shut/d").rename(store / "d")
        time.sleep(0.05)
    for child in (*readers, *changers):
        child.send("enough")
    for child in readers:
        errors, found = child.result()
        assert errors <= {errno.ENOENT}, [errno.errorcode[code] for code in errors]
        assert found <= {b"open", b""}
    for child in changers:
        assert child.result() <= {errno.ENOENT, errno.EEXIST}
    assert mount.status()["bugs"] == 0
