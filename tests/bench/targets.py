"""What is measured side by side: a native directory, the same through bindfs, through policyfs."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.support.machine.namespace import clear_away, mounts_below
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import Mount

UID: Final = 10050
GALLERY: Final = 10051

POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  bench: {{uid: {UID}}}
  gallery: {{uid: {GALLERY}}}
defaults: {{audit: best_effort}}
rules:
  - id: bench.all
    allow: [all]
    who: {{app: bench}}
    paths: ["/**"]
  - id: gallery.photos
    allow: [see, read]
    who: {{app: gallery}}
    paths: ["/photos/**"]
  - id: gallery.no-location
    require: {{redact: [location]}}
    who: {{app: gallery}}
    paths: ["/photos/**"]
    audit: best_effort
"""


@dataclass(frozen=True, slots=True)
class Target:
    """One way to the same files. name: native, bindfs, policyfs (shared) or policyfs-app."""

    name: str
    path: Path
    mount: Mount | None = None


class Bench:
    """A store on one file system and the mounts of it, for as long as the `with` block runs."""

    def __init__(self, directory: Path) -> None:
        """directory: on the file system to measure; plain uids may pass through it."""
        self.directory = directory
        self.store = directory / "store"
        self.work = directory / "work"

    def __enter__(self) -> Self:
        """Make the store. Its mode lets the plain uid in, since native is measured as it too."""
        self.store.mkdir(mode=0o755)
        os.chown(self.store, UID, UID)
        self.work.mkdir(mode=0o700)
        return self

    def __exit__(self, *_: object) -> None:
        clear_away(self.directory)

    def native(self) -> Target:
        """The store itself."""
        return Target("native", self.store)

    @contextlib.contextmanager
    def bindfs(self) -> Iterator[Target]:
        """The store through bindfs, multi-threaded, with its kernel caches at their defaults."""
        where = self.directory / "bindfs"
        where.mkdir()
        subprocess.run(["bindfs", "--multithreaded", str(self.store), str(where)], check=True, timeout=30)
        wait_for(lambda: mounts_below(where), "bindfs is mounted")
        try:
            yield Target("bindfs", where)
        finally:
            subprocess.run(["umount", str(where)], check=False, timeout=30)

    @contextlib.contextmanager
    def policyfs(
        self, app: str | None = None, *more: str, leads: bool = False
    ) -> Iterator[Target]:
        """The store through policyfs: shared, or one app's own mount. more: options. leads: the daemon has a
        session of its own, as a service has."""
        where = self.directory / f"policyfs-{app or 'shared'}"
        where.mkdir(exist_ok=True)
        policy = self.work / "bench.yaml"
        policy.write_text(POLICY, encoding="utf-8")
        options = (*(("--app", app) if app else ()), *more)
        mount = Mount(self.store, where, policy, options=options, work=self.work)
        if leads:
            mount.wrapper = ("setsid",)
        mount.start()
        try:
            yield Target("policyfs-app" if app else "policyfs", where, mount)
        finally:
            for wrong in mount.stop():
                print(f"WRONG: {wrong}")
