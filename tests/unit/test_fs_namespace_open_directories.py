"""The table of open directories: numbers, shares, and listings that the bridge may have."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from policyfs.fs.namespace.open_directories import OpenDirectories
from policyfs.fs.sharing.shares import Shares
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, parts

GALLERY, CAMERA = 10011, 10012
ANYTHING = """\
- {id: all, allow: [all], who: {app: any}, paths: "/***"}
"""


class Bridge:
    """The part of the bridge that the table uses: what was asked of it."""

    def __init__(self) -> None:
        self.directories: OpenDirectories | None = None
        self.asked: list[object] = []

    def take(self, fh: int) -> None:
        self.asked.append(fh)

    def end_directories(self) -> None:
        self.asked.append("end")


def table_of(limit: int = 1000) -> tuple[OpenDirectories, Bridge]:
    bridge = Bridge()
    table = OpenDirectories(bridge)
    table.shares = Shares(limit, "listed names")
    return table, bridge


def _add(table: OpenDirectories, made: Parts, times: int = 1) -> list[int]:
    return [table.add(made.root, made.caller(GALLERY), kept=False).index for _ in range(times)]


def test_numbers_in_use_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policyfs.fs.namespace.open_directories._MAX_INDEX", 3)
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        table, _ = table_of()
        assert _add(table, made, 3) == [1, 2, 3]
        table.remove(table.find(2))
        assert _add(table, made) == [2]
        table.remove(table.find(3))
        assert _add(table, made) == [3]


def test_an_unknown_number_is_sought_in_the_bridge(tmp_path: Path) -> None:
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        table, bridge = table_of()
        [index] = _add(table, made)
        assert table.find(index).node is made.root
        assert bridge.asked == []
        with pytest.raises(KeyError):
            table.find(index + 1)
        assert bridge.asked == [index + 1]
        table.adopt(index + 1, made.root, made.caller(CAMERA))
        adopted = table.find(index + 1)
        assert (adopted.holder, adopted.kept) == (made.caller(CAMERA).holder, True)
        assert (len(table), bridge.asked) == (2, [index + 1])


def test_after_a_take_over_a_directory_of_the_bridge_is_not_lost(tmp_path: Path) -> None:
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        table, bridge = table_of()
        table.follows = True
        assert table.is_lost(1)
        bridge.take = lambda fh: table.adopt(fh, made.root, made.caller(CAMERA))
        assert not table.is_lost(1)
        assert table.find(1).node is made.root


def test_directories_and_names_count_until_they_are_removed(tmp_path: Path) -> None:
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        table, bridge = table_of()
        [index] = _add(table, made)
        listing, names = table.find(index), [b"name"] * 100
        assert table.shares.held(listing.holder) == 8
        table.keep(listing, names)
        assert (table.shares.used, bridge.asked) == (108, [])
        assert table.take(listing) is names
        assert table.take(listing) is None
        table.remove(listing)
        assert table.shares.used == 0


def test_the_bridge_opens_none_once_a_quarter_is_used(tmp_path: Path) -> None:
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        table, bridge = table_of(64)
        [first, _] = _add(table, made, 2)
        assert (table.has_plenty, bridge.asked) == (True, [])
        [third] = _add(table, made)
        assert (table.has_plenty, bridge.asked) == (False, ["end"])
        table.remove(table.find(third))
        assert table.has_plenty
        table.keep(table.find(first), [b"name"])
        assert (table.has_plenty, bridge.asked) == (False, ["end", "end"])


def test_an_app_with_more_than_is_free_gets_no_snapshot(tmp_path: Path) -> None:
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        table, _ = table_of(64)
        [index] = _add(table, made)
        listing = table.find(index)
        table.shares.take(listing.holder, 40)
        with pytest.raises(OSError, match="listed names") as refused:
            table.keep(listing, [b"name"])
        assert (refused.value.errno, listing.entries) == (errno.EMFILE, None)
