"""`policyfs accept`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.mount import layers
from tests.support.mount.daemons import policyfs


@pytest.mark.mount
def test_what_is_accepted_is_told(tmp_path: Path) -> None:
    (tmp_path / "photo").touch()
    told = policyfs("accept", tmp_path).stdout
    assert told == f"{tmp_path}: no readable record of an earlier mount: accepted\n"
    assert policyfs("accept", tmp_path).stdout == f"{tmp_path}: no difference: accepted\n"
    (tmp_path / "usb").mkdir()
    layers.mount("-t", "tmpfs", "usb", tmp_path / "usb")
    policyfs("accept", tmp_path)
    layers.unmount(tmp_path / "usb")
    told = policyfs("accept", tmp_path).stdout
    assert told == f"{tmp_path}: nothing is mounted on {tmp_path}/usb: accepted\n"
    assert policyfs("accept", tmp_path / "none").returncode == 1
