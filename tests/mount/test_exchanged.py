"""Two directories change places while a file below one of them has held bytes."""

from __future__ import annotations

import itertools
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from tests.support.machine.counts import SOAK
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.models.model import RENAME_EXCHANGE, rename2
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, open_handles
from tests.support.samples import jpegs

CAMERA: Final = 10010
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}, gid: {CAMERA}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - {{id: share, require: {{no: [location]}}, paths: "/Share/**"}}
  - {{id: typed, require: {{content: [image/jpeg]}}, paths: "/Typed/**"}}
"""
OTHER: Final = jpegs.plain(3, 64)
NEW: Final = jpegs.plain(4, 90)
REFUSED: Final = {"Share": jpegs.photo_with(jpegs.exif()), "Typed": NEW[:2]}


def _write(channel: Connection, path: Path, parts: list[bytes], flags: int) -> str:
    fd = os.open(path, os.O_WRONLY | flags, 0o666)
    for part in parts:
        os.write(fd, part)
        channel.send("held")
        channel.recv()
    return code_of(os.close, fd)


WHO: Final = ("app", "other mount", "store")
CASES: Final = sorted(
    itertools.product(WHO, (os.O_CREAT, os.O_TRUNC), (True, False), REFUSED),
    key=lambda case: (case[3] == "Typed") + (case[0] == "other mount"),
)
"""The first ones have each way and each outcome."""


def test_held_bytes_go_to_the_file_that_they_were_written_to(mounts: Mounts, empty_store: Path) -> None:
    """Each directory has a file of the same name, and no other one may get, or lose, the bytes."""
    here, there = mounts.start(POLICY, empty_store), mounts.start(POLICY, empty_store)
    for number, case in enumerate(CASES if SOAK else CASES[:14]):
        print(case)  # shown if it fails
        _held_bytes_arrive(here, there, number, *case)


def _held_bytes_arrive(
    here: Mount, there: Mount, number: int, by: str, flags: int, allowed: bool, rule: str
) -> None:
    place = f"{rule}/{number}"
    above = here.store / place
    for directory in (above / "one", above / "two"):
        directory.mkdir(parents=True)
        directory.chmod(0o777)
    above.chmod(0o777)
    for directory in ("one", "two") if flags == os.O_TRUNC else ("two",):
        (above / directory / "a.jpg").write_bytes(b"" if directory == "one" else OTHER)
        (above / directory / "a.jpg").chmod(0o666)
    tops = {"app": here.mountpoint, "other mount": there.mountpoint, "store": here.store}
    data = NEW if allowed else REFUSED[rule]
    app = start_as(CAMERA, _write, here / place / "one/a.jpg", [data[:1], data[1:]], flags)
    assert app.receive() == "held"
    one, two = (os.fsencode(tops[by] / place / name) for name in ("one", "two"))
    call_as(0 if by == "store" else CAMERA, rename2, one, two, RENAME_EXCHANGE)
    app.send("go on")
    assert app.receive() == "held"
    assert (above / "one/a.jpg").read_bytes() == OTHER
    app.send("close")
    assert app.result() == ("" if allowed else "EPERM")
    wait_for(lambda: open_handles(here.status()) == 0, "the release")
    assert (above / "one/a.jpg").read_bytes() == OTHER
    written = above / "two/a.jpg"
    assert written.exists() == (allowed or flags != os.O_CREAT)
    if written.exists():
        assert written.read_bytes() == (NEW if allowed else b"")
    for mount in (here, there):
        assert mount.status()["bugs"] == 0
