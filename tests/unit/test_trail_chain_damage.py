"""The diagnosis of a segment that does not hold: the first bad line, and what was done to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.trail.chain import chain
from policyfs.trail.chain.damage import DELETED, EDITED, INSERTED, REORDERED, diagnose
from tests.support.mount.trail import an_event, segments, write_trail

Lines = list[bytes]


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """A header, eight events, and the end."""
    [path] = segments(write_trail(tmp_path, [an_event(b"/%d" % number) for number in range(8)]))
    return path.read_bytes().splitlines(keepends=True)


def body_of(line: bytes) -> bytes:
    sealed = chain.split(line[:-1])
    assert sealed is not None
    return sealed.body


def digest_of(line: bytes) -> str:
    sealed = chain.split(line[:-1])
    assert sealed is not None
    return sealed.chain


def forged(before: bytes, like: bytes) -> bytes:
    """A line that continues another, like a third."""
    return chain.seal(digest_of(before), body_of(like).replace(b"/DCIM", b"/dcim").replace(b"/3", b"/x"))[0]


CASES: dict[str, tuple[Callable[[Lines], Lines], str, int]] = {
    "edited": (lambda all_: [*all_[:4], all_[4].replace(b"/3", b"/x"), *all_[5:]], EDITED, 5),
    "edited so that it is no line": (lambda all_: [*all_[:4], b"x" + all_[4][1:], *all_[5:]], EDITED, 5),
    "its number edited": (
        lambda all_: [*all_[:4], all_[4].replace(b'"seq":5', b'"seq":7'), *all_[5:]], EDITED, 5,
    ),
    "its digest edited": (
        lambda all_: [*all_[:4], all_[4][:-10] + b"0000000" + all_[4][-3:], *all_[5:]], EDITED, 5,
    ),
    "one deleted": (lambda all_: all_[:4] + all_[5:], DELETED, 5),
    "three deleted": (lambda all_: all_[:4] + all_[7:], DELETED, 5),
    "the header deleted": (lambda all_: all_[1:], DELETED, 1),
    "a copy inserted": (lambda all_: [*all_[:4], all_[2], *all_[4:]], INSERTED, 5),
    "a copy of a later one inserted": (lambda all_: [*all_[:4], all_[7], *all_[4:]], INSERTED, 5),
    "garbage inserted": (lambda all_: [*all_[:4], b"garbage\n", *all_[4:]], INSERTED, 5),
    "a fitting one inserted": (lambda all_: [*all_[:4], forged(all_[3], all_[4]), *all_[4:]], INSERTED, 5),
    "garbage of many brackets inserted": (
        lambda all_: [*all_[:4], b"[" * 100_000 + b"\n", *all_[4:]], INSERTED, 5,
    ),
    "garbage at the end": (lambda all_: [*all_, b"garbage\n"], INSERTED, 11),
    "neighbours swapped": (lambda all_: [*all_[:4], all_[5], all_[4], *all_[6:]], REORDERED, 5),
    "distant ones swapped": (
        lambda all_: [*all_[:2], all_[7], *all_[3:7], all_[2], *all_[8:]], REORDERED, 3,
    ),
    "one moved back": (lambda all_: [*all_[:2], *all_[3:8], all_[2], *all_[8:]], REORDERED, 3),
    "all reversed": (lambda all_: [all_[0], *reversed(all_[1:])], REORDERED, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_first_bad_line_and_the_kind(lines: Lines, name: str) -> None:
    change, kind, line = CASES[name]
    found = diagnose(change(lines), 0, chain.GENESIS)
    assert [(one.kind, one.line) for one in found.findings] == [(kind, line)]
    assert found.findings[0].before == line - 1


def test_nothing_is_found_where_nothing_was_done(lines: Lines) -> None:
    found = diagnose(lines, 0, chain.GENESIS)
    assert (found.findings, found.seq, found.head) == ([], 10, digest_of(lines[-1]))


def test_it_goes_on_behind_a_damage(lines: Lines) -> None:
    lines[2] = lines[2].replace(b"/1", b"/x")
    del lines[6]
    found = diagnose(lines, 0, chain.GENESIS)
    assert [(one.kind, one.line) for one in found.findings] == [(EDITED, 3), (DELETED, 7)]
    assert (found.seq, found.head) == (10, digest_of(lines[-1]))


def test_who_gives_a_changed_line_its_digest_is_told_by_the_seal_alone(lines: Lines) -> None:
    changed = [*lines[:4], forged(lines[3], lines[4]), *lines[5:]]
    unsealed = diagnose(changed, 0, chain.GENESIS).findings[0]
    assert (unsealed.line, "or the previous line and its digest were changed" in unsealed.what) == (6, True)
    sealed = diagnose(changed, 0, chain.GENESIS, digests_sealed=False).findings[0]
    assert (sealed.line, sealed.kind) == (5, EDITED)


def test_a_number_that_cannot_be_printed_is_not_in_a_finding(lines: Lines) -> None:
    lines[-2:] = [b'{"seq":%b}\n' % (b"9" * 4300), b"junk\n"]
    found = diagnose(lines, 0, chain.GENESIS)
    assert all(one.before < 20 and len(one.what) < 200 for one in found.findings)
    assert len(found.findings) == 2


def test_there_is_no_end_of_findings() -> None:
    assert len(diagnose([b"x\n"] * 5000, 0, chain.GENESIS).findings) == 100


def test_a_copy_of_the_line_after_the_segment_is_told_from_a_moved_line_by_the_seal(lines: Lines) -> None:
    segment, after = lines[:6], lines[6]
    changed = [*segment[:3], after, *segment[3:]]
    found = diagnose(changed, 0, chain.GENESIS, digests_sealed=False, last_seq=6).findings[0]
    assert (found.kind, found.line) == (INSERTED, 4)
