"""Directories read in parts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.store.names.directory_records import BUFFER_BYTES, DirectoryRecords


def test_each_part_has_its_own_names(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"{number:0100}").touch()
    fd = os.open(tmp_path, os.O_PATH)
    sizes, names = [], []
    with DirectoryRecords(fd) as records:
        os.close(fd)
        while records.read():
            sizes.append(records.size)
            names += [name for name, _, _ in records.names()]
    assert len(sizes) > 10
    assert max(sizes) <= BUFFER_BYTES
    assert sorted(names) == sorted(os.fsencode(name) for name in os.listdir(tmp_path))


def test_types_that_the_store_does_not_tell_are_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "inside").mkdir()
    fd = os.open(tmp_path, os.O_PATH)
    with DirectoryRecords(fd) as records:
        os.close(fd)
        told = [(b"file", 1, 8)]
        assert records.typed(told) is told
        unknown = [(b"file", 1, 0), (b"gone", 2, 0), (b"inside", 3, 0), (b"other", 4, 8)]
        assert records.typed(unknown) == [(b"file", 1, 8), (b"inside", 3, 4), (b"other", 4, 8)]


def test_a_removed_directory_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    fd = os.open(tmp_path / "inside", os.O_PATH)
    with DirectoryRecords(fd) as records:
        (tmp_path / "inside").rmdir()
        with pytest.raises(FileNotFoundError):
            records.read()
    os.close(fd)
