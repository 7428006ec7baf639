"""A directory that is immutable: not even root makes or removes a name in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.linux.immutable import set_immutable


def test_nobody_makes_a_name_in_it(tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "below").mkdir(parents=True)
    assert set_immutable(str(place), immutable=True)
    try:
        for attempt in ((place / "new").mkdir, (place / "below").rmdir):
            with pytest.raises(PermissionError):
                attempt()
        (place / "below/new").mkdir()
    finally:
        assert set_immutable(str(place), immutable=False)
    (place / "new").mkdir()
    (tmp_path / "link").symlink_to(place)
    assert not set_immutable(str(tmp_path / "link"), immutable=True)
    assert not set_immutable(str(tmp_path / "none"), immutable=True)
    assert os.listdir(place)
