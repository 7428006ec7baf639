"""Digests by a file's identity."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from policyfs.journal.index import known_digests
from policyfs.journal.index.cache import IndexCache
from policyfs.journal.index.known_digests import KnownDigests


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(known_digests, "_SETTLED_NS", -1)
    (tmp_path / "file").write_bytes(b"abc")
    return tmp_path / "file"


def test_a_digest_is_known_until_the_file_changes(tmp_path: Path, file: Path) -> None:
    known = KnownDigests(IndexCache(tmp_path / "cache"))
    before = file.stat()
    known.put(before, "d")
    known.save()
    again = KnownDigests(IndexCache(tmp_path / "cache"))
    assert again.get(file.stat()) == "d"
    time.sleep(0.02)
    file.write_bytes(b"abd")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    assert again.get(after) == ""


def test_a_file_that_has_just_changed_is_not_known(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_digests, "_SETTLED_NS", 10**12)
    known = KnownDigests(IndexCache(tmp_path / "cache"))
    known.put(file.stat(), "d")
    assert known.get(file.stat()) == ""


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"a": 1}', b"[" * 100_000])
def test_a_damaged_list_knows_nothing(tmp_path: Path, file: Path, data: bytes) -> None:
    cache = IndexCache(tmp_path / "cache")
    cache.save("digests", data)
    assert KnownDigests(cache).get(file.stat()) == ""


def test_a_list_that_was_edited_knows_nothing(tmp_path: Path, file: Path) -> None:
    cache = IndexCache(tmp_path / "cache")
    known = KnownDigests(cache)
    known.put(file.stat(), "d")
    known.save()
    assert KnownDigests(cache).get(file.stat()) == "d"
    path = tmp_path / "cache/digests"
    path.write_bytes(path.read_bytes().replace(b'"d"', b'"e"'))
    assert KnownDigests(cache).get(file.stat()) == ""


def test_a_full_list_forgets_the_oldest(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_digests, "_MOST", 2)
    known = KnownDigests(IndexCache(tmp_path / "cache"))
    found = []
    for number in range(3):
        path = tmp_path / f"file-{number}"
        path.write_bytes(b"a" * number)
        known.put(path.stat(), str(number))
        found.append(path.stat())
    assert [known.get(info) for info in found] == ["", "1", "2"]
