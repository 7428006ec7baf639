"""Legal holds: rotation leaves what they cover, and a damaged one covers everything."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.cli.main import main
from policyfs.domain import Audit
from policyfs.journal.files.holds import (
    HOLDS,
    Hold,
    add_hold,
    begin_ns,
    held,
    latest_ends,
    read_holds,
    remove_hold,
)
from policyfs.trail.lines.line import iso_time
from tests.support.mount.trail import (
    MOUNT_ID,
    START_NS,
    Clock,
    a_journal,
    an_event,
    kinds,
    segments,
    verified,
)

HOUR_NS = 3_600_000_000_000
NAMES = [f"{number:08d}-20260301T{7 + number:02d}0000Z.jsonl" for number in range(1, 6)]


def a_hold(since_h: float | None = None, until_h: float | None = None) -> Hold:
    """Hours after 08:00, when the first of NAMES begins."""
    times = [iso_time(START_NS + round(h * HOUR_NS)) if h is not None else "" for h in (since_h, until_h)]
    return Hold("case", times[0], times[1], "", iso_time(START_NS))


@pytest.mark.parametrize(
    ("hold", "numbers"),
    [
        (a_hold(), [1, 2, 3, 4, 5]),
        (a_hold(1.5, 1.6), [2, 3]),
        (a_hold(1.5, 2.5), [2, 3, 4]),
        (a_hold(None, 0.5), [1, 2]),
        (a_hold(3.5, None), [4, 5]),
        (a_hold(-3, -2), []),
    ],
)
def test_the_segments_of_a_period_are_held(hold: Hold, numbers: list[int]) -> None:
    """The one after the period, too: it may have events that waited in the queue."""
    assert sorted(held([hold], NAMES)) == [NAMES[number - 1] for number in numbers]


def test_segments_that_the_queue_filled_at_once_are_held() -> None:
    filled = [f"0000000{number}-20260301T1300{number:02d}Z.jsonl" for number in (6, 7, 8)]
    later = "00000009-20260301T140000Z.jsonl"
    assert sorted(held([a_hold(4.5, 4.6)], [*NAMES, *filled, later])) == [NAMES[4], *filled]


def test_events_of_a_removed_segments_time_may_be_in_the_oldest_segment() -> None:
    assert sorted(held([a_hold(-3, -2)], NAMES[1:])) == [NAMES[1]]


def test_events_that_waited_for_a_full_disk_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    with a_journal(tmp_path, clock, segment_bytes=2000, sync_ns=0) as journal:
        while journal.stats().bytes < 2000:
            journal.record(an_event(time_ns=clock.now_ns), Audit.REQUIRED)
        with monkeypatch.context() as full:
            full.setattr(journal._writer._directory, "create", _no_space)
            clock.forward(3600)
            journal.admit(an_event(b"/waits", time_ns=clock.now_ns), Audit.BEST_EFFORT)
            journal.flush()
            assert journal.stats().queued == 1
        clock.forward(7200)
        journal.flush()
        for _ in range(3):
            clock.forward(3600)
            for _ in range(6):
                journal.record(an_event(time_ns=clock.now_ns), Audit.REQUIRED)
    names = [path.name for path in segments(tmp_path / MOUNT_ID)]
    [late] = [path.name for path in segments(tmp_path / MOUNT_ID) if b"/waits" in path.read_bytes()]
    kept = held([a_hold(0.9, 1.1)], names)
    assert late in kept
    assert len(kept) < len(names)


def _no_space(name: str) -> int:
    raise OSError(errno.ENOSPC, name)


def rotated(root: Path, clock: Clock, rounds: int) -> Path:
    """Record a segment a minute, of which two are to be kept."""
    with a_journal(root, clock, segment_bytes=2000, keep=2) as journal:
        for _ in range(rounds):
            for _ in range(4):
                journal.record(an_event(time_ns=clock.now_ns), Audit.REQUIRED)
            clock.forward(240)
            journal.flush()
    return root / MOUNT_ID


def test_rotation_leaves_what_is_held_until_the_hold_is_removed(tmp_path: Path) -> None:
    clock = Clock()
    directory = rotated(tmp_path, clock, 1)
    first = segments(directory)[0]
    add_hold(directory, a_hold(None, 0.001))
    rotated(tmp_path, clock, 12)
    assert first.exists()
    assert len(segments(directory)) < 8
    remove_hold(directory, "case")
    rotated(tmp_path, clock, 2)
    assert not first.exists()


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"name":1}', b"\xff", b"[" * 100_000])
def test_a_damaged_hold_holds_everything(tmp_path: Path, text: bytes) -> None:
    add_hold(tmp_path, a_hold(1.5, 1.6))
    (tmp_path / HOLDS / "case").write_bytes(text)
    [found] = read_holds(tmp_path)
    assert held([found], NAMES) == set(NAMES)


def test_a_hold_that_is_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        add_hold(tmp_path, a_hold()._replace(name=name))
    listdir = os.listdir

    def removed(path: Path) -> list[str]:
        names = listdir(path)
        remove_hold(tmp_path, "a")
        return names

    monkeypatch.setattr(os, "listdir", removed)
    assert [hold.name for hold in read_holds(tmp_path)] == ["b"]


def test_a_hold_that_leads_nowhere_is_not_skipped(tmp_path: Path) -> None:
    (tmp_path / HOLDS).mkdir()
    (tmp_path / HOLDS / "case").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        read_holds(tmp_path)


def test_the_command_adds_lists_and_removes_on_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = rotated(tmp_path, Clock(), 1)
    hold = ["audit", "hold", "--trail", str(tmp_path)]
    assert main([*hold, "list"]) == 1
    assert main([*hold, "add", "case", "--since", "2026-03-01", "--reason", "asked for"]) == 0
    assert main([*hold, "add", "case"]) == 1
    assert "has this hold already" in capsys.readouterr().err
    assert main([*hold, "list"]) == 0
    assert "case  2026-0" in capsys.readouterr().out
    assert main([*hold, "remove", "case"]) == 0
    assert main([*hold, "remove", "case"]) == 1
    assert main([*hold, "add", "../x"]) == 2
    assert main([*hold, "add", "case", "--until", "some day"]) == 2
    assert kinds(directory).count("hold") == 2
    assert verified(directory).whole


def test_a_wrong_clock_in_a_name_hides_no_segment_from_a_hold() -> None:
    """A machine without a battery begins a segment with the time of 2001, until it knows the time."""
    before, wrong, after = NAMES[0], "00000002-20010101T000000Z.jsonl", NAMES[2]
    assert {before, wrong} <= held([a_hold(1, 1.5)], [before, wrong, after])
    # The clock was a day ahead when the second segment began, and was set right in it.
    ahead = "00000002-20260302T080000Z.jsonl"
    assert {before, ahead} <= held([a_hold(1, 1.5)], [before, ahead, after])


def test_a_segment_ends_when_the_next_begins_under_a_right_clock() -> None:
    early, ahead = "00000002-20010101T000000Z.jsonl", "00000002-20990101T000000Z.jsonl"
    now_ns = begin_ns(NAMES[4])
    assert latest_ends(NAMES)[:4] == [begin_ns(name) for name in NAMES[1:]]
    for wrong in (early, ahead):
        names = [NAMES[0], wrong, NAMES[2], NAMES[3]]
        assert latest_ends(names, now_ns)[:3] == [begin_ns(NAMES[n]) for n in (2, 2, 3)]
    for names in (NAMES[:1], [NAMES[0], early]):
        assert min(latest_ends(names)) > begin_ns(ahead), "not known: it may still be written"


def test_a_removed_directory_has_no_segment_to_keep() -> None:
    assert held([Hold("case", "", "", "", "")], []) == frozenset()
