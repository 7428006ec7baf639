"""A1 and A2 for HEIC, MP4 and PNG: what test_races.py shows for JPEG."""

from __future__ import annotations

from itertools import product

import pytest

from tests.attack.racing import ALL
from tests.attack.test_races import IN_VIEW, POLICY, READER, populate, run
from tests.support.machine.counts import SOAK, count, first
from tests.support.machine.processes import call_as
from tests.support.samples.carriers import CARRIERS, HEADER_BYTES

ENTERED = count(50, 5_000)
LEASED = count(8, 5_000)
SECONDS = count(120, 1_800)
pytestmark = pytest.mark.timeout(SECONDS + 120)
ROADS = [("heic", "ext4", "map"), ("mp4", "xfs", "swap"), ("png", "ext4", "map")]
if SOAK:
    ROADS = list(product(CARRIERS, ("ext4", "xfs"), ("map", "write", "grow", "swap")))


@pytest.mark.parametrize(("suffix", "kind", "mode"), ROADS)
def test_no_pass_over_other_media_sees_a_place(suffix, kind, mode, store_on, mounts_on, race) -> None:
    """Attack A2.6: All of this with HEIC, MP4 and PNG
    Guard: policyfs/store/frozen.py::freeze, policyfs/fs/redacted/copies.py::Redactor.redacted,
    policyfs/store/locking/leases.py::Lease.holds
    Also: ::test_other_media_too_large_to_copy_leak_nothing_either
    Without: ::test_the_race_over_other_media_is_lost_in_the_live_file
    """
    race.use(CARRIERS[suffix].layouts())
    store = store_on(kind)
    photo = populate(store, race)
    mount = mounts_on.start(POLICY, store)
    in_store = photo if mode == "map" else None
    donor = mount / "gallery/copy"
    seen = run(race, mount, mode, ENTERED, in_store=in_store, donor=donor, seconds=SECONDS)
    assert not seen.leaked, seen
    assert seen.entered >= ENTERED, seen
    assert all(seen.passes(technique) for technique in ALL), seen
    assert seen.raw_reader_saw, seen


@pytest.mark.parametrize("suffix", first(1, zip(CARRIERS)))
def test_other_media_too_large_to_copy_leak_nothing_either(suffix, store_on, mounts_on, race) -> None:
    race.use(CARRIERS[suffix].layouts())
    store = store_on("ext4")
    populate(store, race)
    mount = mounts_on.start(POLICY, store, "--copy-max", "4K")
    more = {"techniques": IN_VIEW, "pause_us": 8000, "seconds": SECONDS}
    seen = run(race, mount, "visit", LEASED, **more)
    assert not seen.leaked, seen
    assert seen.entered >= LEASED, seen
    assert seen.raw_reader_saw, seen
    status = mount.status()
    assert status["leases"]["broken"] > 0, "the writer never came under a lease"
    assert status["copies"]["misses"] == 0


@pytest.mark.parametrize("suffix", first(1, zip(CARRIERS)))
def test_the_race_over_other_media_is_lost_in_the_live_file(suffix, store_on, without, race) -> None:
    race.use(CARRIERS[suffix].layouts())
    store = store_on("ext4")
    photo = populate(store, race)
    mount = without("locate-in-source", POLICY, store)
    assert run(race, mount, "map", 3000, in_store=photo, leaks=1).leaked


@pytest.mark.parametrize("suffix", CARRIERS)
def test_what_is_seen_stays(suffix, mounts, empty_store, race) -> None:
    """Behind the header the bytes are the very same."""
    race.use(CARRIERS[suffix].layouts())
    populate(empty_store, race)
    mount = mounts.start(POLICY, empty_store)
    shown = call_as(READER, (mount / "DCIM/a.jpg").read_bytes)
    assert shown[HEADER_BYTES:] == race.images[0][HEADER_BYTES:]
    assert shown != race.images[0]
