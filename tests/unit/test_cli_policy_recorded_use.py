"""What the trails tell of the use of a site: also what was opened long ago, and what was counted together."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.writing.accounts import Limits
from tests.support.mount.weeks import Asked, a_site, a_week, reads, record, renames
from tests.unit.test_cli_setup_tighten import APPS, POLICY, TOPS, answered, place

__all__ = ["place"]
WEEK = [one for one in a_week(random.Random(7), days=2) if one.app == "jellyfin"]


@pytest.mark.parametrize("syscall", ["open(O_RDWR)", "open(O_WRONLY)"])
def test_what_was_opened_before_and_is_still_written_counts(place: Path, syscall: str):
    long_ago = Asked(20.0, "jellyfin", "open", syscall, "/Music/library.db")
    site = a_site(place, POLICY, APPS, TOPS)
    record(place, [POLICY], [long_ago, *WEEK])
    said = answered(site)
    assert "take away create, delete in /Music? " in said.stdout, said


def test_what_was_opened_before_and_closed_does_not(place: Path):
    long_ago = Asked(20.0, "jellyfin", "open", "open(O_RDWR)", "/Music/library.db")
    closed = Asked(19.0, "jellyfin", "release", "close", "/Music/library.db")
    site = a_site(place, POLICY, APPS, TOPS)
    record(place, [POLICY], [long_ago, closed, *WEEK])
    said = answered(site)
    assert "take away write, create, delete, attr in /Films, /Music? " in said.stdout, said


def test_what_was_counted_together_may_have_been_anywhere_below(place: Path):
    site = a_site(place, POLICY, APPS, TOPS)
    flood = [reads("syncthing", f"/Films/{number}/film", 0.5) for number in range(400)]
    little = Limits(20_000, 20_000, 20_000, 20_000)
    record(place, [POLICY], [*WEEK, *flood], limits=little, audit=Audit.BEST_EFFORT)
    said = answered(site)
    assert "syncthing (on 1 day): read" in said.stdout
    assert "take away create, delete in /? " in said.stdout, said


@pytest.mark.parametrize("free", [False, True])
def test_moves_that_were_counted_together_cannot_be_replayed(place: Path, free: bool):
    text = POLICY.replace("syncthing: {}", "syncthing: {moves: free}") if free else POLICY
    site = a_site(place, text, APPS, TOPS)
    moved = [renames("syncthing", f"/Films/{at}/x", f"/Music/{at}/x", 0.5) for at in range(400)]
    little = Limits(20_000, 20_000, 20_000, 20_000)
    record(place, [text], [*WEEK, *moved], limits=little, audit=Audit.BEST_EFFORT)
    said = answered(site, "--yes")
    assert said.returncode == (0 if free else 1), said
    told = "nothing is proposed, because the trail counts moves by syncthing without their paths"
    assert (told in said.stdout) is not free
    assert ((place / "home.yaml").read_text() == text) is not free
    assert "id: tighten.syncthing" not in (place / "home.yaml").read_text()  # it may have moved anywhere
