"""Cursors are whole or an error, never a guess."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from policyfs.errors import PolicyfsError
from policyfs.forward.alerts import Alert
from policyfs.forward.config import AlertDoc
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


def test_the_memory_of_an_alert_comes_back(tmp_path: Path) -> None:
    store = CursorStore(str(tmp_path))
    memory = {"holders": [["gallery", [[5, 1]]], [10011, []]]}
    store.save("alert", POSITIONS, memory)
    found: list[object] = []
    assert store.load("alert", found.append) == POSITIONS
    assert found == [memory]
    store.save("alert", POSITIONS)
    assert store.load("alert", found.append) == POSITIONS
    assert found == [memory]
    store.close()


@pytest.mark.parametrize(
    "memory",
    [
        "1",
        "{}",
        '{"condition": [6000000000, ""], "holders": 3}',
        '{"condition": [6000000000, ""], "holders": [1]}',
        '{"condition": [6000000000, ""], "holders": [["a", "x"]]}',
    ],
)
def test_a_damaged_memory_is_an_error(tmp_path: Path, memory: str) -> None:
    store = CursorStore(str(tmp_path))
    (tmp_path / "burst.cursor").write_text(f'{{"chains": {{}}, "memory": {memory}}}')
    doc = AlertDoc.model_validate({"id": "burst", "file": "/x", "on": "denials"})
    with pytest.raises(PolicyfsError, match="If you remove the file, burst begins as if it were new"):
        store.load("burst", Alert(doc, time.monotonic).recall)
    store.close()


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
