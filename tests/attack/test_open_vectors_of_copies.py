"""B4: redacted copies that the bridge opens by itself: of the present version, and never one in doubt."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.parsers_lying import SECRET
from tests.attack.test_workers_lying import ONE, furnish
from tests.attack.test_workers_lying import POLICY as LYING
from tests.mount.test_open_vectors_of_copies import (
    GALLERY,
    NEW,
    OLD,
    POLICY,
    answered,
    is_redacted,
    read,
    rewrite,
    store,
)
from tests.support.machine.processes import call_as, wait_for
from tests.support.mount.daemons import Mount

__all__ = ["store"]

Start = Callable[..., Mount]

REPEATED = LYING.replace("rules:", "defaults: {audit_denied: best_effort}\nrules:", 1)


def shown_after_a_change(mount: Mount) -> bytes:
    """What an app reads of a photo that the bridge opens for it, right after the store's file was changed."""
    assert is_redacted(answered(mount), OLD)
    rewrite(mount.store / "a.jpg", NEW)
    return call_as(GALLERY, read, str(mount / "a.jpg"), 5)


@pytest.mark.parametrize(
    ("guards", "outdated"),
    [("changes-not-told", False), ("changes-not-told,copies-of-any-version", True)],
    ids=["by its version", "by any version"],
)
def test_a_copy_of_an_older_version_is_opened_no_more(
    guards: str, outdated: bool, without: Start, store: Path
) -> None:
    """Also before the watch has told of the change, while the kernel keeps the file's name."""
    shown = shown_after_a_change(without(guards, POLICY, store, "--avc", "--app", "gallery"))
    assert is_redacted(shown, OLD if outdated else NEW)


@pytest.mark.parametrize(
    ("guards", "lasts"),
    [("lying-parser,readers-on", False), ("lying-parser,copies-in-doubt", True)],
    ids=["confirmed", "in doubt"],
)
def test_a_copy_that_a_second_worker_denies_is_opened_no_more(
    guards: str, lasts: bool, without: Start, store_on: Callable[[str], Path]
) -> None:
    store = store_on("ext4")
    furnish(store)
    mount = without(guards, REPEATED, store, "--avc")
    path = str(mount / "shared.jpg")
    call_as(ONE, (mount / "one/secret.jpg").read_bytes)
    assert SECRET in call_as(ONE, _read_whole, path, 20)
    wait_for(lambda: mount.status()["second_looks"]["differed"], "a second worker has answered", 30)
    assert (SECRET in call_as(ONE, _read_whole, path, 2)) is lasts
    mount.expected_log.append("lied")


def _read_whole(path: str, times: int) -> bytes:
    """What the first of several opens showed."""
    shown = []
    for _ in range(times):
        fd = os.open(path, os.O_RDONLY)
        shown.append(os.read(fd, 1 << 20))
        os.close(fd)
    return shown[0]
