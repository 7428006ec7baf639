"""Upgrades of a mount in use: the daemon is followed by one that a command starts, and no call fails."""

from __future__ import annotations

from pathlib import Path

from tests.mount.test_takeover import APP, POLICY, SONGS, client, filled, records  # noqa: F401
from tests.support.machine.counts import count
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import Mount

PAUSE_S = 30.0


def follow(mount: Mount, *options: str, deadline_s: float = PAUSE_S) -> None:
    """Start a daemon that follows the mount's. The mount is then that of the new process."""
    before, old = mount.status(), mount.process
    assert old is not None
    given = mount.options
    mount.options = (*given, *options, "--follow")
    new = mount.launch()

    def served() -> bool:
        assert new.poll() is None, mount.log.read_text()
        try:
            return bool(mount.status()["takeover"]["upgrades"] > before["takeover"]["upgrades"])
        except AssertionError:
            return False

    wait_for(served, "the next daemon", deadline_s)
    assert old.wait(deadline_s) == 0
    mount.options = given


def test_no_call_fails_in_upgrades(mounts, filled: Path) -> None:  # noqa: F811
    mount = mounts.prepare(POLICY, filled, "--app", "viewer", "--read-only").start()
    upgrades, pauses = count(5, 100), []
    with client(mount) as found:
        for _ in range(upgrades):
            follow(mount)
            pauses.append(mount.status()["takeover"]["pause_ms"])
    print(f"pauses {sorted(pauses)} ms")
    failed, calls, _, names, distinct = found
    assert failed == []
    assert isinstance(calls, int) and calls > 0
    assert (names, distinct) == (SONGS + 2, SONGS + 2)
    takeover = mount.status()["takeover"]
    assert (takeover["count"], takeover["upgrades"], takeover["reason"]) == (upgrades, upgrades, "upgrade")
    wait_for(lambda: mount.status()["handles"]["open"] == 0, "all handles are released")
