"""The cache of kinds: bounded, by version, never for a file that may still be changing."""

from __future__ import annotations

import pytest

from policyfs.content.cache import RACY_NS, KindCache, KindKey

NOW = 1_700_000_000_000_000_000
KEY = KindKey(dev=1, ino=2, btime_ns=3, size=4, mtime_ns=NOW - 10**9, ctime_ns=NOW - 10**9)


@pytest.fixture
def cache():
    return KindCache(3, clock_ns=lambda: NOW)


def test_a_kind_is_remembered(cache):
    assert cache.get(KEY) is None
    cache.put(KEY, "image/jpeg")
    assert cache.get(KEY) == "image/jpeg"
    stats = cache.stats()
    assert (stats.entries, stats.hits, stats.misses) == (1, 1, 1)


@pytest.mark.parametrize("field", KindKey._fields)
def test_another_version_or_file_is_unknown(cache, field):
    cache.put(KEY, "image/jpeg")
    assert cache.get(KEY._replace(**{field: getattr(KEY, field) + 1})) is None


def test_a_kind_serves_the_lane_whose_worker_found_it(cache):
    cache.put(KEY, "image/jpeg", "gallery")
    assert cache.get(KEY, "gallery") == "image/jpeg"
    for lane in ("maps", 10011, ("gallery", 10011), None):
        assert cache.get(KEY, lane) is None


@pytest.mark.parametrize("field", ["mtime_ns", "ctime_ns"])
@pytest.mark.parametrize("age_ns", [0, RACY_NS - 1, -(10**9)])
def test_a_file_changed_just_now_is_not_remembered(cache, field, age_ns):
    key = KEY._replace(**{field: NOW - age_ns})
    cache.put(key, "image/jpeg")
    assert cache.get(key) is None


def test_the_one_not_asked_for_longest_goes_first(cache):
    keys = [KEY._replace(ino=number) for number in range(4)]
    for key in keys[:3]:
        cache.put(key, "image/png")
    assert cache.get(keys[0])
    cache.put(keys[3], "image/png")
    assert [bool(cache.get(key)) for key in keys] == [True, False, True, True]
    assert cache.stats().evicted == 1
    assert cache.stats().entries == cache.stats().capacity == 3
