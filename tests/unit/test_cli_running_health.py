"""Problems of a mount: a sound one has none, and each defect is one sentence."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.machine.findings import Finding, State
from policyfs.cli.running import health
from policyfs.cli.running.health import problems
from policyfs.linux.code_digest import VERSION, code_digest


def sound(store: Path) -> dict[str, Any]:
    store.chmod(0o700)
    return {
        "leaving": False,
        "store": str(store),
        "version": VERSION, "code": code_digest(),
        "trail": {"directory": "/var/log/policyfs/x", "failing": False, "dropped": 0},
        "quarantine": {"dropped": 0},
        "passthrough": {"enabled": True, "why_not": ""},
        "watch": {"running": True},
        "contained": {"missing": []},
        "sniffer": {"last_loss_ns": 0, "failed": {}},
        "bugs": 0,
    }


def test_a_sound_mount_has_none(tmp_path: Path) -> None:
    assert list(problems(sound(tmp_path))) == []


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"leaving": True}, "processes still use the mount"),
        ({"trail": {"failing": True, "directory": "/t", "last_error": "full"}}, "/t cannot be written: full"),
        ({"trail": {"dropped": 3}}, "3 events are not on the trail"),
        ({"trail": {"kept_back": "rotation has stopped"}}, "rotation has stopped"),
        ({"quarantine": {"dropped": 2}}, "2 refused files are lost"),
        ({"passthrough": {"enabled": False, "why_not": "old kernel"}}, "no passthrough: old kernel"),
        ({"watch": {"running": False}}, "the store is not watched"),
        ({"contained": {"missing": ["landlock"]}}, "not contained: landlock"),
        ({"code": "0123", "version": "0.0.1"}, "version 0.0.1 (code 0123), but"),
        ({"code": None}, "is installed: unmount, and mount again"),
        ({"code": None, "options": {"foreground": True}}, "is installed: restart its unit"),
        ({"code": None, "options": {"foreground": True}, "takeover": {"keeper": 7}}, ": reload its unit"),
        ({"takeover": {"possible": False, "why_not": "no keeper"}}, "the mount ends: no keeper"),
        ({"takeover": {"possible": True, "unsaved": 3, "unsaved_of": "tv"}}, "3 files and directories"),
        ({"takeover": {"unsaved": 3, "unsaved_of": None}}, "somebody uses more than"),
        ({"bugs": 1}, "(bugs of policyfs): 1; see"),
        ({"watch": None}, "the store is not watched"),
    ],
)
def test_each_defect_is_told(tmp_path: Path, part: dict[str, Any], told: str) -> None:
    [sentence] = problems(sound(tmp_path) | part)
    assert told in sentence


def test_passthrough_that_was_switched_off_is_none(tmp_path: Path) -> None:
    off = {"passthrough": {"enabled": False, "why_not": "switched off (--no-passthrough)"}}
    assert list(problems(sound(tmp_path) | off)) == []


@pytest.mark.parametrize(("ago_s", "count"), [(10, 1), (3600, 0)])
def test_workers_that_died_are_told_for_some_minutes(tmp_path: Path, ago_s: int, count: int) -> None:
    lost = {
        "last_loss_ns": time.time_ns() - ago_s * 1_000_000_000,
        "failed": {"killed": 2, "late": 1, "odd": None}, "last_error": "killed",
    }  # fmt: skip
    found = list(problems(sound(tmp_path) | {"sniffer": lost}))
    assert len(found) == count
    assert all("3 requests failed; the last error: killed" in sentence for sentence in found)


def test_a_store_that_apps_can_reach_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("store mode", State.OFF, "users other than root can reach it", "chmod 700")
    monkeypatch.setattr(health, "check_closed", lambda store: finding)
    assert list(problems(sound(tmp_path))) == ["users other than root can reach it: chmod 700"]


def test_a_store_that_does_not_answer_is_told_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server is dead, and stat(2) waits for ever."""
    monkeypatch.setattr(health, "check_closed", lambda store: time.sleep(60))
    monkeypatch.setattr(health, "_STORE_S", 0.1)
    hung: set[str] = set()
    told = [f"the store {tmp_path} does not answer within 0.1 s"]
    assert list(problems(sound(tmp_path), hung)) == told
    monkeypatch.setattr(health, "look", lambda *_: pytest.fail("a second mount of it waits again"))
    assert list(problems(sound(tmp_path), hung)) == told


def test_a_daemon_that_has_ended_meanwhile_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: object) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(health, "store_problems", gone)
    assert list(problems(sound(tmp_path))) == []


def test_a_store_that_is_not_here_is_no_problem(tmp_path: Path) -> None:
    assert list(problems(sound(tmp_path) | {"store": str(tmp_path / "elsewhere")})) == []
