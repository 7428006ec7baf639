"""The stream over all chains: one that fails stops no other, and a lost first line is told."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.follow.cursor import Cursor
from policyfs.follow.output import Output
from policyfs.follow.source import DirectAccess
from policyfs.follow.stream import Stream
from policyfs.journal.writing.journal import Journal
from tests.support.mount.trail import MOUNT_ID, an_event, segments, write_trail

OTHER = "fedcba9876543210"


class Place:
    """A stream into a file, which runs for some rounds."""

    def __init__(self, root: Path) -> None:
        self.root, self.out, self.logged, self.saved = root, root / "out", list[str](), list[bool]()
        self.access = DirectAccess(root / "trail")
        (root / "trail").mkdir()

    def run(self, rounds: int = 20) -> None:
        left = [None] * rounds

        def is_stopped() -> bool:
            return not (left and not left.pop())

        with self.out.open("ab", buffering=0) as file:
            output = Output(file.fileno(), lambda: True)
            output.wait = lambda seconds: None  # type: ignore[method-assign]
            cursor = Cursor(str(self.root / "state/cursor"))
            save, write, untaken = cursor.save, output.write, list[bytes]()
            output.write = lambda data: (write(data), untaken.append(data))  # type: ignore[method-assign]
            output.wait_until_taken = untaken.clear  # type: ignore[method-assign]
            cursor.save = lambda positions: self.saved.append(not untaken) or save(positions)  # type: ignore[method-assign]
            Stream(self.access, output, cursor, lambda event: True, self.logged.append).run(is_stopped)
            os.close(cursor._fd)

    def types(self, chain: str = "") -> list[str]:
        lines = map(json.loads, self.out.read_text().splitlines())
        return [line["type"] for line in lines if line["id"].startswith(chain)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_cursor_is_written_after_its_lines_were_taken(place: Place) -> None:
    write_trail(place.root / "trail", [an_event()])
    place.run()
    assert place.saved == [True, True]


def other_trail(place: Place) -> None:
    journal = Journal(str(place.root / "trail" / OTHER), OTHER, keep=0)
    journal.record(an_event(), Audit.REQUIRED)
    journal.close()


def test_a_chain_that_cannot_be_read_stops_no_other_and_is_told_once(place: Place, monkeypatch) -> None:
    write_trail(place.root / "trail", [an_event()])
    other_trail(place)
    real = place.access.open

    def open_(mount_id: str, name: str) -> int:
        if mount_id == MOUNT_ID:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(mount_id, name)

    monkeypatch.setattr(place.access, "open", open_)
    place.run()
    assert place.types() == ["header", "event", "close"]
    assert place.logged == [f"cannot read the trail of {MOUNT_ID}: Too many open files; trying again"]
    monkeypatch.undo()
    place.run()
    assert place.types(MOUNT_ID) == ["header", "event", "close"]


@pytest.mark.parametrize("is_new", [True, False], ids=["the first start", "a later start"])
def test_first_lines_that_are_gone_are_a_hole_unless_the_chain_is_older(place: Place, is_new: bool) -> None:
    if not is_new:
        place.run()  # without a line of it
    directory = write_trail(place.root / "trail", [an_event()] * 9, segment_bytes=1500)
    segments(directory)[0].unlink()
    place.run(1)
    place.run()  # nor does a restart make it younger
    assert place.types()[: 1 + (not is_new)] == [*["hole"] * (not is_new), "header"]
    assert place.types().count("hole") == (not is_new)


def test_a_trail_that_was_removed_is_let_go_and_followed_again(place: Place) -> None:
    write_trail(place.root / "trail", [an_event()])
    real, seen = place.access.chains, list[int]()

    def chains() -> dict[str, list[str]]:
        seen.append(len(os.listdir("/proc/self/fd")))
        if len(seen) == 6:
            shutil.rmtree(place.root / "trail" / MOUNT_ID)
        if len(seen) == 9:
            write_trail(place.root / "trail", [an_event(b"/again")])
        return real()

    place.access.chains = chains  # type: ignore[method-assign]
    place.run(40)
    assert place.types() == ["header", "event", "close", "hole", "header", "event", "close"]
    assert seen[8] == seen[5] - 1  # an open file would keep its bytes on the disk
