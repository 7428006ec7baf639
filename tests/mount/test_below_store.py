"""A file system mounted below a store can be unmounted a moment after the last request in it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, code_of, wait_for
from tests.support.mount import layers
from tests.support.mount.stores import Mounts

APP = 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{gallery: {{uid: {APP}}}}}
rules:
  - {{id: all, allow: [all], who: {{app: gallery}}, paths: "/**"}}
"""
IDLE_S = 2.0


def used(at: Path) -> None:
    """Use all below a directory as programs do, some of it again and again."""
    for _ in range(3):
        for directory, _, names in os.walk(at):
            for name in names:
                (Path(directory) / name).read_bytes()
            assert not (Path(directory) / "none").exists()
    with (at / "d/e/1").open("ab") as file:
        file.write(b"more")
    (at / "d/new").write_bytes(b"new")
    (at / "d/new").rename(at / "d/e/moved")
    (at / "d/sub").mkdir()


def unmounted(at: Path) -> bool:
    return subprocess.run(["umount", at], capture_output=True, timeout=20, check=False).returncode == 0


@pytest.mark.parametrize("options", [(), ("--app", "gallery")], ids=["shared", "app"])
def test_a_disk_below_is_free_soon_after_its_last_use(
    mounts: Mounts, empty_store: Path, options: tuple[str, ...]
) -> None:
    usb = empty_store / "usb"
    usb.mkdir()
    layers.mount("-t", "tmpfs", "-o", "mode=777", "usb", usb)
    try:
        (usb / "d/e").mkdir(parents=True)
        for number in range(3):
            (usb / f"d/e/{number}").write_bytes(b"bytes")
        mount = mounts.start(POLICY, empty_store, *options)
        call_as(APP, used, mount / "usb")
        began = time.monotonic()
        wait_for(lambda: unmounted(usb), "umount is not busy")
        assert time.monotonic() - began < 2 * IDLE_S
        wait_for(lambda: call_as(APP, code_of, os.listdir, mount / "usb") == "", "what is below is seen")
    except BaseException:
        subprocess.run(["umount", "-l", usb], check=False)
        raise
    layers.mount("-t", "tmpfs", "usb", usb)
    (usb / "other").touch()
    wait_for(lambda: call_as(APP, code_of, os.stat, mount / "usb/other") == "", "the next disk is seen")
    assert mount.stop() == []
    layers.unmount(usb)
