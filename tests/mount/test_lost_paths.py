"""A path with too many captures is closed to everybody, also in a mount with --monitor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from policyfs.policy.globs.automaton import MAX_BOUND
from tests.support.machine.processes import call_as, code_of
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

GALLERY: Final = 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/DCIM/**"}}
  - {{id: home, allow: [all], paths: "/**/{{uid}}/**"}}
  - {{id: no-place, require: {{redact: location}}, paths: "/DCIM/**"}}
  - {{id: photos, require: {{content: image/*}}, paths: "/DCIM/**"}}
"""


def test_monitor_opens_no_path_whose_rules_are_not_known(mounts: Mounts, empty_store: Path) -> None:
    numbers = [str(number) for number in range(1, MAX_BOUND + 12)]
    parts = [Path("DCIM", *numbers[:depth]) for depth in range(len(numbers) + 1)]
    placed = jpegs.photo_with(jpegs.exif())
    for part in parts:
        (empty_store / part).mkdir()
        (empty_store / part).chmod(0o777)
    for path in (empty_store / "DCIM/a.jpg", empty_store / parts[-1] / "b.jpg"):
        path.write_bytes(placed)
        path.chmod(0o666)
    share = mounts.start(POLICY, empty_store, "--monitor")
    assert call_as(GALLERY, (share / "DCIM/a.jpg").read_bytes) != placed
    deep = share / parts[-1]
    assert call_as(GALLERY, code_of, os.rename, share / "DCIM/a.jpg", deep / "a.jpg") == "ENOENT"
    assert call_as(GALLERY, code_of, (deep / "b.jpg").read_bytes) == "ENOENT"
    assert call_as(GALLERY, code_of, (deep / "c.jpg").write_bytes, b"text") == "ENOENT"
    shown = call_as(GALLERY, lambda: [code_of(os.listdir, share / part) for part in parts])
    last = parts[shown.index("ENOENT") - 1]
    assert shown.count("") > MAX_BOUND // 2
    assert call_as(GALLERY, os.listdir, share / last) == [], "a lost name is not listed either"
