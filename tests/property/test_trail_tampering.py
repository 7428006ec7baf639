"""`audit verify` on random trails: no alarm where only daemons wrote, and each manipulation by its name."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.support.machine.counts import count
from tests.support.mount.tampering import (
    MANIPULATIONS,
    Trail,
    copied,
    roll_back,
    roll_back_segment,
)
from tests.support.mount.trail import segments


def finished(root: Path, seed: int) -> Trail:
    """A trail of two daemons or three, with its checkpoint."""
    trail = Trail(root, random.Random(seed))
    trail.run(trail.rng.randrange(20, 50))
    copied(trail.directory, root / "older")
    if trail.rng.random() < 0.3:
        trail.keys.rotate()
    if trail.rng.random() < 0.3:
        trail.run(3)
        trail.crash()
    trail.run(trail.rng.randrange(20, 50))
    trail.note_end()
    return trail


@pytest.mark.parametrize("seed", range(count(2, 72)))
def test_each_manipulation_is_found_and_named(seed: int, tmp_path: Path) -> None:
    """A trail, and each manipulation of a copy of it: 15 for each seed.

    Attack D1.11: Cut the end off, with its seals, or put an older copy of the trail back
    Guard: policyfs/journal/sealing/checkpoint.py::checkpoint_of_chain
    Without: ::test_a_cut_end_is_not_found_without_a_checkpoint
    """
    trail = finished(tmp_path, seed)
    clean = trail.report()
    assert clean.whole, clean.breaks
    whole = copied(trail.directory, tmp_path / "whole")
    for manipulation in (*MANIPULATIONS, roll_back, roll_back_segment):
        shutil.rmtree(trail.directory)
        copied(whole, trail.directory)
        if manipulation in {roll_back, roll_back_segment}:
            expected = manipulation(trail, tmp_path / "older")
        else:
            expected = manipulation(trail)
        if expected is None:
            continue
        report = trail.report()
        name = f"{manipulation.__name__} of seed {seed}"
        assert not report.whole, name
        found = report.breaks[0]
        assert found.kind == expected.kind, (name, expected, report.breaks)
        if expected.segment is not None:
            assert found.place.segment == expected.segment, (name, expected, report.breaks)
        if expected.line is not None:
            assert found.place.line == expected.line, (name, expected, report.breaks)
        assert report.proven < clean.seq, name


def test_a_cut_end_is_not_found_without_a_checkpoint(tmp_path: Path) -> None:
    trail = finished(tmp_path, 1)
    older = tmp_path / "older"
    roll_back(trail, older)
    assert trail.report(checkpoint=False).whole
    assert trail.report().breaks[0].kind == "rolled back"


@pytest.mark.parametrize("seed", range(count(20, 1000)))
def test_no_alarm_about_a_trail_that_only_daemons_wrote(seed: int, tmp_path: Path) -> None:
    """Rotation, retention, crashes, steps of the clock, new keys, in any order."""
    rng = random.Random(f"clean {seed}")
    trail = Trail(tmp_path, rng)
    for _ in range(rng.randrange(1, 5)):
        trail.run(rng.randrange(0, 40), keep=rng.choice((0, 0, 3)))
        if rng.random() < 0.3:
            trail.crash()
            trail.run(0)  # a line that was cut is in doubt until the next daemon has begun
        if rng.random() < 0.3:
            trail.clock.forward(rng.choice((-86_400, -3, 3600)))
        if rng.random() < 0.2:
            trail.keys.rotate()
        if rng.random() < 0.5 and not trail.checkpoint:
            trail.note_end()
    report = trail.report(checkpoint=not trail.crashed)
    assert report.whole, report.breaks
    assert report.proven == report.seq
    assert len(segments(trail.directory)) == report.segments
