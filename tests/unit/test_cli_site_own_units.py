"""Units of policyfs are known by the site file that they name, never by their names alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli.running import unit_upgrade
from policyfs.cli.setup import library_users
from policyfs.cli.site.own_units import is_own, maker, remove_misplaced
from policyfs.errors import PolicyfsError
from policyfs.linux.services import is_enabled, services
from tests.support.mount.daemons import Said, policyfs

PLAYER = "[Service]\nUser=jellyfin\nExecStart=/bin/true\n"
OWN = "policyfs-first-jellyfin.service"
MINE = "policyfs-jellyfin.service"


def write(place: Path, name: str, app: str = "jellyfin", service: str = "jellyfin.service") -> str:
    """Write a site file. Return its path."""
    path = place / f"{name}.site.yaml"
    path.write_text(
        f"{{apiVersion: policyfs/v1, kind: Site, name: {name}, store: /srv/{name}, policy: /etc/p.yaml,"
        f" mounts: [{{app: {app}, service: {service}, path: /media}}]}}"
    )
    return str(path)


def unit(to: Path, site: str) -> Said:
    return policyfs("unit", "--to", str(to), site)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    """A directory of units: of a site, of a player, and one of the user with a name like policyfs's."""
    to = tmp_path / "units"
    assert unit(to, write(tmp_path, "first")).returncode == 0
    (to / "jellyfin.service").write_text(PLAYER)
    (to / MINE).write_text(PLAYER)
    (to / OWN).write_text((to / OWN).read_text().replace("Type=", "User=jellyfin\nType="))  # as its worker
    (to / "emby.service").write_text((to / OWN).read_text())  # copied, to write another service
    return to


def misplace(to: Path, service: str, site: str = "second") -> Path:
    """Write the drop-in of a second site as older code did."""
    path = to / f"{service}.d/policyfs-{site}.conf"
    path.parent.mkdir(exist_ok=True)
    path.write_text((to / "jellyfin.service.d/policyfs-first.conf").read_text().replace("first", site))
    return path


def test_mounts_of_other_libraries_are_no_users(to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_users, "services", lambda: services([str(to)]))
    monkeypatch.setattr(library_users, "processes", lambda: iter(()))
    monkeypatch.setattr(library_users, "is_own", lambda name: is_own(name, [str(to)]), raising=False)
    monkeypatch.setattr(library_users, "is_enabled", lambda name: is_enabled(name, [str(to)]))
    (to / "plex.service").write_text(PLAYER)  # installed, but disabled
    wants = to / "multi-user.target.wants"
    wants.mkdir()
    for name in ("emby.service", "jellyfin.service", MINE, OWN):
        (wants / name).symlink_to(to / name)
    assert library_users.likely_units() == ["emby.service", "jellyfin.service", MINE]


def test_a_mount_of_policyfs_gets_no_mount(to: Path, tmp_path: Path) -> None:
    said = unit(to, write(tmp_path, "second", service=OWN))
    assert said.returncode == 1
    assert f"{OWN} is a mount of policyfs itself: remove it from the site" in said.stderr
    assert not list(to.glob("policyfs-second*"))


def test_drop_ins_of_older_code_are_removed(to: Path, tmp_path: Path) -> None:
    """By the next `policyfs unit` of any site, and by an upgrade. Those of the user's services stay."""
    kept = [misplace(to, MINE), misplace(to, "jellyfin.service"), to / f"{OWN}.d/policyfs-limits.conf"]
    wrong = misplace(to, OWN)
    kept[2].write_text("[Service]\nMemoryMax=1G\n")
    said = unit(to, write(tmp_path, "third", app="plex", service="plex.service"))
    assert (said.returncode, f"removed {wrong}, which" in said.stdout) == (0, True), said
    assert not wrong.exists()
    assert all(path.exists() for path in kept)
    kept[2].unlink()
    misplace(to, OWN)
    assert (remove_misplaced(to), remove_misplaced(to)) == (True, False)
    assert not wrong.parent.exists()


def test_an_upgrade_removes_them(to: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, tool = tmp_path / "ran", tmp_path / "systemctl"
    tool.write_text(f"#!/bin/sh\necho $* >>'{ran}'\n")
    tool.chmod(0o755)
    monkeypatch.setattr(unit_upgrade, "program", lambda name: str(tmp_path / name))
    monkeypatch.setattr(unit_upgrade, "UNITS", str(to))
    monkeypatch.setattr(unit_upgrade, "all_status", lambda _: [])
    wrong = misplace(to, OWN)
    unit_upgrade.main()
    unit_upgrade.main()
    assert (ran.read_text(), wrong.exists()) == ("daemon-reload\n", False)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyfsError, match="cannot read"):
        maker(tmp_path)
