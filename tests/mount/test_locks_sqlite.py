"""SQLite databases with writers in several views, mounts and the store: nothing lost, nothing torn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.counts import count, first
from tests.support.machine.processes import call_as, start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs import databases

ONE, TWO = 10035, 10036
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  one: {{uid: {ONE}, grants: [media.location]}}
  two: {{uid: {TWO}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - id: places
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    paths: ["/**/*.jpg"]
  - id: kind
    require: {{content: [application/vnd.sqlite3, application/x-sqlite3]}}
    who: {{app: two}}
    paths: ["/checked/*.sqlite"]
"""
SECONDS: Final = count(1, 60)


class Base:
    """A store in a shared mount, where two apps have different views, and in an app mount of the second."""

    def __init__(self, arena: Path, mounts: Mounts) -> None:
        self.store = arena / "store"
        for directory in (self.store, self.store / "checked", self.store / "raw"):
            directory.mkdir()
            directory.chmod(0o777)
        self.store.chmod(0o700)
        self.shared = mounts.start(POLICY, self.store)
        self.own = mounts.start(POLICY, self.store, "--app", "two", "--any-uid")


@pytest.fixture(scope="module")
def base(module_arena: Path, module_mounts: Mounts) -> Iterator[Base]:
    made = Base(module_arena, module_mounts)
    before = os.umask(0)  # not before: a daemon refuses a trail directory in which others may write
    try:
        yield made
    finally:
        os.umask(before)


def places(base: Base, where: str) -> list[tuple[int, Path]]:
    """Who writes, and through what: two processes of each side."""
    mount: Mount = base.shared
    sides = {
        "two apps": [(ONE, mount / "raw"), (TWO, mount / "raw")],
        "checked and raw": [(ONE, mount / "checked"), (TWO, mount / "checked")],
        "two mounts": [(ONE, mount / "raw"), (TWO, base.own / "raw")],
        "mount and store": [(ONE, mount / "raw"), (0, base.store / "raw")],
    }
    return sides[where] * 2


@pytest.mark.parametrize(
    ("where", "journal"),
    first(3, [
        ("two apps", "wal"), ("mount and store", "wal"), ("checked and raw", "delete"),
        ("two mounts", "wal"), ("two mounts", "truncate"),
    ]),
)  # fmt: skip
@pytest.mark.timeout(240)
def test_writers_in_several_places(base: Base, where: str, journal: str) -> None:
    """Attack B9.2: Write a database at the same time as its owner, in another view, in another mount or in
    the store
    Guard: policyfs/store/locking/locks.py::LockTable.attempt
    Also: tests/mount/test_workloads.py::test_sqlite_in_wal_mode
    Without: tests/attack/test_locks.py::test_a_database_is_torn_where_locks_do_not_reach
    """
    name = f"{where}-{journal}.sqlite".replace(" ", "-")
    writers = places(base, where)
    uid, directory = writers[0]
    assert call_as(uid, databases.create, directory / name, journal) == journal
    crew = [
        start_as(uid, _write, directory / name, number, SECONDS)
        for number, (uid, directory) in enumerate(writers)
    ]
    try:
        committed = [child.result(SECONDS + 100) for child in crew]
    finally:
        for child in crew:
            child.kill()
    assert min(committed) > 0, committed
    for uid, directory in writers[:2]:
        verdict = call_as(uid, databases.verdict, directory / name)
        assert verdict == ("ok", databases.ACCOUNTS * databases.BALANCE, sum(committed)), verdict


def _write(_channel: object, path: Path, number: int, seconds: float) -> int:
    return databases.transfer_for(path, number, seconds)
