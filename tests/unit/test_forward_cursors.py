"""Cursors are whole or an error, never a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.errors import PolicyfsError
from policyfs.forward.cursors import CursorStore
from policyfs.forward.follower import Position

POSITIONS = {"0123": Position("00000001-x.jsonl", 12, 3, "ab" * 32, "2026"), "4567": Position()}


def test_they_come_back(tmp_path: Path) -> None:
    store = CursorStore(str(tmp_path / "state"))
    assert store.load("sink") is None
    store.save("sink", POSITIONS)
    store.close()
    assert CursorStore(str(tmp_path / "state")).load("sink") == POSITIONS
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_only_one_forwarder_has_them(tmp_path: Path) -> None:
    store = CursorStore(str(tmp_path))
    with pytest.raises(PolicyfsError, match="another"):
        CursorStore(str(tmp_path))
    store.close()
    CursorStore(str(tmp_path)).close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"chains": {"a": {}}}',
        '{"chains": [1]}',
        '{"chains": {"a": {"segment": 1}}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_one_is_an_error(tmp_path: Path, text: str) -> None:
    store = CursorStore(str(tmp_path))
    (tmp_path / "sink.cursor").write_text(text)
    with pytest.raises(PolicyfsError, match="If you remove the file, sink begins as if it were new"):
        store.load("sink")
    store.close()
