"""Users of services, from unit files."""

from __future__ import annotations

from pathlib import Path

from policyfs.linux.services import Service, naming, services


def unit(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_strongest_file_and_its_drop_ins_count(tmp_path: Path) -> None:
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    text = "[Unit]\nUser=no\n[Service]\n# User=comment\nUser = jelly\nExecStart=a \\\n  b\n"
    unit(lib, "jellyfin.service", text)
    unit(lib, "jellyfin.service.d/10.conf", "[Service]\nUser=weak\n")
    unit(etc, "jellyfin.service.d/20.conf", "[Service]\nUser=media\n")
    unit(lib, "immich.service", "[Service]\nUser=lib\n")
    unit(etc, "immich.service", "[Service]\nUser=immich\n")
    unit(lib, "root.service", "[Service]\nExecStart=/bin/true\n")
    unit(lib, "dyn.service", "[Service]\nDynamicUser=yes\n")
    unit(lib, "getty@.service", "[Service]\nUser=a\n")
    (etc / "masked.service").symlink_to("/dev/null")
    unit(lib, "masked.service", "[Service]\nUser=b\n")
    assert services([str(etc), str(lib), str(tmp_path / "absent")]) == [
        Service("dyn.service", "", True),
        Service("immich.service", "immich", False),
        Service("jellyfin.service", "media", False),
        Service("root.service", "", False),
    ]


def test_this_machine_can_be_read() -> None:
    assert all(one.name.endswith(".service") for one in services())


def test_services_that_name_a_directory(tmp_path: Path) -> None:
    for number, lines in enumerate([
        "ExecStart=/usr/bin/restic backup /srv/media", "ExecStart=/bin/sh -c 'ls /srv/media/a'",
        "BindPaths=/srv/media/Films:/films", "ReadWritePaths=-/srv/media", "WorkingDirectory=/srv/media",
        "ExecStart=a --dir=/srv/media/\nBindReadOnlyPaths=/run/policyfs/x:/srv/media/Films",
        # None of these finds it.
        "ExecStart=a /srv/media2 /mnt/srv/media /srv/media-old", "BindPaths=/run/x:/films", "# x /srv/media",
        "ExecStart=a /srv/media\nBindPaths=/run/policyfs/mounts/home/a/media:/srv/media",
        "ExecStart=a /srv/media\nInaccessiblePaths=/srv/media",
        "ExecStart=a '/srv/media/Films'\nBindPaths=/run/policyfs/x:/srv/media/Films /run/y:/srv/media/TV",
    ]):  # fmt: skip
        unit(tmp_path, f"{number:02}.service", f"[Unit]\nRequiresMountsFor=/srv/media\n[Service]\n{lines}\n")
    unit(tmp_path, "00.service.d/a.conf", "[Service]\nUser=backup\n")
    found = dict(naming("/srv/media", [str(tmp_path)]))
    assert sorted(found) == [f"{number:02}.service" for number in range(6)]
    assert found["00.service"] == "ExecStart=/usr/bin/restic backup /srv/media"
