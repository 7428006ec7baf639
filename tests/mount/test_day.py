"""A day of ordinary programs through mounts, each beside the same in a plain directory.

`make test` has those that start in a second, in an app's own mount; `make soak` all of them, in every place.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.counts import SOAK
from tests.support.machine.processes import call_as
from tests.support.models.trees import differences, inventory
from tests.support.mount.stores import Mounts
from tests.support.programs import day, day_servers
from tests.support.programs.day import Desk

WORKER: Final = pwd.getpwnam("www-data").pw_uid
"""An account that every Debian has."""
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{worker: {{uid: {WORKER}}}, smbd: {{uid: 0}}}}
rules:
  - {{id: work, allow: [all], who: {{app: worker}}, paths: ["/Free/***", "/Checked/***"]}}
  - id: kinds
    require: {{content: ["text/*", "application/*", "image/*", "audio/*", "video/*", "message/*", "font/*"]}}
    paths: "/Checked/**"
"""
PLACES: Final = {
    "app": ("Free", "--app", "worker"),
    "shared": ("Free",),
    "mediated": ("Free", "--app", "worker", "--no-passthrough"),
    "checked": ("Checked", "--app", "worker"),
}
Program = Callable[[Desk], Any]
ALL: Final[Mapping[str, Program]] = {
    "unzip": day.unzip, "nginx": day_servers.nginx, "restic": day.restic, "borg": day.borg,
    "minidlna": day_servers.minidlna, "syncthing": day_servers.syncthing,
}  # fmt: skip
QUICK: Final = ("unzip", "nginx")
"""Those in `make test`."""


def cases() -> list[Any]:
    """Each program in each place; what `make test` leaves out is marked."""
    found = []
    for program in ALL:
        for place in PLACES:
            quick = program in QUICK and place == "app"
            found.append(pytest.param(place, program, marks=() if quick else pytest.mark.soak))
    return found


class Home:
    """A store, a plain directory beside it, and desks in both."""

    def __init__(self, arena: Path, media: Mapping[str, Path]) -> None:
        self.store, self.plain, self._aside = arena / "store", arena / "plain", arena / "aside"
        self._media = media
        self.store.mkdir(mode=0o700)
        for directory in (self.plain, self._aside, self.store / "Free", self.store / "Checked"):
            directory.mkdir()
            os.chown(directory, WORKER, WORKER)

    def desk(self, place: Path) -> Desk:
        aside = self._aside / f"{len(os.listdir(self._aside))}"
        call_as(WORKER, aside.mkdir)
        return Desk(place, aside, WORKER, self._media)


@pytest.fixture
def home(arena: Path, media: dict[str, Path]) -> Home:
    return Home(arena, media)


@pytest.mark.timeout(900 if SOAK else 120)
@pytest.mark.parametrize(("place", "program"), cases())
def test_a_program_finds_and_leaves_the_same(mounts: Mounts, home: Home, place: str, program: str) -> None:
    top, *options = PLACES[place]
    mount = mounts.start(POLICY, home.store, *options)
    found = ALL[program](home.desk(mount / top))
    expected = ALL[program](home.desk(home.plain))
    assert found == expected
    _assert_alike(home.store / top, home.plain)


def _assert_alike(stored: Path, plain: Path) -> None:
    """A program has left the same in the store as in a plain directory, but for what chance names."""
    left, right = (
        {path: entry for path, entry in inventory(where, times=False).items() if _is_fixed(path)}
        for where in (stored, plain)
    )
    assert differences(left, right) == []


def _is_fixed(path: bytes) -> bool:
    """False for what differs from run to run: keys, packs and journals of the programs' own."""
    return not any(own in path for own in (b"repository", b".git", b".stfolder", b".db-journal"))
