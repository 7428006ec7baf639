"""B4, B1: repeats that the bridge answers by itself open no way past a decision."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from policyfs.policy.exceptions import instant_text
from tests.attack.test_caches import APART, COLD, HEAD, WARM, beside, furnished, reloaded
from tests.mount.test_reload import change
from tests.support.machine.processes import DEADLINE_S, call_as, start_as, wait_for
from tests.support.models.twins import content, error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

__all__ = ["furnished"]

THIRD = 10012
_APPS = f"  cold: {{uid: {COLD}}}\n"
# One app sees nothing of what the others see alike, so that the kernel keeps none of it.
_VARIED = '  - {id: varied, deny: [all], who: {app: third}, paths: "/common/***", errno: ENOENT}\n'


def varied(policy: str) -> str:
    """A policy with a third app."""
    assert _APPS in policy
    return policy.replace(_APPS, f"{_APPS}  third: {{uid: {THIRD}}}\n") + _VARIED


VARIED = varied(APART)
CLOSED = VARIED + '  - {id: closed, deny: [all], paths: "/common/***", errno: ENOENT}\n'
_HIDE = '  - {id: hidden, deny: [all], who: {app: warm}, paths: "/warm/***", errno: ENOENT}\n'
HIDDEN = varied(HEAD) + _HIDE


@pytest.fixture
def reading(mounts: Mounts):
    """Starts a mount whose readers read from the first request on."""

    def start(policy: str, store: Path) -> Mount:
        mount = mounts.prepare(policy, store, "--avc")
        mount.program = ("tests.support.mount.readers_on",)
        return mount.start()

    return start


def answered(mount: Mount) -> int:
    """The number of requests that the bridge has answered."""
    said = mount.status()["vectors"]
    return said["lookups"] + said["getattrs"]


def test_what_was_decided_for_one_app_answers_no_other(reading, furnished: Path) -> None:
    """Attack B4.12: Have the bridge answer by a decision for another app, or by a decision from before a
    reload or a rename
    Guard: policyfs/fs/kernel_cache/repeats.py::Repeats._hangs_on_name_and_uid,
    policyfs/fs/inodes/vectors.py::AccessVectors.drop
    Also: ::test_a_reload_drops_all_vectors, ::test_a_file_that_was_moved_out_of_sight_is_decided_anew,
    tests/mount/test_vectors.py::test_answers_attributes_and_trails_are_the_same_with_and_without,
    tests/attack/test_open_vectors.py::test_a_reload_closes_files_to_repeats_too,
    tests/attack/test_open_vectors_of_directories.py::test_a_reload_closes_directories_to_repeats_too,
    tests/mount/test_open_vectors.py::test_calls_on_open_files_come_to_the_same_with_and_without
    Without: ::test_it_does_where_it_is_kept_without_the_uid,
    ::test_both_get_through_where_vectors_are_kept,
    tests/attack/test_open_vectors.py::test_repeats_get_through_where_a_reload_drops_nothing,
    tests/attack/test_open_vectors_of_directories.py::test_repeats_get_through_where_a_reload_drops_nothing
    """
    mount = reading(VARIED, furnished)
    told, odd = beside(mount, str(mount / "warm"))
    asked = [said for answers in told for name, said in answers.items() if name != "open as a path"]
    assert set(asked) == {"ENOENT"}
    assert odd == []
    assert answered(mount) > 100


def test_it_does_where_it_is_kept_without_the_uid(without, furnished: Path) -> None:
    mount = without("vectors-of-anyone", VARIED, furnished, "--avc")
    told, _ = beside(mount, str(mount / "warm"))
    assert any(answers["stat"] == "4" for answers in told)


def reloaded_while_answered(mount: Mount) -> dict[str, str]:
    """What an app whose repeats the bridge has answered is told right after a policy closes it."""

    def warm() -> None:
        assert answered(mount) > 0

    return reloaded(mount, CLOSED, warm)


def test_a_reload_drops_all_vectors(reading, furnished: Path) -> None:
    assert set(reloaded_while_answered(reading(VARIED, furnished)).values()) == {"ENOENT"}


def size(fd: int) -> int:
    """The size of a file that is held by path."""
    return os.stat(fd).st_size


def moved(mount: Mount) -> str:
    """What an app is told of a file that it holds by path, after the file was moved out of its sight. Its old
    name leads to the file again, by a link that was made in the store."""

    def ask(channel) -> str:
        fd = os.open(mount / "common/file", os.O_PATH)
        for _ in range(5):
            assert error(size, fd) == "4"
        channel.send("warm")
        channel.recv()
        return error(size, fd)

    child = start_as(WARM, ask)
    child.receive()
    call_as(COLD, os.rename, mount / "common/file", mount / "warm/moved")
    os.link(mount.store / "warm/moved", mount.store / "common/file")
    child.send("look")
    return child.result()


def test_a_file_that_was_moved_out_of_sight_is_decided_anew(reading, furnished: Path) -> None:
    mount = reading(HIDDEN, furnished)
    assert moved(mount) == "ENOENT"
    assert answered(mount) > 0


def test_both_get_through_where_vectors_are_kept(without, furnished: Path) -> None:
    """(At a reload the kernel also has to look every name up, and forgets the nodes: that is left out.)"""
    told = reloaded_while_answered(
        without("reload-drops-nothing,vectors-kept-at-reload", VARIED, furnished, "--avc")
    )
    assert told["stat"] == "4"
    told = reloaded_while_answered(without("reload-drops-nothing,readers-on", VARIED, furnished, "--avc"))
    assert told["stat"] == "ENOENT"
    assert moved(without("vectors-kept-at-rename", HIDDEN, furnished, "--avc")) == "4"


def looking(channel: Any, *paths: Path) -> None:
    """Look at paths again and again, so that the bridge answers; then what the next look tells of each."""
    fds = [os.open(path, os.O_PATH) for path in paths]
    for _ in range(5):
        for path, fd in zip(paths, fds, strict=True):
            os.stat(path), os.stat(fd), os.access(path, os.R_OK)
    channel.send("warm")
    while channel.recv() != "end":
        channel.send([error(_marks, place) for pair in zip(paths, fds, strict=True) for place in pair])
    for fd in fds:
        os.close(fd)


def _marks(place: Path | int) -> tuple[int, int, int]:
    status = os.stat(place)
    return status.st_mode & 0o7777, status.st_size, status.st_nlink


def test_a_change_in_the_store_is_in_the_very_next_answer(reading, furnished: Path) -> None:
    mount, file = reading(VARIED, furnished), furnished / "common/file"
    child = start_as(WARM, looking, mount / "common/file")
    child.receive()
    before = answered(mount)
    assert before > 10

    def told() -> list[str]:
        child.send("look")
        answers: list[str] = child.receive()
        return answers

    assert told() == [str((0o777, 4, 1))] * 2
    file.chmod(0o600)
    assert told() == [str((0o600, 4, 1))] * 2
    file.write_bytes(b"longer")
    assert told() == [str((0o600, 6, 1))] * 2
    (furnished / "common/other").write_bytes(b"another file")
    (furnished / "common/other").chmod(0o640)
    (furnished / "common/other").rename(file)
    assert told()[0] == str((0o640, 12, 1))
    file.unlink()
    assert told()[0] == "ENOENT"
    child.send("end")
    child.result()


def test_a_directory_that_is_moved_in_the_store_is_decided_by_its_new_path(reading, furnished: Path) -> None:
    mount = reading(HIDDEN, furnished)
    child = start_as(WARM, looking, mount / "common/inner", mount / "common/file")
    child.receive()
    assert answered(mount) > 10
    (furnished / "common").rename(furnished / "warm/common")

    def is_hidden() -> bool:
        child.send("look")
        return set(child.receive()) <= {"ENOENT", "ESTALE"}

    wait_for(is_hidden, "nothing of it is shown")
    child.send("end")
    child.result()


EXCEPTION = """apiVersion: policyfs/v1
kind: Policy
apps:
  warm: {{uid: {warm}}}
rules: []
defaults: {{audit: "off"}}
exceptions:
  - id: party
    allow: [see, read]
    until: {until}
    reason: slides for the party
    approved-by: Ann
    who: {{app: warm}}
    paths: "/common/***"
"""


def _asks_until_it_ends(channel: Any, path: str) -> tuple[int, int, list[str]]:
    """Ask for a file until it is hidden. Return when the last look began that found it, when it was hidden,
    and what is told of it then."""
    fd, last_ns = os.open(path, os.O_PATH), 0
    channel.send("there")
    while error(os.stat, path) != "ENOENT":
        error(os.stat, fd), os.access(path, os.R_OK), error(content, path)
        last_ns = time.time_ns()
    number = f"/proc/self/fd/{fd}"
    return last_ns, time.time_ns(), [error(os.stat, fd), error(content, path), error(content, number)]


def test_an_exception_that_ends_ends_for_repeats_too(reading, furnished: Path) -> None:
    def policy(until_ns: int) -> str:
        return EXCEPTION.format(warm=WARM, until=instant_text(until_ns))

    mount = reading(policy(time.time_ns() + 3_600_000_000_000), furnished)
    for lasts_s in (1, 3, 60):  # longer, if a slow daemon has answered too little meanwhile
        child = start_as(WARM, _asks_until_it_ends, str(mount / "common/file"))
        assert child.receive() == "there"
        until_ns = time.time_ns() + lasts_s * 1_000_000_000
        change(mount, policy(until_ns))
        before = answered(mount)
        last_ns, ended_ns, told = child.result(lasts_s + DEADLINE_S)
        if answered(mount) > before + 20:
            break
        change(mount, policy(time.time_ns() + 3_600_000_000_000))
    assert answered(mount) > before + 20
    assert told == ["ENOENT"] * 3
    assert until_ns - 1_000_000_000 <= ended_ns
    assert last_ns < until_ns + 5_000_000_000
