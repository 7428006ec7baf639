"""The rights of a systemd service in a library: by its unit's settings, and tried as its user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.cli.setup import unit_rights
from policyfs.cli.setup.unit_rights import Bind, UnitRights, _settings, rights_of
from policyfs.errors import PolicyfsError
from policyfs.linux import interpreter
from tests.unit.test_cli_machine_running_containers import script

UID, GROUP = 1234, 4321


@pytest.fixture
def store(arena: Path) -> Path:
    """A library that a user may read, with directories that the user, its group, all or nobody may change."""
    store = arena / "media"
    for name, uid, gid, mode in (
        ("Films", 0, 0, 0o755), ("Music", UID, 0, 0o755), ("Group", 0, GROUP, 0o775),
        ("Deep/in", 0, 0, 0o777), ("Closed", 0, 0, 0o700),
    ):  # fmt: skip
        (store / name).mkdir(parents=True)
        os.chown(store / name, uid, gid)
        (store / name).chmod(mode)
    (store / "link").symlink_to(store / "Music")
    return store


def rights(store: Path, monkeypatch: pytest.MonkeyPatch, **settings: list[str]) -> UnitRights:
    every = {key: settings.get(key, []) for key in (*unit_rights._WORDS, *unit_rights._LISTS)}
    monkeypatch.setattr(unit_rights, "_settings", lambda _: every)
    return rights_of("player.service", str(store))


def test_what_its_user_can_change(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = {"User": ["nobody"]}
    assert rights(store, monkeypatch).shares == {"/": True}, "root"
    assert rights(store, monkeypatch, **user).shares == {"/": False, "/Deep": True}
    with_group = rights(store, monkeypatch, **user, SupplementaryGroups=[str(GROUP)])
    assert with_group.shares == {"/": False, "/Deep": True, "/Group": True}
    assert rights(store, monkeypatch, **user, Group=[str(GROUP)]) == with_group
    monkeypatch.setattr(unit_rights, "_MOST_NAMES", 0)
    assert "/Closed" not in rights(store, monkeypatch, **user).shares
    assert os.geteuid() == 0, "only the child is another user"
    with pytest.raises(PolicyfsError, match="cannot be tried"):
        rights(store, monkeypatch, User=["no-such-user"])
    monkeypatch.setattr(unit_rights, "_MOST_S", 0)
    assert rights(store, monkeypatch, **user).shares == {"/": True}, "in no time nothing is found"
    monkeypatch.setattr(unit_rights, "_MOST_S", 30)
    store.chmod(0o700)
    assert rights(store, monkeypatch, **user) == UnitRights({}, False, ())


def test_what_its_settings_leave(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = {"ProtectSystem": ["strict"]}
    assert rights(store, monkeypatch, **strict) == UnitRights({"/": False}, True)
    free = rights(store, monkeypatch, **strict, ReadWritePaths=[f"{store}/Music"])
    assert free == UnitRights({"/": False, "/Music": True}, True)
    assert rights(store, monkeypatch, **strict, ReadWritePaths=[str(store.parent)]).shares == {"/": True}
    assert rights(store, monkeypatch, ReadOnlyPaths=[str(store.parent)]).read_only
    hidden = {"InaccessiblePaths": [str(store)]}
    assert rights(store, monkeypatch, **hidden).shares == {}
    bound = rights(store, monkeypatch, **hidden, BindPaths=[f"{store}:/media:rbind"])
    assert (bound.shares, bound.binds) == ({"/": True}, (Bind("/media", str(store), False),))
    monkeypatch.setattr(unit_rights, "_HOMES", (str(store.parent),))
    assert rights(store, monkeypatch, ProtectHome=["yes"]).shares == {}
    assert rights(store, monkeypatch, ProtectHome=["read-only"]).shares == {"/": False}


def test_settings_are_those_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "systemctl", "echo User=mpd; echo 'ReadOnlyPaths=-/srv +/mnt'; echo Other=1")
    monkeypatch.setattr(interpreter, "PATH", str(tmp_path))
    monkeypatch.setattr(unit_rights, "_BOOTED", str(tmp_path))
    found = _settings("mpd.service")
    assert (found["User"], found["ReadOnlyPaths"], found["BindPaths"]) == (["mpd"], ["/srv", "/mnt"], [])
    monkeypatch.undo()
    monkeypatch.setattr(unit_rights, "program", lambda _: None)
    assert _settings("no-such.service")["User"] == []
