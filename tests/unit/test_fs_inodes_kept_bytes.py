"""The bytes of a draft that no write has changed: a set that may be too small, but is never too large."""

from __future__ import annotations

import random

import pytest

from policyfs.fs.inodes import kept_bytes
from policyfs.fs.inodes.kept_bytes import KeptBytes


def test_what_is_written_or_cut_off_is_not_kept() -> None:
    kept = KeptBytes(100)
    assert list(kept.ranges()) == [(0, 100)]
    kept.drop(10, 20)
    kept.drop(90, 120)
    kept.drop(30, 30)
    assert list(kept.ranges()) == [(0, 10), (20, 90)]
    kept.cut(50)
    kept.cut(200)
    kept.drop(150, 160)
    assert list(kept.ranges()) == [(0, 10), (20, 50)], "bytes behind the end do not come back"
    kept.cut(0)
    assert not kept.ranges()


def test_a_new_file_has_nothing_to_keep() -> None:
    kept = KeptBytes()
    kept.drop(0, 10)
    assert not kept.ranges()


@pytest.mark.parametrize("most", [3, 8, 1000])
@pytest.mark.parametrize("seed", range(20))
def test_no_written_byte_is_kept_however_many_writes_there_are(monkeypatch, seed: int, most: int) -> None:
    monkeypatch.setattr(kept_bytes, "_MOST", most)
    chance = random.Random(seed)
    kept, model = KeptBytes(300), set(range(300))
    for _ in range(200):
        at = chance.randrange(320)
        if chance.random() < 0.02:
            kept.cut(at)
            model -= set(range(at, 300))
        else:
            end = at + chance.randrange(4)
            kept.drop(at, end)
            model -= set(range(at, end))
        found = {byte for start, end in kept.ranges() for byte in range(start, end)}
        assert found <= model
        assert most < 1000 or found == model
        assert len(list(kept.ranges())) <= most + most // 2 + 1
