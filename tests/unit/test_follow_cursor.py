"""A cursor is whole or an error, never a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.errors import PolicyfsError
from policyfs.follow.cursor import Cursor, Positions
from policyfs.follow.follower import Position

POSITIONS: Positions = {"0123": Position("00000001-x.jsonl", 12, 1, 3, "ab" * 32, "2026"), "4567": None}


def test_positions_come_back(tmp_path: Path) -> None:
    assert Cursor(str(tmp_path / "state/cursor")).load() is None
    Cursor(str(tmp_path / "other/cursor")).save(POSITIONS)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_only_one_reader_has_it(tmp_path: Path) -> None:
    first = Cursor(str(tmp_path / "cursor"))
    first.save(POSITIONS)
    with pytest.raises(PolicyfsError, match="another"):
        Cursor(str(tmp_path / "cursor"))
    assert first.load() == POSITIONS


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"chains": {"a": {}}}', '{"chains": [1]}', '{"chains": {"a": {"segment": 1}}}', "[" * 99_000],
)
def test_a_damaged_one_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "cursor").write_text(text)
    with pytest.raises(PolicyfsError, match="If you remove it, all lines come again"):
        Cursor(str(tmp_path / "cursor")).load()
