"""The cache of frozen copies, on copies in memory."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.store.copies import Copy, CopyCache
from policyfs.store.frozen import Frozen, Version, open_readonly, seal

pytestmark = pytest.mark.usefixtures("no_descriptor_leaks")

PAGE = 4096

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


@pytest.fixture
def cache():
    cache = CopyCache(10 * PAGE)
    yield cache
    cache.close()


def copy_of(size: int, how: str = "memfd") -> Frozen:
    """A sealed copy of *size* zeros; one that says it is a clone is a memory file all the same."""
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    copy = Frozen(fd, how, size, Version(size, 0, 0))
    seal(copy)
    return copy


def test_what_was_put_is_found_under_its_key_and_no_other(cache):
    frozen = copy_of(PAGE)
    copy = cache.put(("a", 1), frozen)
    assert copy.frozen is frozen
    assert cache.get(("a", 1)) is copy
    assert cache.get(("a", 2)) is None
    stats = cache.stats()
    assert (stats.bytes, stats.copies, stats.pinned, stats.hits, stats.misses) == (PAGE, 1, 0, 1, 1)


def test_the_least_recently_used_goes_first(cache):
    copies = {key: cache.put(key, copy_of(4 * PAGE)) for key in "ab"}
    cache.get("a")
    cache.put("c", copy_of(4 * PAGE))
    assert cache.get("b") is None
    assert copies["b"].frozen.fd == -1
    assert cache.get("a") is copies["a"]
    assert cache.stats().evicted == 1


def test_used_ones_stay_and_a_copy_without_room_is_refused(cache):
    used = cache.put("used", copy_of(8 * PAGE))
    used.pin()
    idle = cache.put("idle", copy_of(2 * PAGE))
    large = copy_of(3 * PAGE)
    assert cache.put("large", large) is None
    assert large.fd >= 0
    large.close()
    assert cache.get("idle") is idle, "nothing is thrown out for a copy that will not fit anyway"
    assert cache.put("fits", copy_of(2 * PAGE)) is not None
    assert cache.get("idle") is None
    assert used.frozen.fd >= 0
    assert cache.stats().refused == 1
    used.unpin()


def test_what_is_kept_beside_a_copy_counts(cache):
    """It is the memory of the same process."""
    assert cache.put("a", copy_of(PAGE), beside=2 * PAGE).cost == 3 * PAGE
    assert cache.stats().bytes == 3 * PAGE
    frozen = copy_of(PAGE)
    assert cache.put("b", frozen, beside=10 * PAGE) is None
    frozen.close()


def test_a_refused_copy_leaves_the_one_it_would_replace(cache):
    old = cache.put("a", copy_of(9 * PAGE))
    old.pin()
    new = copy_of(2 * PAGE)
    assert cache.put("a", new) is None
    new.close()
    assert cache.get("a") is old
    old.unpin()


def test_a_replaced_or_dropped_copy_in_use_closes_with_its_last_user(cache):
    old = cache.put("a", copy_of(PAGE))
    old.pin()
    old.pin()
    new = cache.put("a", copy_of(PAGE))
    assert cache.get("a") is new
    assert (cache.stats().bytes, cache.stats().pinned) == (2 * PAGE, 1)
    old.unpin()
    assert old.frozen.fd >= 0
    old.unpin()
    assert old.frozen.fd == -1
    assert cache.stats().bytes == PAGE
    cache.drop("a")
    cache.drop("a")
    assert (new.frozen.fd, cache.stats().bytes) == (-1, 0)


def test_clones_and_empty_files_count_a_page_and_copies_are_counted():
    cache = CopyCache(100 * PAGE, max_copies=3)
    for key in range(5):
        cache.put(key, copy_of(90 * PAGE if key % 2 else 0, "reflink" if key % 2 else "memfd"))
    assert (cache.stats().copies, cache.stats().bytes, cache.stats().evicted) == (3, 3 * PAGE, 2)
    kept = [copy for copy in map(cache.get, range(5)) if copy is not None]
    assert [copy.key for copy in kept] == [0, 1, 4]
    for copy in kept:
        copy.pin()
    sixth = copy_of(0)
    assert cache.put(6, sixth) is None
    sixth.close()
    cache.close()
    assert cache.stats().copies == 0


def scan(cache: CopyCache, keys: range) -> int:
    """Ask for each, and put what is missing; how many were there."""
    found = 0
    for key in keys:
        if cache.get(key) is not None:
            found += 1
        else:
            assert cache.put(key, copy_of(PAGE)) is not None
    return found


def test_a_scan_of_more_than_fits_finds_most_of_what_fits_the_next_time():
    cache = CopyCache(64 * PAGE)
    assert scan(cache, range(96)) == 0
    assert scan(cache, range(96)) >= 48
    assert scan(cache, range(96)) >= 48
    cache.close()


def test_a_scan_leaves_what_is_used_again_and_again():
    cache = CopyCache(64 * PAGE)
    for _ in range(3):
        scan(cache, range(32))
    assert scan(cache, range(1000, 1500)) == 0
    assert scan(cache, range(32)) == 32
    cache.close()


def test_what_is_used_now_takes_the_place_of_what_was_used_long_ago():
    cache = CopyCache(64 * PAGE, 64)
    scan(cache, range(64))
    for _ in range(20):
        scan(cache, range(100, 164))
    assert scan(cache, range(100, 164)) == 64
    cache.close()


def test_the_backing_id_of_a_copy_is_given_back_exactly_when_it_is_closed():
    given: list[int] = []
    cache = CopyCache(2 * PAGE, give_back=given.append)
    used, idle = cache.put("used", copy_of(PAGE)), cache.put("idle", copy_of(PAGE))
    used.backing_id, idle.backing_id = 7, 8
    used.pin()
    cache.put("third", copy_of(PAGE))
    assert given == [8], "what had to make room"
    cache.drop("used")
    assert given == [8], "still in use"
    used.unpin()
    assert given == [8, 7]
    cache.close()
    assert given == [8, 7], "the third was never registered"


def test_misuse_is_loud(cache):
    copy = cache.put("a", copy_of(PAGE))
    with pytest.raises(ValueError, match="unpin without pin"):
        copy.unpin()
    cache.drop("a")
    with pytest.raises(ValueError, match="closed already"):
        copy.pin()
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    with Frozen(fd, "memfd", 0, Version(0, 0, 0)) as unsealed, pytest.raises(ValueError, match="sealed"):
        cache.put("b", unsealed)


def test_clear_forgets_all_and_spares_users(cache):
    used, idle = cache.put("used", copy_of(PAGE)), cache.put("idle", copy_of(PAGE))
    used.pin()
    cache.clear()
    assert (idle.frozen.fd, cache.get("used")) == (-1, None)
    assert used.frozen.fd >= 0
    used.unpin()
    assert used.frozen.fd == -1


def test_the_end_of_the_mount_closes_used_copies_too():
    cache = CopyCache(PAGE)
    copy = cache.put("a", copy_of(PAGE))
    copy.pin()
    cache.close()
    assert copy.frozen.fd == -1
    copy.unpin()


class Mapping:
    """A mapping of a copy that outlives its descriptor, as an app's in passthrough does."""

    def __init__(self, copy: Copy) -> None:
        fd = open_readonly(copy.frozen)
        self._at = _libc.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        assert self._at != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
        os.close(fd)

    def close(self) -> None:
        assert _libc.munmap(self._at, PAGE) == 0


def hold(cache: CopyCache, who: str, first: int, most: int = 99) -> list[Copy]:
    """Put and pin copies of one page for somebody until there is no more room for them."""
    held: list[Copy] = []
    while len(held) < most:
        frozen = copy_of(PAGE)
        copy = cache.put((who, first + len(held)), frozen, who)
        if copy is None:
            frozen.close()
            return held
        copy.pin(who)
        held.append(copy)
    return held


@pytest.mark.parametrize("limits", [(16 * PAGE, 1000), (1000 * PAGE, 16)], ids=["bytes", "copies"])
def test_nobody_may_have_more_in_use_than_it_leaves_free(limits):
    cache = CopyCache(*limits)
    greedy = hold(cache, "greedy", 0)
    assert len(greedy) == 8
    honest = hold(cache, "honest", 0)
    assert len(honest) == 4
    assert cache.stats().shares == 2
    for copy in greedy:
        copy.unpin("greedy")
    assert len(hold(cache, "honest", 100)) == 4, "what is given back is there for others"
    cache.close()


def test_what_is_there_already_counts_for_whom_has_it_in_use():
    """Copies that nobody uses may go; to take them all into use again is no way round the share."""
    cache = CopyCache(16 * PAGE)
    idle = [cache.put(number, copy_of(PAGE)) for number in range(16)]
    taken = []
    for copy in idle:
        if cache.admits(copy, "greedy"):
            copy.pin("greedy")
            taken.append(copy)
    assert len(taken) == 8
    assert cache.admits(taken[0], "greedy"), "once more costs nothing"
    assert len(hold(cache, "honest", 0)) == 4
    cache.close()


def test_room_is_booked_while_a_copy_is_being_made():
    cache = CopyCache(16 * PAGE)
    first, second = cache.book(4 * PAGE, "greedy"), cache.book(4 * PAGE, "greedy")
    assert first
    assert second
    assert cache.book(PAGE, "greedy") is None
    with cache.book(4 * PAGE, "honest"):
        assert cache.book(PAGE, "honest") is None
    second.cancel()
    second.cancel()
    assert cache.book(2 * PAGE, "greedy")
    cache.close()


def test_what_is_being_made_counts_against_the_cap_of_what_is_kept():
    cache = CopyCache(4 * PAGE)
    idle = [cache.put(number, copy_of(PAGE)) for number in range(4)]
    with cache.book(2 * PAGE):
        assert [copy.frozen.fd >= 0 for copy in idle] == [False, False, True, True]
    cache.close()


def test_a_copy_that_is_still_mapped_is_in_use_and_counts():
    cache = CopyCache(4 * PAGE)
    held = hold(cache, "greedy", 0)
    assert len(held) == 2
    mappings = [Mapping(copy) for copy in held]
    for copy in held:
        copy.unpin("greedy")
    assert (cache.stats().pinned, cache.stats().mapped) == (0, 2)
    assert hold(cache, "greedy", 10) == [], "the memory is still taken"
    honest = hold(cache, "honest", 0)
    assert len(honest) == 1
    cache.drop(held[0].key)
    assert held[0].frozen.fd >= 0, "closed, it would take the memory and count for nobody"
    mappings[0].close()
    mappings[1].close()
    cache.sweep()
    assert (cache.stats().mapped, held[0].frozen.fd) == (0, -1)
    assert len(hold(cache, "greedy", 20)) == 2
    cache.close()


def test_a_mapped_copy_that_is_opened_again_counts_once():
    cache = CopyCache(8 * PAGE)
    [copy] = hold(cache, "greedy", 0, most=1)
    mapping = Mapping(copy)
    for _ in range(3):
        copy.unpin("greedy")
        assert cache.stats().mapped == 1
        copy.pin("greedy")
        assert cache.stats().mapped == 0
    assert len(hold(cache, "greedy", 10)) == 3
    mapping.close()
    copy.unpin("greedy")
    assert cache.stats().mapped == 0
    cache.close()


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "get", "pin", "unpin", "drop"]), st.integers(0, 4), st.integers(0, 5)),
    max_size=40,
)


@settings(max_examples=60)
@given(STEPS)
def test_whatever_happens_caps_hold_and_used_copies_stay_open(steps):
    cache, used = CopyCache(8 * PAGE, 4), []
    for action, key, size in steps:
        copy = None if action == "put" else cache.get(key)
        if action == "put":
            frozen = copy_of(size * PAGE)
            if cache.put(key, frozen) is None:
                frozen.close()
        elif action == "pin" and copy:
            copy.pin()
            used.append(copy)
        elif action == "unpin" and used:
            used.pop(key % len(used)).unpin()
        elif action == "drop":
            cache.drop(key)
        stats = cache.stats()
        assert stats.bytes <= 8 * PAGE
        assert stats.copies <= 4
        assert stats.pinned == len(set(used))
        assert all(copy.frozen.fd >= 0 for copy in used)
    cache.close()
    assert cache.stats().bytes == 0


def test_clones_that_nobody_uses_give_their_space_back_and_copies_in_memory_stay():
    now = [100.0]
    cache = CopyCache(100 * PAGE, clock=lambda: now[0])
    old, held, memory = (
        cache.put(key, copy_of(PAGE, how))
        for key, how in (("old", "reflink"), ("held", "reflink"), ("memory", "memfd"))
    )
    held.pin()
    now[0] += 5
    cache.expire_clones(10.0)
    assert cache.get("old") is old
    now[0] += 9
    cache.expire_clones(10.0)
    assert cache.get("old") is old, "it was used 9 s ago"
    now[0] += 11
    cache.expire_clones(10.0)
    assert (old.frozen.fd, cache.get("old")) == (-1, None)
    assert cache.get("memory") is memory
    now[0] += 11
    held.unpin()
    now[0] += 9
    cache.expire_clones(10.0)
    assert held.frozen.fd >= 0, "it was given back 9 s ago"
    now[0] += 2
    cache.expire_clones(10.0)
    assert held.frozen.fd == -1
    cache.close()


def test_copies_that_no_app_needs_make_room(cache):
    """They are unpinned one after the other, until there is room, and no more of them."""
    kept = [cache.put(key, copy_of(3 * PAGE)) for key in "abc"]
    for copy in kept:
        copy.pin("app")
    spare = list(kept)

    def unpin() -> bool:
        if not spare:
            return False
        spare.pop(0).unpin("app")
        return True

    cache.on_shortage = unpin
    assert cache.has_room(2 * PAGE, None) is True
    assert len(spare) == 2
    assert cache.book(6 * PAGE, "other") is not None
    assert len(spare) == 1, "the rest leaves room for one more"
    assert cache.has_room(11 * PAGE, None) is False


def test_a_copy_that_is_unpinned_for_itself_counts_as_free(cache):
    copy = cache.put("a", copy_of(6 * PAGE))
    copy.pin("app")
    pinned = [copy]
    cache.on_shortage = lambda: bool(pinned) and (pinned.pop().unpin("app") or True)
    assert cache.admits(copy, "other") is True, "6 of 10 pages, once nobody else has it in use"
    assert (copy.in_use, cache.peek("a") is copy) == (False, True)
    copy.pin("app")
    assert cache.admits(copy, "other") is False, "6 pages of the 4 that are free beside it"
