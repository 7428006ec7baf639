"""E1: files and directories without end, that the daemon has to know for as long as the kernel does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.counts import daily, first
from tests.support.machine.memory import limited
from tests.support.machine.processes import start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

MANY, HONEST = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  many: {{uid: {MANY}}}
  honest: {{uid: {HONEST}}}
rules:
  - {{id: own, allow: [all], who: {{app: any}}, paths: "/{{app}}/***"}}
"""
BOUND: Final = 100
SLACK: Final = 250
"""Nodes that may come while the kernel is asked for others, and those that are in use."""
LEVELS: Final = 40
CHAINS: Final = 12
CHAINS_PINNED: Final = 70
KINDS: Final = {"shared": (), "app": ("--app", "many")}


@pytest.fixture
def store(empty_store: Path) -> Path:
    for name, uid in (("many", MANY), ("honest", HONEST)):
        (empty_store / name).mkdir()
        os.chown(empty_store / name, uid, uid)
    (empty_store / "many/files").mkdir()
    for number in range(LEVELS * CHAINS):
        (empty_store / f"many/files/{number}").write_bytes(b"%d" % number)
    (empty_store / "many/held/in/use").mkdir(parents=True)
    (empty_store / "many/held/in/use/file").write_bytes(b"held")
    return empty_store


def _chains(channel: Any, root: str) -> None:
    """Directories one in the other, chain after chain, and one directory and one file in use all the time."""
    os.chdir(f"{root}/many/held/in/use")
    here = os.stat(".").st_ino
    fd = os.open("file", os.O_RDONLY)
    for chain in range(CHAINS):
        path = f"{root}/many/{chain}"
        os.mkdir(path)
        for _ in range(LEVELS):
            path += "/d"
            os.mkdir(path)
    channel.send("made")
    channel.recv()
    assert os.stat(".").st_ino == here
    assert os.getcwd() == f"{root}/many/held/in/use"
    assert os.pread(fd, 9, 0) == b"held"
    os.mkdir("more")
    assert sorted(os.listdir()) == ["file", "more"]
    # What the kernel has forgotten is found again.
    for chain in range(CHAINS):
        assert os.path.isdir(f"{root}/many/{chain}" + "/d" * LEVELS)
    channel.send("seen again")


def _files(channel: Any, root: str) -> None:
    """Files that are there are read, all of them twice."""
    for _ in range(2):
        for number in range(LEVELS * CHAINS):
            with open(f"{root}/many/files/{number}", "rb") as file:
                assert file.read() == b"%d" % number
    channel.send("made")
    channel.recv()
    channel.send("seen again")


ATTEMPTS: Final[dict[str, Callable[[Any, str], None]]] = {"directories": _chains, "files": _files}


def _start(mounts: Mounts, store: Path, options: tuple[str, ...], guard: str = "") -> Mount:
    mount = mounts.prepare(POLICY, store, "--nodes-max", str(BOUND), *options)
    mount.expected_mediated = True  # directories alone pass nothing through
    if guard:
        mount.program = ("tests.attack.weakened", guard)
    return mount.start()


@pytest.mark.parametrize("attempt", daily(ATTEMPTS, "files"))
@pytest.mark.parametrize("kind", first(1, zip(KINDS)))
def test_the_oldest_that_nobody_uses_are_asked_back(
    mounts: Mounts, store: Path, kind: str, attempt: str
) -> None:
    """Attack E1.2: Make or look up files and directories without end; the daemon must know each as long as
    the kernel knows it
    Guard: policyfs/fs/kernel_cache/pruning.py::Pruning.prune (from Linux 6.18 on)
    Also: ::test_the_memory_that_an_app_may_have_bounds_what_is_known_of_it,
    tests/unit/test_fs_kernel_cache_pruning.py
    Without: ::test_all_stay_known_where_the_kernel_is_asked_for_none
    """
    mount = _start(mounts, store, KINDS[kind])
    child = start_as(MANY, ATTEMPTS[attempt], str(mount.mountpoint))
    assert child.receive(60) == "made"
    wait_for(lambda: mount.status()["nodes"] <= BOUND + SLACK, "the oldest to go")
    child.send("go on")
    assert child.receive(60) == "seen again"
    child.result()
    wait_for(lambda: mount.status()["nodes"] <= BOUND + SLACK, "the oldest to go again")
    assert mount.status()["bugs"] == 0


@pytest.mark.parametrize("attempt", first(1, zip(ATTEMPTS)))
def test_all_stay_known_where_the_kernel_is_asked_for_none(mounts: Mounts, store: Path, attempt: str) -> None:
    mount = _start(mounts, store, (), "never-asked-back")
    child = start_as(MANY, ATTEMPTS[attempt], str(mount.mountpoint))
    assert child.receive(60) == "made"
    assert mount.status()["nodes"] > LEVELS * CHAINS
    child.send("go on")
    assert child.receive(60) == "seen again"
    child.result()


def _chains_with_names_that_are_missing(channel: Any, root: str, attempt: int) -> None:
    """At the end of each chain names are missing: the kernel keeps them, and with them the whole chain."""
    for chain in range(CHAINS_PINNED):
        channel.recv()
        os.chdir(f"{root}/many")
        for name in (f"{attempt}-{chain}", *["d" * 60] * LEVELS):
            os.mkdir(name)
            os.chdir(name)
        for missing in range(8):
            assert not os.path.exists(str(missing))
        channel.send(chain)


@pytest.mark.night
def test_the_memory_that_an_app_may_have_bounds_what_is_known_of_it(mounts: Mounts, store: Path) -> None:
    """What the kernel knows counts as the app's memory: where that is bounded, so is all that is known."""
    mount = _start(mounts, store, ())
    attempts = (_most_known(mount, attempt) for attempt in range(5))
    most = next(filter(None, attempts), 0)
    assert BOUND < most < CHAINS_PINNED * LEVELS * 7 // 8


def _most_known(mount: Mount, attempt: int) -> int:
    """The most nodes that were known. 0 if the kernel has ended the app: beside others it does so at times,
    rather than wait until the daemon was told what is forgotten. That is a bound, too."""
    most = 0
    with limited(3 << 20) as limit:
        child = start_as(MANY, _chains_with_names_that_are_missing, str(mount.mountpoint), attempt)
        limit.admit(child.pid)
        for chain in range(CHAINS_PINNED):
            child.send("one more")
            try:
                assert child.receive(30) == chain
            except AssertionError:
                if limit.kills():
                    return 0
                raise
            if chain % 5 == 0:
                most = max(most, mount.status()["nodes"])
        child.result()
        assert limit.kills() == 0
    return most
