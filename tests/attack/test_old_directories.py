"""B5: a directory that was opened before a reload shows no app what only another app may see."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mount.test_open_vectors import ONE, TWO
from tests.mount.test_open_vectors_of_directories import ALIKE, store
from tests.support.machine.processes import start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

__all__ = ["store"]

Start = Callable[..., Mount]
APART = ALIKE + """\
  - {id: no, deny: [all], who: {app: two}, paths: ["/d/secret*"], errno: ENOENT}
"""


def listed_after_reload(mount: Mount, store: Path) -> tuple[object, object]:
    """What two apps read in a directory that both have open, after one of them has read it: names or errnos.
    The name is made after the reload, so no policy has ever shown it to the second app."""

    def life(channel: Any) -> None:
        os.listdir(mount / "d")
        fd = os.open(mount / "d", os.O_RDONLY | os.O_DIRECTORY)
        channel.send(os.listdir(fd))
        while channel.recv():
            try:
                channel.send(sorted(os.listdir(fd)))
            except OSError as error:
                channel.send(error.errno)
        os.close(fd)

    one, two = start_as(ONE, life), start_as(TWO, life)
    assert sorted(one.receive()) == sorted(two.receive())
    mount.policy.write_text(APART)
    assert mount.reload().returncode == 0
    events = mount.status()["watch"]["events"]
    (store / "d/secret").touch()
    wait_for(lambda: mount.status()["watch"]["events"] > events, "the watch has told")
    told = []
    for child in (one, one, two):
        child.send("list")
        told.append(child.receive())
    for child in (one, two):
        child.send("")
        child.result()
    assert set(map(type, told[:2])) == {type(told[0])}
    return told[1], told[2]


@pytest.mark.parametrize("vectors", ["--avc", "--no-avc"])
def test_no_app_is_shown_what_another_app_reads(mounts: Mounts, store: Path, vectors: str) -> None:
    """Attack B5.4: Keep a directory open during a reload, and then read in it the listing that another app
    has read
    Guard: policyfs/fs/namespace/readdir.py::DirectoryListings._check_kept
    Also:
    tests/unit/test_fs_namespace_readdir.py::test_an_old_directory_is_not_read_where_callers_are_told_apart
    Without: ::test_it_is_shown_the_other_names_where_old_directories_are_read
    """
    mount = mounts.start(ALIKE, store, vectors)
    assert listed_after_reload(mount, store) == (errno.ESTALE, errno.ESTALE)


@pytest.mark.parametrize("vectors", ["--avc", "--no-avc"])
def test_it_is_shown_the_other_names_where_old_directories_are_read(
    without: Start, store: Path, vectors: str
) -> None:
    mine, others = listed_after_reload(without("old-directories-are-read", ALIKE, store, vectors), store)
    assert "secret" in mine
    assert others == mine
