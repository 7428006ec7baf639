"""A file is moved, replaced or exchanged while another program has only emptied it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.mount.test_emptied_drafts import CAMERA, NEW, OLD, PLACED, POLICY
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.stores import Mounts, open_handles

OTHER: Final = 10012
"""Another app that may do everything."""
APPS: Final = POLICY.replace("apps:\n", f"apps:\n  other: {{uid: {OTHER}}}\n").replace(
    "rules:\n", 'rules:\n  - {id: other, allow: [all], who: {app: other}, paths: "/**"}\n'
)
THERE: Final = b"the other file's bytes"
RENAME_EXCHANGE: Final = 2


def _overwrite(channel, path: Path, data: bytes) -> list[str]:
    """Empty a file, and write it when told: what write and close answered."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    channel.send("empty")
    channel.recv()
    return [code_of(os.write, fd, data), code_of(os.close, fd)]


def _exchange(old: Path, new: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


def _move(directory: Path) -> None:
    os.rename(directory / "a.jpg", directory / "b.jpg")


def _replace(directory: Path) -> None:
    os.rename(directory / "b.jpg", directory / "a.jpg")


def _exchange_both(directory: Path) -> None:
    _exchange(directory / "a.jpg", directory / "b.jpg")


@pytest.mark.parametrize("data", [PLACED, NEW], ids=["refused", "stored"])
@pytest.mark.parametrize("change", [_move, _replace, _exchange_both])
def test_a_file_that_was_only_emptied_has_its_old_bytes_under_its_new_name(
    mounts: Mounts, empty_store: Path, change: Callable[[Path], None], data: bytes
) -> None:
    """All bytes that the program writes then may be refused. A second name shows the file in each case."""
    empty_store.chmod(0o755)
    share = empty_store / "Share"
    share.mkdir()
    (share / "a.jpg").write_bytes(OLD)
    (share / "b.jpg").write_bytes(THERE)
    os.link(share / "a.jpg", share / "second")
    for path in (share, *share.iterdir()):
        os.chown(path, CAMERA, CAMERA)
        path.chmod(0o777)
    mount = mounts.start(APPS, empty_store)
    writer = start_as(CAMERA, _overwrite, mount / "Share/a.jpg", data)
    assert writer.receive() == "empty"
    call_as(OTHER, change, mount / "Share")
    assert (share / "second").read_bytes() == OLD
    names = {path.name for path in share.iterdir() if path.samefile(share / "second")} - {"second"}
    assert names == ({"b.jpg"} if change is not _replace else set())
    writer.send("go on")
    assert writer.result() == ["", "EPERM" if data == PLACED else ""]
    wait_for(lambda: open_handles(mount.status()) == 0, "the last release")
    assert (share / "second").read_bytes() == (OLD if data == PLACED else NEW)
    if change is _exchange_both:
        assert (share / "a.jpg").read_bytes() == THERE
