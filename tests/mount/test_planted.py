"""Places behind bounds of the parsers, read through a mount: the daemon, its workers and the bridge together.

tests/redaction/test_planted.py reads all of these files without a mount.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.redaction.planted import places_in
from tests.redaction.test_planted import PLANTED
from tests.support.machine.processes import call_as
from tests.support.mount.stores import Mounts

VIEWER: Final = 10010
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  viewer: {{uid: {VIEWER}}}
rules:
  - {{id: all, allow: [see, read], who: {{app: any}}, paths: "/**"}}
  - {{id: no-place, require: {{redact: location}}, who: {{app: any}}, paths: "/**"}}
"""
EACH: Final = 16
"""Every so manyth planted file is read."""


def test_places_behind_bounds_are_not_read_through_a_mount(empty_store: Path, mounts: Mounts):
    chosen = list(PLANTED.values())[::EACH]
    for number, one in enumerate(chosen):
        data = one.make()
        assert places_in(data, one.needle)
        (empty_store / f"{number:02}").write_bytes(data)
    for path in (empty_store, *empty_store.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    mount = mounts.start(POLICY, empty_store)
    told = call_as(VIEWER, _told, mount.mountpoint, [one.needle for one in chosen])
    assert [number for number, state in enumerate(told) if state == "told"] == []
    assert told.count("read") >= len(chosen) // 2


def _told(mountpoint: Path, needles: list[bytes]) -> list[str]:
    """For each file, if it is refused, or read, or tells the place."""
    states = []
    for number, needle in enumerate(needles):
        try:
            data = (mountpoint / f"{number:02}").read_bytes()
        except OSError:
            states.append("refused")
            continue
        states.append("told" if places_in(data, needle) else "read")
    return states
