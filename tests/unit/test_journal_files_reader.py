"""Reading trails while they are written."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.files.inventory import Inventory
from policyfs.journal.files.reader import Follower, find_chains, last_records, raw_lines, records
from policyfs.journal.files.segments import Chain, flock
from policyfs.trail.lines.record import BadLine, Record
from tests.support.mount.trail import MOUNT_ID, Clock, a_journal, an_event, segments, write_trail


def seen(items: list[Record | BadLine]) -> list[bytes]:
    """Paths of the events among these."""
    return [item.event.path for item in items if isinstance(item, Record) and item.event]


def test_chains_are_found_below_a_root_and_in_a_directory_itself(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event()])
    (tmp_path / "empty").mkdir()
    (tmp_path / "owners.sqlite").touch()
    (tmp_path / "link").symlink_to(directory)
    assert find_chains(tmp_path) == [Chain(MOUNT_ID, directory)]
    assert find_chains(directory) == [Chain(MOUNT_ID, directory)]
    assert find_chains(tmp_path / "empty") == []
    with pytest.raises(FileNotFoundError):
        find_chains(tmp_path / "missing")


def test_records_come_in_order_with_their_places(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event(b"/%d" % n) for n in range(20)], segment_bytes=2000)
    items = list(records(Chain(MOUNT_ID, directory)))
    assert seen(items) == [b"/%d" % n for n in range(20)]
    assert [item.seq for item in items if isinstance(item, Record)] == list(range(1, len(items) + 1))
    assert items[0].place == (MOUNT_ID, segments(directory)[0].name, 1)


def test_a_bad_line_is_reported_and_an_unfinished_one_left_out(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event()])
    with segments(directory)[0].open("ab") as stream:
        stream.write(b"garbage\n" + b'{"type":"eve')
    items = list(records(Chain(MOUNT_ID, directory)))
    assert [type(item) for item in items] == [Record, Record, Record, BadLine]


@pytest.mark.parametrize("count", [1, 2, 5, 21, 1000])
def test_the_last_records_are_those(tmp_path: Path, count: int) -> None:
    directory = write_trail(tmp_path, [an_event(b"/%d" % n) for n in range(20)], segment_bytes=4000)
    everything = [item.seq for item in records(Chain(MOUNT_ID, directory)) if isinstance(item, Record)]
    found = [item.seq for item in last_records(Chain(MOUNT_ID, directory), count) if isinstance(item, Record)]
    assert found == everything[-count:]


def test_the_last_records_of_a_long_segment(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event(b"/" + b"x" * 3000 + b"%d" % n) for n in range(100)])
    chain = Chain(MOUNT_ID, directory)
    for count in (1, 20, 21, 22, 99, 101, 102, 103):
        inventory = Inventory(chain)
        assert len(last_records(chain, count, inventory)) == min(count, 102)
        assert inventory.end() == []


def test_a_line_being_written_is_waited_for(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event()])
    path = segments(directory)[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])

    def finish() -> None:
        with path.open("ab") as stream:
            stream.write(whole[-20:])

    lines = raw_lines(directory, path.name, patience_s=20)
    got = [next(lines)]
    thread = threading.Timer(0.05, finish)
    thread.start()
    got += lines
    thread.join()
    assert b"".join(got) == whole


def test_a_line_that_stays_cut_comes_cut(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event()])
    path = segments(directory)[0]
    path.write_bytes(path.read_bytes()[:-20])
    assert not list(raw_lines(directory, path.name, patience_s=0.05))[-1].endswith(b"\n")


def test_a_symlink_in_place_of_a_segment_is_not_followed(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event()])
    path = segments(directory)[0]
    path.unlink()
    path.symlink_to("/etc/passwd")
    inventory = Inventory(Chain(MOUNT_ID, directory))
    assert list(records(Chain(MOUNT_ID, directory), inventory)) == []
    assert [hole.why for hole in inventory.end()] == [
        f"{path.name} cannot be read (Too many levels of symbolic links)"
    ]


def test_following_sees_only_what_comes_then(tmp_path: Path) -> None:
    write_trail(tmp_path, [an_event(b"/old")])
    follower = Follower(tmp_path)
    assert follower.poll() == []
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/new"), Audit.REQUIRED)
        assert seen(follower.poll()) == [b"/new"]
        assert follower.poll() == []


def test_following_goes_over_rotations_and_new_mounts(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    assert follower.poll() == []
    with a_journal(tmp_path, segment_bytes=2000) as journal:
        journal.record(an_event(b"/first"), Audit.REQUIRED)
        assert seen(follower.poll()) == [b"/first"]
        for number in range(20):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        assert seen(follower.poll()) == [b"/%d" % number for number in range(20)]


def test_following_puts_a_line_together_that_comes_in_pieces(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event(b"/one"), an_event(b"/two")])
    path = segments(directory)[0]
    whole = path.read_bytes()
    cut = whole.index(b'"path":"/two"')
    path.write_bytes(whole[:cut])
    follower = Follower(tmp_path)
    assert follower.poll() == []
    with path.open("ab") as stream:
        stream.write(whole[cut : cut + 10])
        stream.flush()
        assert follower.poll() == []
        stream.write(whole[cut + 10 :])
    assert seen(follower.poll()) == [b"/two"]


def test_following_waits_for_the_end_of_a_write_which_may_fail(tmp_path: Path) -> None:
    """The writer removes the lines of a failed write: they were shown, and then others at their place not."""
    directory = write_trail(tmp_path, [an_event(b"/one")])
    path = segments(directory)[0]
    follower = Follower(tmp_path)
    size = path.stat().st_size
    with path.open("r+b", buffering=0) as writer:
        fcntl.fcntl(writer, fcntl.F_OFD_SETLK, flock(fcntl.F_WRLCK, size))
        os.pwrite(writer.fileno(), b'{"seq":2,"never":"' + b"x" * 80 + b'"}\n{"seq"', size)
        assert follower.poll() == []
        os.ftruncate(writer.fileno(), size)
        os.pwrite(writer.fileno(), b'{"seq":2}\n{"seq":3}\n', size)
        fcntl.fcntl(writer, fcntl.F_OFD_SETLK, flock(fcntl.F_UNLCK, size))
    assert [item.place.line for item in follower.poll()] == [1, 2]
    assert follower.poll() == []


def test_following_survives_that_segments_go(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event(b"/%d" % n) for n in range(9)], segment_bytes=1500)
    follower = Follower(tmp_path)
    for path in segments(directory)[:-1]:
        path.unlink()
    assert follower.poll() == []
    os.rename(directory, tmp_path.parent / "gone")
    assert follower.poll() == []


@pytest.mark.parametrize("events", [1, 9])
def test_following_goes_on_after_the_trail_was_made_anew(tmp_path: Path, events: int) -> None:
    """events: of the old trail. Its newest file has the number 1, like the file of the new trail, or a larger
    one."""
    directory = write_trail(tmp_path, [an_event(b"/%d" % n) for n in range(events)], segment_bytes=1500)
    follower = Follower(tmp_path)
    shutil.rmtree(directory)
    assert follower.poll() == []
    clock = Clock()
    clock.forward(10)
    with a_journal(tmp_path, clock) as journal:
        for number in range(2):
            journal.record(an_event(b"/new%d" % number), Audit.REQUIRED)
            assert seen(follower.poll()) == [b"/new%d" % number]


def test_following_prints_no_old_lines_again_if_the_newest_segments_go(tmp_path: Path) -> None:
    clock = Clock()
    with a_journal(tmp_path, clock, segment_bytes=1500) as journal:
        for number in range(9):
            clock.forward(10)
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    follower = Follower(tmp_path)
    segments(tmp_path / MOUNT_ID)[-1].unlink()
    assert follower.poll() == []
