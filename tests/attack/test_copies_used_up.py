"""B6: one app that holds on to as many frozen copies as it can; another opens photos beside it."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs

GREEDY, HONEST = 10010, 10011
STRANGERS = (10501, 10502)
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: copies}}
apps:
  greedy: {{uid: {GREEDY}}}
  honest: {{uid: {HONEST}}}
rules:
  - {{id: read, allow: [see, read], paths: "/**"}}
  - {{id: no-location, require: {{redact: location}}, paths: "/**"}}
"""
PHOTOS: Final = 40
ROOM: Final = 16
"""How many of the photos fit into the cache."""
PHOTO: Final = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif())) + b"\0" * (240 << 10)

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]


def populate(store: Path) -> None:
    for number in range(PHOTOS):
        (store / f"{number}.jpg").write_bytes(PHOTO)
        (store / f"{number}.jpg").chmod(0o644)


def take(channel, directory: Path, mapped: bool) -> None:
    """Open every photo, keep it open or only mapped, and wait; errors by name."""
    said: dict[str, int] = {}
    for number in range(PHOTOS):
        try:
            fd = os.open(directory / f"{number}.jpg", os.O_RDONLY)
        except OSError as error:
            name = errno.errorcode[error.errno or 0]
            said[name] = said.get(name, 0) + 1
            continue
        if mapped:  # not by the mmap module, which keeps a descriptor of its own
            at = _libc.mmap(None, len(PHOTO), mmap.PROT_READ, mmap.MAP_SHARED | mmap.MAP_POPULATE, fd, 0)
            assert at != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
            os.close(fd)
    channel.send(said)
    channel.recv()


def read_some(directory: Path) -> list[bytes]:
    return [(directory / f"{number}.jpg").read_bytes() for number in (PHOTOS - 1, 3, PHOTOS // 2)]


def neighbours_roads(
    mount: Mount, mapped: bool, greedy_uid: int = GREEDY, honest_uid: int = HONEST
) -> set[str]:
    """Let one app take all it can get; how another one's opens go meanwhile."""
    greedy = start_as(greedy_uid, take, mount.mountpoint, mapped)
    greedy.receive()
    for shown in call_as(honest_uid, read_some, mount.mountpoint):
        assert len(shown) == len(PHOTO)
        assert not jpegs.leaks(shown)
    greedy.send("end")
    greedy.result()
    return {event["io"] for event in mount.events(operation="open", uid=honest_uid, decision="allow")}


@pytest.mark.parametrize("mapped", [False, True], ids=["open", "mapped only"])
def test_one_app_cannot_use_up_the_room_for_copies(store_on, mounts_on, mapped) -> None:
    """Attack B6.4: Use up the frozen copies (copies of files that policyfs redacts), or the trail's queue
    Guard: policyfs/store/copies.py::CopyCache.admits,
    policyfs/journal/writing/journal.py::Journal.record
    Also: ::test_one_stranger_leaves_room_for_the_copies_of_another,
    tests/unit/test_journal_writing_journal.py::test_a_full_queue_drops_and_says_so_where_it_happened
    Without: ::test_without_shares_the_neighbour_gets_no_copy
    """
    store = store_on("ext4")
    populate(store)
    mount = mounts_on.start(POLICY, store, "--copies-max", f"{ROOM * len(PHOTO)}")
    assert neighbours_roads(mount, mapped) == {"passthrough"}
    mine = mount.events(operation="open", app="greedy", decision="allow")
    assert {event["io"] for event in mine} == {"passthrough", "mediated"}, "it never reached its share"
    assert len({event["path"] for event in mine}) == PHOTOS, "beyond its share it reads under leases"
    wait_for(lambda: mount.status()["copies"]["mapped"] == 0, "mappings that are gone count no more")
    before = len(mount.events(operation="open", app="greedy", io="passthrough"))
    wait_for(lambda: mount.status()["copies"]["pinned"] == 0, "nothing is in use")

    def gets_copies() -> bool:  # for a moment after a refusal it still reads under leases
        call_as(GREEDY, read_some, mount.mountpoint)
        return len(mount.events(operation="open", app="greedy", io="passthrough")) > before

    wait_for(gets_copies, "it gets copies again")


def test_one_stranger_leaves_room_for_the_copies_of_another(store_on, mounts_on) -> None:
    """They are one to the rules, but each has a share of its own."""
    store = store_on("ext4")
    populate(store)
    mount = mounts_on.start(POLICY, store, "--copies-max", f"{ROOM * len(PHOTO)}")
    assert neighbours_roads(mount, False, *STRANGERS) == {"passthrough"}
    mine = mount.events(operation="open", uid=STRANGERS[0], decision="allow")
    assert {event["io"] for event in mine} == {"passthrough", "mediated"}, "it never reached its share"


def test_without_shares_the_neighbour_gets_no_copy(store_on, without) -> None:
    store = store_on("ext4")
    populate(store)
    mount = without("copies-not-shared", POLICY, store, "--copies-max", f"{ROOM * len(PHOTO)}")
    assert "mediated" in neighbours_roads(mount, mapped=False)
