"""A store in a shared mount, where apps see it in several views, and in an app's own mount."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs.lockers import Locker, lockers

UIDS: Final = {"raw": 10031, "checked": 10032, "redacted": 10033, "own": 10034, "store": 0, "native": 10031}
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: locks}}
apps:
  raw: {{uid: {UIDS["raw"]}, grants: [media.location]}}
  checked: {{uid: {UIDS["checked"]}, grants: [media.location]}}
  redacted: {{uid: {UIDS["redacted"]}}}
  own: {{uid: {UIDS["own"]}, grants: [media.location]}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - id: kinds
    require: {{content: ["image/*"]}}
    who: {{app: checked}}
    paths: ["/**/*.jpg"]
  - id: places
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    paths: ["/**/*.jpg"]
"""
SIDES: Final = ("raw", "checked", "redacted", "own", "store")


def how(side: str) -> int:
    """The flags that a side opens a photo with."""
    return os.O_RDONLY if side == "redacted" else os.O_RDWR


class Place:
    """One store in a shared mount and in an app mount, and a native directory beside it."""

    def __init__(self, arena: Path, mounts: Mounts, photo: Path) -> None:
        self.store = arena / "store"
        self.store.mkdir(mode=0o700)
        self.native = arena / "native"
        self.native.mkdir()
        self.photo = photo.read_bytes()
        self.shared = mounts.start(POLICY, self.store)
        self.own = mounts.start(POLICY, self.store, "--app", "own", "--any-uid")
        self._number = 0

    def file(self) -> str:
        """A new photo of everybody's; its name."""
        self._number += 1
        name = f"{self._number}.jpg"
        for directory in (self.store, self.native):
            (directory / name).write_bytes(self.photo)
            (directory / name).chmod(0o666)
        return name

    def path(self, side: str, name: str) -> Path:
        """Of a file, as a side sees it."""
        tops = {"own": self.own.mountpoint, "store": self.store, "native": self.native}
        return tops.get(side, self.shared.mountpoint) / name

    @property
    def waiting(self) -> int:
        """Requests that wait for a lock, in both mounts."""
        return sum(mount.status()["locks"]["waiting"] for mount in (self.shared, self.own))

    @contextlib.contextmanager
    def lockers(self) -> Iterator[Callable[..., Locker]]:
        """Makes processes: `make(side, name, flags)` has the file open. Afterwards no lock is left."""
        with lockers() as make:

            def start(side: str, name: str, flags: int | None = None) -> Locker:
                return make(UIDS[side], self.path(side, name), how(side) if flags is None else flags)

            yield start
        for mount in (self.shared, self.own):
            wait_for(lambda mount=mount: idle(mount), "no lock is left")


def idle(mount: Mount) -> bool:
    locks = mount.status()["locks"]
    return locks["held"] == locks["descriptors"] == locks["waiting"] == 0
