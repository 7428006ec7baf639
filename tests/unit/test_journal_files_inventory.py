"""The check that all files and lines of a trail are read."""

from __future__ import annotations

import gzip
from pathlib import Path

from policyfs.journal.files.inventory import Inventory, unread
from policyfs.journal.files.reader import find_chains, records
from policyfs.journal.files.segments import Chain
from tests.support.mount.trail import an_event, segments, write_trail


def written(root: Path) -> Path:
    return write_trail(root, [an_event(b"/%d" % number) for number in range(60)], segment_bytes=4096)


def holes(directory: Path) -> list[str]:
    chain = Chain(directory.name, directory)
    inventory = Inventory(chain)
    assert list(records(chain, inventory))
    return [hole.why for hole in inventory.end()]


def test_a_whole_trail_has_no_hole(tmp_path: Path) -> None:
    assert holes(written(tmp_path)) == []


def test_a_file_that_is_not_read_is_told_with_what_to_do(tmp_path: Path) -> None:
    directory = written(tmp_path)
    second, third = segments(directory)[1:3]
    second.with_name(f"{second.name}.gz").write_bytes(gzip.compress(second.read_bytes()))
    second.unlink()
    third.rename(third.with_name(f"{third.name}.old"))
    (directory / "note.txt").write_text("mine")
    packed = f"{second.name}.gz is compressed: unpack it (gunzip)"
    renamed = f"{third.name}.old is not a file of the trail: give it its old name"
    assert holes(directory) == [f"{packed}; {renamed}", "note.txt is not a file of the trail"]


def test_segments_that_are_missing_or_empty_are_told(tmp_path: Path) -> None:
    directory = written(tmp_path)
    first, second, third = segments(directory)[1:4]
    first.unlink()
    assert holes(directory) == ["segment 2 is missing"]
    second.unlink()
    third.write_bytes(b"")
    assert holes(directory) == [f"segments 2 to 3 are missing; {third.name} is empty"]


def test_chains_that_are_not_read_are_told(tmp_path: Path) -> None:
    directory = written(tmp_path)
    (tmp_path / "linked").symlink_to(directory)
    told = list(unread(tmp_path, find_chains(tmp_path), {"0000000000000001": 9}))
    assert [(name, hole.what, hole.why) for name, hole in told] == [
        ("linked", "records", "it is a symbolic link: name its target with --trail"),
        ("0000000000000001", "records 1 to 9", "the whole directory is missing"),
    ]
