"""Positions in messages beside pictures (SEI), and in frames that are photos, read through a mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.redaction.material_matroska import USER_DATA, messages, time_lapse
from tests.support.machine.processes import call_as
from tests.support.mount.stores import Mounts
from tests.support.samples.media import HOME

MAPS, GALLERY = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  maps: {{uid: {MAPS}, grants: [media.location]}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: read, allow: [see, read], paths: "/**"}}
  - {{id: no-location, require: {{redact: location}}, who: {{not: {{grant: media.location}}}}, paths: "/**"}}
"""


@pytest.mark.parametrize("name", ["sei.mkv", "sei-vfw.mkv", "sei.avi"])
def test_positions_in_frames_are_read_by_those_alone_who_may(
    name: str, mounts: Mounts, empty_store: Path
) -> None:
    film = messages(empty_store / name)
    film.chmod(0o644)
    true = film.read_bytes()
    assert true.count(USER_DATA.encode()) == 4
    path = mounts.start(POLICY, empty_store) / name
    assert call_as(MAPS, path.read_bytes) == true
    redacted = call_as(GALLERY, path.read_bytes)
    assert len(redacted) == len(true)
    assert b"47.80453" not in redacted
    assert b"x264 - core" in redacted


@pytest.mark.parametrize("name", ["lapse.mkv", "lapse.avi", "lapse.mp4"])
def test_places_of_a_time_lapse_are_read_by_those_alone_who_may(
    name: str, mounts: Mounts, empty_store: Path, tmp_path: Path
) -> None:
    film = empty_store / name
    film.write_bytes(time_lapse(tmp_path / name).read_bytes())
    film.chmod(0o644)
    true = film.read_bytes()
    city = HOME.city.encode()
    assert true.count(city) >= 3
    path = mounts.start(POLICY, empty_store) / name
    assert call_as(MAPS, path.read_bytes) == true
    redacted = call_as(GALLERY, path.read_bytes)
    assert len(redacted) == len(true)
    assert city not in redacted
    assert b"Testmaker" in redacted
