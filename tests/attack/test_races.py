"""A1 and A2: the restricted reader against writers, mappings, growth and swapped files.

Held on a store with reflink (xfs: the frozen copy is a clone) and on one without (ext4: it is in
memory; and, for files too large for that, a read lease).
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from tests.attack.racing import ALL, Race, Seen
from tests.support.machine.counts import count, first

WRITER, READER = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
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
TRIES = {
    "map": count(300, 60_000),
    "write": count(80, 15_000),
    "grow": count(20, 10_000),
    "swap": count(20, 10_000),
}
"""Passes of the restricted reader in which the writer was at work, for each store and way to write."""
LEASED_TRIES = count(20, 10_000)
SECONDS = count(120, 3_600)
pytestmark = pytest.mark.timeout(SECONDS + 120)
IN_VIEW = tuple(name for name in ALL if name != "copy_file_range")


def populate(store: Path, race: Race) -> Path:
    """A photo that the editor may change, and a directory of the reader's own; the photo's path."""
    for name, mode in (("DCIM", 0o755), ("gallery", 0o777)):
        (store / name).mkdir()
        (store / name).chmod(mode)
    photo = store / "DCIM/a.jpg"
    photo.write_bytes(race.images[0])
    photo.chmod(0o666)
    return photo


def run(race: Race, mount, mode: str, entered: int, **more) -> Seen:
    """One race on /DCIM/a.jpg."""
    return race.run(
        mount / "DCIM/a.jpg",
        mode=mode,
        writer=WRITER,
        reader=READER,
        entered=entered,
        seconds=more.pop("seconds", SECONDS),
        **more,
    )


@pytest.mark.parametrize(
    ("kind", "mode"),
    first(6, [*product(["ext4"], TRIES), *product(["xfs"], ("map", "swap", "write", "grow"))]),
)
def test_no_pass_of_the_restricted_reader_sees_a_place(kind, mode, store_on, mounts_on, race) -> None:
    """Attack A1.1: Read pages that another app's reading or mapping put into the kernel's cache
    Guard: policyfs/fs/access/views.py::Views.node
    Without: ::test_the_race_is_lost_where_views_share_a_node

    Attack A2.1: Have a second program move the place in the file while the redacted app reads it: by
    descriptor, by mapping, by growing or swapping the file
    Guard: policyfs/store/frozen.py::freeze, policyfs/fs/redacted/copies.py::Redactor.redacted
    Without: ::test_the_race_is_lost_where_places_are_located_in_the_live_file
    """
    store = store_on(kind)
    photo = populate(store, race)
    mount = mounts_on.start(POLICY, store)
    in_store = photo if mode == "map" else None
    seen = run(race, mount, mode, TRIES[mode], in_store=in_store, donor=mount / "gallery/copy")
    assert not seen.leaked, seen
    assert seen.entered >= TRIES[mode], seen
    assert all(seen.passes(technique) for technique in ALL), seen
    assert seen.raw_reader_saw, seen
    status = mount.status()
    assert status["copies"]["misses"] >= seen.opens["changed"] > 0, "each had to make a copy of its own"
    assert (status["leases"]["refused"], status["leases"]["broken"]) == (0, 0)
    assert not status["leases"]["held"]


def test_the_race_is_lost_where_places_are_located_in_the_live_file(store_on, without, race) -> None:
    store = store_on("ext4")
    photo = populate(store, race)
    mount = without("locate-in-source", POLICY, store)
    assert run(race, mount, "map", 3000, in_store=photo, leaks=1).leaked


def test_the_race_is_lost_where_views_share_a_node(store_on, without, race) -> None:
    store = store_on("ext4")
    populate(store, race)
    mount = without("one-view", POLICY, store)
    assert run(race, mount, "map", 3000, leaks=1).leaked


@pytest.mark.parametrize("mode", ["visit", "swap"])
def test_a_file_too_large_to_copy_leaks_nothing_either(mode, store_on, mounts_on, race) -> None:
    """Attack A2.2: The same with a file too large to copy
    Guard: policyfs/store/locking/leases.py::Lease.holds
    Also:
    tests/attack/test_large_files.py::test_a_writer_that_comes_is_let_in_and_nothing_it_writes_is_read
    Without: ::test_a_file_too_large_to_copy_leaks_without_leases
    """
    store = store_on("ext4")
    populate(store, race)
    mount = mounts_on.start(POLICY, store, "--copy-max", "4K")
    seen = run(race, mount, mode, LEASED_TRIES, techniques=IN_VIEW, pause_us=8000)
    assert not seen.leaked, seen
    assert seen.entered >= LEASED_TRIES, seen
    assert all(seen.passes(technique) for technique in ("read", "pread", "mmap-shared")), seen
    assert seen.raw_reader_saw, seen
    status = mount.status()
    assert mode == "swap" or status["leases"]["broken"] > 0, "the writer never came under a lease"
    assert status["copies"]["misses"] == 0


def test_a_file_too_large_to_copy_leaks_without_leases(store_on, without, mounts_on, race) -> None:
    store = store_on("ext4")
    populate(store, race)
    mount = without("no-leases", POLICY, store, "--copy-max", "4K")
    # The writer comes by another mount: of one in the same mount the daemon would know without a lease.
    path = mounts_on.start(POLICY, store, "--app", "editor") / "DCIM/a.jpg"
    seen = run(race, mount, "visit", 3000, techniques=IN_VIEW, pause_us=8000, leaks=1, writer_path=path)
    assert seen.leaked
