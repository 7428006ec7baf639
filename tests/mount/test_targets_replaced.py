"""Programs that replace the target of a rename while the daemon decides on it. The rename succeeds anyway.

A native rename never answers ESTALE. The kernel tries a rename once more after ESTALE, and no third time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_writing import Stops
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.stores import WEAKENED, Mounts

CAMERA, GALLERY = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}, gid: {CAMERA}}}
  gallery: {{uid: {GALLERY}, gid: {GALLERY}}}
rules:
  - {{id: look, allow: [see, read, write, create], who: {{app: any}}, paths: "/**"}}
  - {{id: typed, allow: [delete], who: {{app: any}}, paths: "/**", when: {{type: "text/*"}}}}
"""
PHOTO: Final = b"\x89PNG\r\n\x1a\n"
TIMES: Final = 4


class Renaming:
    """The camera renames a file over another. Its daemon stops after each decision, before it looks again."""

    def __init__(self, mounts: Mounts, store: Path, options: tuple[str, ...], rename: str) -> None:
        self.store = store
        for name in ("mine", "same", *map(str, range(TIMES)), "photo"):
            (store / name).write_bytes(PHOTO if name == "photo" else f"words {name}\n".encode())
        for path in (store, *store.iterdir()):
            path.chmod(0o777)
        self.mount = mounts.prepare(POLICY, store, *options)
        self.mount.program = (WEAKENED, "stops-when-decided")
        self.stops = Stops(self.mount.environment, store.parent)
        self.mount.start()
        self.app = start_as(CAMERA, _rename, self.mount.mountpoint, rename)

    def at_next_stop(self, source: str, target: str) -> None:
        """When the daemon has decided, and is about to rename, rename another file over one of the two."""
        wait_for(self.stops.stopped, "the daemon about to rename")
        os.rename(self.store / source, self.store / target)
        self.stops.go_on(1)

    def go_on(self) -> str:
        self.stops.go_on()
        ended = str(self.app.result())
        assert self.mount.status()["bugs"] == 0
        return ended


def _rename(channel: object, where: Path, name: str) -> str:
    del channel
    return code_of(os.rename, where / name, where / "same")


@pytest.mark.parametrize("options", [(), ("--app", "camera")], ids=["shared", "app"])
def test_a_rename_over_a_file_that_others_replace_succeeds(
    mounts: Mounts, empty_store: Path, options: tuple[str, ...]
) -> None:
    renaming = Renaming(mounts, empty_store, options, "mine")
    for number in range(TIMES):
        renaming.at_next_stop(str(number), "same")
    assert renaming.go_on() == ""
    assert sorted(os.listdir(empty_store)) == ["photo", "same"]
    assert (empty_store / "same").read_text() == "words mine\n"
    assert call_as(CAMERA, (renaming.mount / "same").read_text) == "words mine\n"


def test_each_file_that_takes_the_name_is_decided_on(mounts: Mounts, empty_store: Path) -> None:
    """The camera may replace texts only, and a photo is there when the daemon looks again."""
    renaming = Renaming(mounts, empty_store, (), "mine")
    renaming.at_next_stop("0", "same")
    renaming.at_next_stop("photo", "same")
    assert renaming.go_on() == "EACCES"
    assert (empty_store / "same").read_bytes() == PHOTO
    assert (empty_store / "mine").read_text() == "words mine\n"


def test_a_file_that_takes_the_name_of_the_moved_one_is_decided_on(mounts: Mounts, empty_store: Path) -> None:
    renaming = Renaming(mounts, empty_store, (), "mine")
    renaming.at_next_stop("photo", "mine")
    assert renaming.go_on() == "EACCES"
    assert (empty_store / "mine").read_bytes() == PHOTO
    assert (empty_store / "same").read_text() == "words same\n"
