"""A daemon, a store or its database is killed while two machines change files: apps get errors, and what an
app was told to be done is there once."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.mount.test_two_machines import CAMERA, POLICY, contents
from tests.support.machine.namespace import detach
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.juicefs import JUICEFS, Redis, juicefs, mount_volume, servers_of
from tests.support.mount.stores import Mounts
from tests.support.mount.untrue import untrue

_MORE = 5
"""Changes by each machine before a kill, and after all works again."""
_GONE = {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.EINTR, errno.ENOENT, errno.EBUSY, errno.EACCES}
"""What an app can get meanwhile. ENOENT, EACCES: for a moment nothing is mounted there."""


def changes(channel: Any, place: Path, seed: int) -> tuple[list[str], Counter[int]]:
    """Make files under one name and give them another, until told to end. Return what was made, and the
    errors. (What ends with an error may have been done.)"""
    made, errors, number = list[str](), Counter[int](), 0
    while not channel.poll():
        number += 1
        token = f"{seed}.{number}"
        try:
            (place / f"new-{token}").write_text(token)
            (place / f"new-{token}").rename(place / f"is-{token}")
        except OSError as error:
            errors[error.errno or 0] += 1
            time.sleep(0.02)
        else:
            made.append(token)
    return made, errors


def kill_while_changing(
    stores: list[Path], mounts: list[Mount], kill: Callable[[], object], heal: Callable[[], object]
) -> list[Counter[int]]:
    """Kill and heal while both machines change files. Return the errors of each."""
    places = [mount.mountpoint / "D" for mount in mounts]
    apps = [start_as(CAMERA, changes, place, number) for number, place in enumerate(places)]

    def changed(number: int) -> int:
        return sum(name.startswith(f"is-{number}.") for name in os.listdir(stores[1] / "D"))

    def go_on() -> None:
        for number in range(2):
            least = changed(number) + _MORE
            wait_for(lambda: changed(number) >= least, "changes", 60)  # noqa: B023 - called now

    go_on()
    kill()
    time.sleep(1)
    heal()
    go_on()
    for app in apps:
        app.send("end")
    told = [app.result(120) for app in apps]
    time.sleep(1.1)  # the kernel of each machine has forgotten what the other has changed
    for store in stores:
        found = Counter(contents(store / "D"))
        for made, errors in told:
            assert set(errors) <= _GONE
            assert len(made) > _MORE
            assert {token: found[token] for token in made if found[token] != 1} == {}
    call_as(CAMERA, (places[0] / "later").write_text, "later")
    wait_for(lambda: call_as(CAMERA, (places[1] / "later").exists), "the other machine sees it")
    return [errors for _, errors in told]


def started(mounts: Mounts, stores: list[Path]) -> list[Mount]:
    (stores[0] / "D").mkdir()
    (stores[0] / "D").chmod(0o777)
    return [mounts.start(POLICY, store) for store in stores]


def test_a_killed_daemon_loses_nothing(arena: Path) -> None:
    mounts = Mounts(arena)
    with untrue(arena, "unnamed", machines=2) as stores:
        try:
            one, two = started(mounts, stores)
            errors = kill_while_changing(
                stores, [one, two], lambda: os.kill(one.pid, signal.SIGKILL), one.start_after_kill
            )
        finally:
            wrong = mounts.stop_all()
    assert errors[0]
    assert not errors[1]
    assert wrong == []


KILLED = ("daemon", "server", "store", "redis")


@pytest.mark.parametrize("killed", [pytest.param(name, marks=JUICEFS) for name in KILLED])
def test_what_juicefs_has_taken_is_there(arena: Path, killed: str) -> None:
    redis, mounts = Redis(arena / "redis"), Mounts(arena)
    meta = f"unix://{redis.socket}?db=1"

    def kill_store(servers: slice) -> None:
        for pid in servers_of(stores[0])[servers]:
            os.kill(pid, signal.SIGKILL)

    def heal_store() -> None:
        with one.as_environment():
            said = policyfs("status", "--check", one.mountpoint)
        assert said.returncode != 0
        assert "mount it again, and make this mount anew" in said.stdout + said.stderr
        detach(os.fspath(stores[0]))
        mount_volume(meta, stores[0])
        one.start_after_kill()

    try:
        with juicefs(arena, meta) as stores:
            try:
                one, two = started(mounts, stores)
                if killed == "server":  # the next one does not know what was open
                    one.expected_log.append(r"OSError\(9, ")
                ways = {
                    "daemon": (lambda: os.kill(one.pid, signal.SIGKILL), one.start_after_kill),
                    "server": (partial(kill_store, slice(1, 2)), lambda: None),  # JuiceFS starts another
                    "store": (partial(kill_store, slice(2)), heal_store),
                    "redis": (redis.kill, redis.start),
                }
                errors = kill_while_changing(stores, [one, two], *ways[killed])
            finally:
                wrong = mounts.stop_all()
    finally:
        redis.kill()
    assert wrong == []
    assert killed in {"server", "redis"} or errors[0]
    assert killed == "redis" or not errors[1]
