"""How many frozen copies a mount keeps: their bytes bound them, not a number."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as
from tests.support.mount.stores import Mounts
from tests.support.samples import pngs

pytestmark = pytest.mark.mount

GALLERY: Final = 10011
FILES: Final = 1_050
PICTURE: Final = pngs.plain()
POLICY: Final = f"""
apiVersion: policyfs/v1
kind: Policy
apps: {{gallery: {{uid: {GALLERY}}}}}
rules:
  - {{id: read, allow: [see, read], who: {{app: gallery}}}}
  - {{id: no-place, require: {{redact: location}}}}
"""


def _read_all(directory: Path) -> int:
    return sum((directory / f"{number}.png").read_bytes() == PICTURE for number in range(FILES))


@pytest.mark.night
def test_more_than_a_thousand_small_files_are_looked_at_once(mounts: Mounts, empty_store: Path) -> None:
    for number in range(FILES):
        (empty_store / f"{number}.png").write_bytes(PICTURE)
    mount = mounts.start(POLICY, empty_store)
    assert call_as(GALLERY, _read_all, mount.mountpoint, deadline_s=100) == FILES
    before = mount.status()
    assert before["copies"]["count"] == FILES
    assert call_as(GALLERY, _read_all, mount.mountpoint) == FILES
    assert mount.status()["copies"]["misses"] == before["copies"]["misses"]
