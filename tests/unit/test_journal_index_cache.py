"""Kept indexes: used only if they are whole, of these bytes, and of this user alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.files.reader import find_chains
from policyfs.journal.files.segment_file import SegmentFile
from policyfs.journal.index.cache import IndexCache
from policyfs.journal.index.database import build
from tests.support.mount.trail import a_journal, an_event


@pytest.fixture
def segment(tmp_path: Path) -> SegmentFile:
    with a_journal(tmp_path / "trail") as journal:
        for number in range(20):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    (chain,) = find_chains(tmp_path / "trail")
    return SegmentFile(chain, chain.segments()[0])


@pytest.fixture
def cache(tmp_path: Path) -> IndexCache:
    cache = IndexCache(tmp_path / "cache")
    assert cache.problem == ""
    return cache


def saved(cache: IndexCache, segment: SegmentFile) -> tuple[str, Path]:
    digest = segment.digest(0, segment.size)
    cache.save_index(digest, build(segment.lines(0, segment.size), segment.size, digest))
    return digest, cache.directory / f"{digest}.index"


def test_an_index_is_kept(cache: IndexCache, segment: SegmentFile) -> None:
    digest, path = saved(cache, segment)
    index = cache.load(digest, segment.size)
    assert index is not None
    assert index.lines == 22
    assert path.stat().st_mode & 0o777 == 0o600
    assert cache.directory.stat().st_mode & 0o777 == 0o700
    [(line, offset)] = index.query("SELECT line, offset FROM event WHERE path = 7")
    record = segment.record(offset, line)
    assert line == 9  # header, mount
    assert getattr(record, "event").path == b"/7"  # noqa: B009


@pytest.mark.parametrize("where", [0, 10, 71, 72, 80, 200, 5000, -1])
def test_a_damaged_index_is_not_used(cache: IndexCache, segment: SegmentFile, where: int) -> None:
    digest, path = saved(cache, segment)
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    assert cache.load(digest, segment.size) is None


def test_an_index_that_changes_while_it_is_used_does_no_harm(cache: IndexCache, segment: SegmentFile) -> None:
    digest, path = saved(cache, segment)
    index = cache.load(digest, segment.size)
    assert index is not None
    os.truncate(path, 100)
    assert index.path(7) == b"/7"


def test_an_index_with_the_seal_of_another_key_is_not_used(
    cache: IndexCache, segment: SegmentFile, tmp_path: Path
) -> None:
    digest, _ = saved(cache, segment)
    assert IndexCache(cache.directory, tmp_path / "others").load(digest, segment.size) is None
    assert IndexCache(cache.directory).load(digest, segment.size) is not None


def test_an_index_of_fewer_bytes_is_not_used(cache: IndexCache, segment: SegmentFile) -> None:
    digest, _ = saved(cache, segment)
    assert cache.load(digest, segment.size - 1) is None


def test_a_small_file_is_used_whole_or_not(cache: IndexCache) -> None:
    cache.save("small", b"some text")
    assert cache.read("small") == b"some text"
    path = cache.directory / "small"
    path.write_bytes(path.read_bytes().replace(b"some", b"same"))
    assert cache.read("small") is None
    cache.save("other", b"some text")
    (cache.directory / "other").rename(path)
    assert cache.read("small") is None, "a seal is that of one name"


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_a_cut_index_is_not_used(cache: IndexCache, segment: SegmentFile, size: int) -> None:
    digest, path = saved(cache, segment)
    os.truncate(path, size)
    assert cache.load(digest, segment.size) is None


def test_an_index_of_other_bytes_is_not_used(cache: IndexCache, segment: SegmentFile) -> None:
    digest, path = saved(cache, segment)
    other = "0" * 64
    path.rename(cache.directory / f"{other}.index")
    assert cache.load(other, segment.size) is None
    assert cache.load(digest, segment.size) is None


def test_an_index_that_others_could_have_written_is_not_used(cache: IndexCache, segment: SegmentFile) -> None:
    digest, path = saved(cache, segment)
    path.chmod(0o620)
    assert cache.load(digest, segment.size) is None
    path.chmod(0o600)
    os.chown(path, 1234, -1)
    assert cache.load(digest, segment.size) is None
    os.chown(path, 0, -1)
    assert cache.load(digest, segment.size) is not None
    path.rename(cache.directory / "there")
    path.symlink_to("there")
    assert cache.load(digest, segment.size) is None


def test_a_directory_that_others_may_write_is_not_used(tmp_path: Path, segment: SegmentFile) -> None:
    for mode, place in ((0o770, "own"), (0o702, "all")):
        (tmp_path / place).mkdir()
        (tmp_path / place).chmod(mode)
        for directory in (tmp_path / place, tmp_path / place / "below"):
            cache = IndexCache(directory)
            assert "users other than root and you may write" in cache.problem
            saved(cache, segment)
            assert cache.load(segment.digest(0, segment.size), segment.size) is None
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1234, -1)
    assert "users other than root and you may write" in IndexCache(tmp_path / "theirs").problem


def test_old_indexes_are_forgotten(cache: IndexCache, segment: SegmentFile) -> None:
    _, path = saved(cache, segment)
    cache.forget_old()
    assert path.exists()
    old = time.time() - 91 * 86400
    os.utime(path, (old, old))
    cache.forget_old()
    assert not path.exists()


def test_using_an_index_keeps_it(cache: IndexCache, segment: SegmentFile) -> None:
    digest, path = saved(cache, segment)
    old = time.time() - 91 * 86400
    os.utime(path, (old, old))
    assert cache.load(digest, segment.size) is not None
    cache.forget_old()
    assert path.exists()


def test_a_cache_that_nobody_has_any_more_keeps_no_descriptor(tmp_path: Path) -> None:
    IndexCache(tmp_path / "cache").close()
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        assert not IndexCache(tmp_path / "cache").problem
    cache = IndexCache(tmp_path / "cache")
    cache.close()
    cache.close()
    assert os.listdir("/proc/self/fd") == before
