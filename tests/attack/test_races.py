"""A1 and A2: the restricted reader against writers, mappings, growth and swapped files.

Must hold on a store with reflink (xfs: the copy is a clone) and without (ext4: it is in memory).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.attack.racing import ALL, Race
from tests.support.counts import count

WRITER, READER = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: races}}
apps:
  editor: {{uid: {WRITER}, grants: [media.location]}}
  gallery: {{uid: {READER}}}
rules:
  - {{id: photos.read, allow: [see, read], paths: "/DCIM/**"}}
  - {{id: editor.all, allow: [all], who: {{app: editor}}, paths: "/DCIM/**"}}
  - id: no-location
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    paths: "/DCIM/**"
    audit: best_effort
  - {{id: own, allow: [all], who: {{app: gallery}}, paths: "/gallery/**"}}
"""
TRIES = {"map": count(3500, 60_000), "write": count(700, 15_000), "grow": count(500, 10_000), "swap": count(500, 10_000)}
SECONDS = count(25, 600)


def populate(store: Path, race: Race) -> Path:
    """A photo that the editor may change, and a directory of the reader's own; the photo's path."""
    for name, mode in (("DCIM", 0o755), ("gallery", 0o777)):
        (store / name).mkdir()
        (store / name).chmod(mode)
    photo = store / "DCIM/a.jpg"
    photo.write_bytes(race.images[0])
    photo.chmod(0o666)
    return photo


@pytest.mark.parametrize("mode", TRIES)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_no_pass_of_the_restricted_reader_sees_a_place(kind, mode, store_on, mounts_on, race) -> None:
    store = store_on(kind)
    photo = populate(store, race)
    mount = mounts_on.start(POLICY, store)
    seen = race.run(
        mount / "DCIM/a.jpg",
        mode=mode,
        writer=WRITER,
        reader=READER,
        entered=TRIES[mode],
        seconds=SECONDS,
        in_store=photo if mode == "map" else None,
        donor=mount / "gallery/copy",
    )
    print(seen)
    assert not seen.leaked
    assert seen.entered >= TRIES[mode], seen
    assert seen.raw_reader_saw > 0
    assert all(seen.passes(technique) for technique in ALL), seen
