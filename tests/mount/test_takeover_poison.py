"""A request that kills each daemon which begins it: it gets EIO, and the mount goes on."""

from __future__ import annotations

import os
from pathlib import Path

from tests.mount.test_takeover import APP, POLICY, SONGS, filled, records  # noqa: F401 - a fixture
from tests.support.machine.processes import call_as, code_of, wait_for


def test_it_gets_eio_after_two_daemons(mounts, filled: Path) -> None:  # noqa: F811
    mount = mounts.prepare(POLICY, filled, "--app", "viewer", "--read-only")
    mount.program = ("tests.support.mount.poisoned",)
    mount.start()
    at = mount.mountpoint / "Music"
    for again in (1, 2):  # no daemon was in its first second, or the one that follows the poison still is
        assert call_as(APP, lambda: code_of(os.stat, at / "poison")) == "EIO"
        assert call_as(APP, lambda: len(os.listdir(at))) == SONGS + 2
        assert mount.status()["takeover"]["count"] == 2 * again
    wait_for(lambda: len(records(mount, "mount")) == 5, "the records", 10)
    assert [one.get("eio") for one in records(mount, "mount")] == [None, None, 1, None, 1]
    assert "killed gets EIO" in mount.log.read_text()
    assert mount.status()["bugs"] == 0
