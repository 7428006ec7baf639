"""Everything that can be done to a trail behind its back, and the place that is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.trail.chain import chain
from tests.support.mount.trail import (
    MOUNT_ID,
    Clock,
    a_journal,
    an_event,
    read_all,
    segments,
    verified,
    write_trail,
)


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """Four segments or more, of several events each."""
    events = [an_event(b"/DCIM/%02d.jpg" % number) for number in range(24)]
    return write_trail(tmp_path, events, segment_bytes=4096)


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def first_break(directory: Path) -> tuple[str, int]:
    report = verified(directory)
    assert not report.whole
    place = report.breaks[0].place
    return place.segment, place.line


def test_an_untouched_trail_is_whole(trail: Path) -> None:
    report = verified(trail)
    assert report.whole
    assert report.segments == len(segments(trail)) >= 4
    assert report.records == 24 + report.segments + 1
    assert report.notes == ()


def flipped(digits: bytes) -> bytes:
    return b"%02x" % (int(digits, 16) ^ 1)


Attack = Callable[[list[bytes]], list[bytes]]

ATTACKS: dict[str, tuple[Attack, int]] = {
    "a byte changed": (lambda lines: [*lines[:3], lines[3].replace(b"allow", b"deny "), *lines[4:]], 4),
    "a digest changed": (
        lambda lines: [*lines[:3], lines[3][:-5] + flipped(lines[3][-5:-3]) + b'"}\n', *lines[4:]],
        4,
    ),
    "a line deleted": (lambda lines: lines[:3] + lines[4:], 4),
    "the header deleted": (lambda lines: lines[1:], 1),
    "lines swapped": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], 3),
    "a line doubled": (lambda lines: [*lines[:3], lines[2], *lines[3:]], 4),
    "a line added": (lambda lines: [*lines[:3], b'{"type":"event"}\n', *lines[3:]], 4),
    "an empty line added": (lambda lines: [*lines[:3], b"\n", *lines[3:]], 4),
    "garbage added": (lambda lines: [*lines[:3], b"\xff\x00garbage\n", *lines[3:]], 4),
    "the last line cut in half": (lambda lines: [*lines[:-1], lines[-1][:50]], -1),
    "a line made of spaces": (lambda lines: [*lines[:3], b" " * (len(lines[3]) - 1) + b"\n", *lines[4:]], 4),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_line_is_named(trail: Path, name: str) -> None:
    attack, line = ATTACKS[name]
    path = segments(trail)[1]
    before = lines_of(path)
    path.write_bytes(b"".join(attack(before)))
    assert first_break(trail) == (path.name, line if line > 0 else len(before))


def test_a_header_within_a_segment_is_named_even_if_its_digest_fits(trail: Path) -> None:
    path = segments(trail)[-1]
    lines = lines_of(path)
    sealed = chain.split(lines[-1][:-1])
    assert sealed is not None
    seq = chain.seq_of(sealed.body)
    assert seq is not None
    time = b"2026-03-01T08:00:00.000000000Z"
    header, _ = chain.seal(sealed.chain, b'{"type":"header","seq":%d,"time":"%b"' % (seq + 1, time))
    path.write_bytes(b"".join([*lines, header]))
    assert first_break(trail) == (path.name, len(lines) + 1)


def test_a_truncated_segment_shows_at_the_next_header(trail: Path) -> None:
    path, following = segments(trail)[1:3]
    path.write_bytes(b"".join(lines_of(path)[:-2]))
    assert first_break(trail) == (following.name, 1)


def test_a_segment_emptied_shows_at_the_next_header(trail: Path) -> None:
    path, following = segments(trail)[1:3]
    path.write_bytes(b"")
    assert first_break(trail) == (following.name, 1)


def test_a_deleted_segment_is_missed(trail: Path) -> None:
    segments(trail)[1].unlink()
    report = verified(trail)
    assert report.breaks[0].what == "segment 2 is missing before this segment"
    assert report.breaks[0].place.segment == segments(trail)[1].name


def test_deleted_oldest_segments_are_missed(trail: Path) -> None:
    for path in segments(trail)[:2]:
        path.unlink()
    report = verified(trail)
    assert [found.place.segment for found in report.breaks] == [segments(trail)[0].name]
    assert "1 to 2" in report.breaks[0].what


def test_what_rotation_removed_is_not_missed_but_one_more_is(tmp_path: Path) -> None:
    clock = Clock()
    with a_journal(tmp_path, clock, segment_bytes=3000, keep=4) as journal:
        for _ in range(60):
            journal.record(an_event(), Audit.REQUIRED)
            clock.forward(2)
            journal.flush()
    directory = tmp_path / "0123456789abcdef"
    assert len(segments(directory)) in {4, 5}  # the record of a removal may itself begin a segment
    assert verified(directory).whole
    segments(directory)[0].unlink()
    assert "no rotation removed them" in verified(directory).breaks[0].what


def test_segments_that_changed_places_are_noticed(trail: Path) -> None:
    second, third = segments(trail)[1:3]
    shutil.move(second, trail / "swap")
    shutil.move(third, second)
    shutil.move(trail / "swap", third)
    assert first_break(trail) == (second.name, 1)


def test_a_segment_of_another_mount_is_noticed(tmp_path: Path, trail: Path) -> None:
    other = write_trail(tmp_path / "other", [an_event(b"/%d" % n) for n in range(24)], segment_bytes=4096)
    shutil.copy(segments(other)[1], segments(trail)[1])
    assert first_break(trail)[0] == segments(trail)[1].name


def reseal(directory: Path, *, first_segment: int, first_line: int, last_segment: int) -> None:
    """Change one line and make a new chain from there, as whoever can write the files could."""
    previous = chain.GENESIS
    for number, path in enumerate(segments(directory), start=1):
        resealed = []
        for line, raw in enumerate(lines_of(path), start=1):
            sealed = chain.split(raw[:-1])
            assert sealed is not None
            body = sealed.body
            if (number, line) == (first_segment, first_line):
                body = body.replace(b"/DCIM/", b"/dcim/")
            if first_segment < number <= last_segment and line == 1:
                stated = body.index(b'"previous":"') + len(b'"previous":"')
                body = body[:stated] + previous.encode() + body[stated + 64 :]
            if (first_segment, first_line) <= (number, line) and number <= last_segment:
                raw, previous = chain.seal(previous, body)
            else:
                previous = sealed.chain
            resealed.append(raw)
        path.write_bytes(b"".join(resealed))


def test_a_segment_sealed_anew_shows_at_the_next_header(trail: Path) -> None:
    reseal(trail, first_segment=2, first_line=3, last_segment=2)
    assert first_break(trail) == (segments(trail)[2].name, 1)


def test_a_chain_sealed_anew_to_its_end_shows_only_against_a_digest_kept_elsewhere(trail: Path) -> None:
    kept = verified(trail)
    reseal(trail, first_segment=2, first_line=3, last_segment=len(segments(trail)))
    assert verified(trail).whole
    report = verified(trail, expect={kept.seq: kept.head})
    assert "sealed again" in report.breaks[0].what
    assert report.breaks[0].place.segment == segments(trail)[-1].name


def test_a_shortened_chain_shows_only_against_a_digest_kept_elsewhere(trail: Path) -> None:
    kept = verified(trail)
    segments(trail)[-1].unlink()
    assert verified(trail).whole
    report = verified(trail, expect={kept.seq: kept.head})
    assert f"seq {kept.seq}" in report.breaks[0].what


def test_a_forged_beginning_is_noticed(trail: Path) -> None:
    """The first segments deleted, the next renamed to be the first."""
    first, second = segments(trail)[:2]
    shutil.move(second, first)
    assert first_break(trail) == (first.name, 1)


def test_a_recovered_record_excuses_only_the_bytes_it_names(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event(), an_event()])
    path = segments(directory)[0]
    path.write_bytes(path.read_bytes()[:-40])
    write_trail(tmp_path, [])
    assert verified(directory).whole
    path.write_bytes(path.read_bytes()[:-1])
    assert first_break(directory)[0] == path.name


def test_there_is_no_end_of_breaks_in_a_report(trail: Path) -> None:
    path = segments(trail)[0]
    path.write_bytes(b"x\n" * 5000)
    assert len(verified(trail).breaks) == 100


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_goes_back_is_on_record_and_no_alarm(tmp_path: Path, *, restarted: bool) -> None:
    clock = Clock()
    with a_journal(tmp_path, clock) as journal:
        journal.record(an_event(time_ns=clock.now_ns), Audit.REQUIRED)
        if not restarted:
            clock.forward(-3600)
            journal.tell("others", {"chains": {}})
    if restarted:
        clock.forward(-3600)
        write_trail(tmp_path, [], clock=clock)
    directory = tmp_path / MOUNT_ID
    [step] = [record for record in read_all(directory) if record.kind == "clock"]
    assert step.fields["seconds"] == 3600
    assert verified(directory).whole


def test_a_time_that_goes_back_without_a_record_of_it_is_named(trail: Path) -> None:
    path = segments(trail)[0]
    lines = lines_of(path)
    body = chain.split(lines[0][:-1])
    assert body is not None
    lines[0], head = chain.seal(chain.GENESIS, body.body.replace(b'"time":"2026', b'"time":"2027'))
    for number, raw in enumerate(lines[1:], start=1):
        sealed = chain.split(raw[:-1])
        assert sealed is not None
        lines[number], head = chain.seal(head, sealed.body)
    seq = len(lines) + 1
    extra = b'{"type":"others","seq":%d,"time":"2026-03-01T08:00:00.000000000Z","chains":{}' % seq
    path.write_bytes(b"".join([*lines, chain.seal(head, extra)[0]]))
    for other in segments(trail)[1:]:
        other.unlink()
    report = verified(trail)
    assert [(found.kind, found.place.line) for found in report.breaks] == [("clock", len(lines) + 1)]
