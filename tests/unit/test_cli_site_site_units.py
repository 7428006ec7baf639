"""Units and compose files of a site: checked by systemd's own parser and by a YAML parser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from policyfs.cli.site import site_units
from policyfs.cli.site.site_document import Site, read_site
from policyfs.cli.site.site_units import _word, compose_file, dangers, unchecked, units
from tests.support.mount.daemons import policyfs
from tests.unit.test_cli_site_site_document import GOOD, TARGETS, WHERE


@pytest.fixture
def site(tmp_path: Path) -> Site:
    path = tmp_path / "home.site.yaml"
    path.write_text(GOOD.replace("path: /media", 'path: "/srv/my %gal$lery:x"'), encoding="utf-8")
    return read_site(str(path))


def test_units_of_a_site_are_written_and_understood_by_systemd(site: Site, tmp_path: Path) -> None:
    to = tmp_path / "units"
    said = policyfs("unit", "--to", str(to), "--policyfs", sys.executable, site.file)
    assert said.returncode == 0, said
    written = {str(path.relative_to(to)): path.read_text() for path in to.rglob("*") if path.is_file()}
    assert written == dict(units(site, sys.executable))
    assert sorted(written) == [
        "gallery.service.d/policyfs-home.conf", "policyfs-check-home.service", "policyfs-check-home.timer",
        "policyfs-home-gallery.service",
        "policyfs-home-places.service", "policyfs-home-player.service", "policyfs-home-shared.service",
        "policyfs-home.target",
    ]  # fmt: skip
    (to / "gallery.service").write_text("[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(to / name) for name in (
            "policyfs-home.target", "policyfs-check-home.timer", "gallery.service"))],
        capture_output=True, text=True, check=False, env={"SYSTEMD_UNIT_PATH": f"{to}:/lib/systemd/system"},
    )  # fmt: skip
    wrong = [line for line in done.stderr.splitlines() if str(to) in line or "policyfs" in line]
    assert not wrong, done.stderr
    drop_in = written["gallery.service.d/policyfs-home.conf"]
    assert f'BindPaths="{WHERE}/gallery/my %%gal$lery:x":"/srv/my %%gal$lery:x"\n' in drop_in
    assert f'/srv/media "{WHERE}/gallery/my %%gal$$lery:x"\n' in written["policyfs-home-gallery.service"]
    assert "Requires=policyfs-home-gallery.service" in drop_in


def test_the_units_start_the_program_that_wrote_them(site: Site, tmp_path: Path) -> None:
    assert policyfs("unit", "--to", str(tmp_path / "units"), site.file).returncode == 0
    program = Path(sys.executable).with_name("policyfs")
    command = f"ExecStart={_word(str(program))} up "
    assert command in (tmp_path / "units/policyfs-home-places.service").read_text()


def test_a_service_or_container_of_two_mounts_gets_both(tmp_path: Path) -> None:
    path = tmp_path / "home.site.yaml"
    shared = "{shared: true, service: gallery.service, container: player, path: /a/all}"
    path.write_text(GOOD.replace("{shared: true, at: /mnt/media}", shared), encoding="utf-8")
    site = read_site(str(path))
    written = list(units(site))
    assert len(dict(written)) == len(written)
    drop_in = dict(written)["gallery.service.d/policyfs-home.conf"]
    for unit, where in (("gallery", "gallery/media:/media"), ("shared", "shared/all:/a/all")):
        for key in ("Requires", "After", "PartOf"):
            assert f"{key}=policyfs-home-{unit}.service\n" in drop_in
        assert f"BindPaths={WHERE}/{where}\n" in drop_in
    volumes = YAML(typ="safe").load(compose_file(site))["services"]["player"]["volumes"]
    assert [(volume["source"], volume["target"]) for volume in volumes] == [
        (f"{WHERE}/player", "/data"), (f"{WHERE}/shared", "/a"),
    ]  # fmt: skip


def test_directories_of_a_mount_have_places_beside_its_path(tmp_path: Path) -> None:
    path, compose = tmp_path / "home.site.yaml", tmp_path / "compose.yaml"
    text = GOOD.replace("path: /data/films,", "path: /data/films, directories: {tv: /Series},")
    path.write_text(text, encoding="utf-8")
    site = read_site(str(path))
    assert compose_file(site).count("target: /data\n") == 1
    compose.write_text("services: {player: {volumes: ['./x:/data/tv/new']}}")
    said = policyfs("compose", site.file, str(compose))
    assert "/data/tv/new of the service player is in the way of its mount at /data/tv" in said.stderr


def test_systemd_binds_no_name_in_a_mount(tmp_path: Path) -> None:
    """It would follow a symlink that an app makes there to any directory of the machine."""
    path = tmp_path / "home.site.yaml"
    both = "path: /a/all, directories: {tv: /Series}"
    text = GOOD.replace("at: /mnt/media", f"service: tv.service, container: tv, {both}")
    path.write_text(text, encoding="utf-8")
    drop_in = dict(units(read_site(str(path))))["tv.service.d/policyfs-home.conf"]
    assert [line for line in drop_in.splitlines() if line.startswith("BindPaths=")] == [
        f"BindPaths={WHERE}/shared/all:/a/all"
    ]


def _with_targets(tmp_path: Path) -> Site:
    path = tmp_path / "home.site.yaml"
    mount = TARGETS % "service: tv.service, container: tv"
    path.write_text(GOOD.replace("{shared: true, at: /mnt/media}", mount), encoding="utf-8")
    return read_site(str(path))


def test_services_and_containers_bind_the_bind_of_each_target(tmp_path: Path) -> None:
    site = _with_targets(tmp_path)
    drop_in = dict(units(site))["tv.service.d/policyfs-home.conf"]
    assert [line for line in drop_in.splitlines() if line.startswith("Bind")] == [
        f"BindPaths={WHERE}/tv/targets/movies:/movies",
        f"BindReadOnlyPaths={WHERE}/tv/targets/music:/music",
        f"BindPaths={WHERE}/tv/targets/all:/all",
    ]
    text = compose_file(site)
    assert YAML(typ="safe").load(text)["services"]["tv"]["volumes"][1] == {
        "type": "bind", "source": f"{WHERE}/tv/targets/music", "target": "/music", "read_only": True,
        "bind": {"create_host_path": False, "propagation": "rslave"},
    }  # fmt: skip
    option = f"--mount type=bind,src={WHERE}/tv/targets/music,dst=/music,bind-propagation=rslave,readonly"
    assert option in text


def test_a_volume_at_a_target_is_replaced(tmp_path: Path) -> None:
    site, compose = _with_targets(tmp_path), tmp_path / "compose.yaml"
    text = "services: {{player: {{}}, tv: {{volumes: ['/srv/media/Films:/movies', '{}']}}}}\n"
    for volume, wrong in (("./cache:/movies/cache", ""), ("/srv/media:/other", "direct access to the store")):
        compose.write_text(text.format(volume))
        said = policyfs("compose", site.file, str(compose))
        assert (said.returncode == 0, wrong in said.stderr) == (not wrong, True), said


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose 1 is not installed")
def test_compose_1_merges_targets_without_override(tmp_path: Path) -> None:
    site, own, merged = _with_targets(tmp_path), tmp_path / "compose.yaml", tmp_path / "policyfs.yaml"
    volumes = (
        "[/srv/media/Films:/movies, {type: bind, source: /srv/media/Music, target: /music}, ./c:/config]"
    )
    own.write_text(f"services: {{player: {{image: x}}, tv: {{image: x, volumes: {volumes}}}}}\n")
    merged.write_text(compose_file(site, is_old=True))
    assert "before you use it, add `create_host_path: false`" in merged.read_text()
    command = ["docker-compose", "-f", str(own), "-f", str(merged), "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = YAML(typ="safe").load(done.stdout)["services"]["tv"]["volumes"]
    bound = {one["target"]: one["source"] for one in found if isinstance(one, dict)}
    assert bound == {
        target: site.target_place(site.mounts[-1], target) for target in ("/movies", "/music", "/all")
    }
    assert [one for one in found if isinstance(one, str)] == [f"{tmp_path}/c:/config:rw"]


def test_a_unit_of_another_site_stays(site: Site, tmp_path: Path) -> None:
    """`home` with the app b-c and `home-b` with the app c have a unit of the same name."""
    to, files = tmp_path / "units", []
    for name, app in (("home", "b-c"), ("home-b", "c")):
        path = tmp_path / f"{name}.site.yaml"
        text = GOOD.replace("name: home", f"name: {name}").replace("app: gallery", f"app: {app}")
        path.write_text(text, encoding="utf-8")
        files.append(str(path))
    assert policyfs("unit", "--to", str(to), files[0]).returncode == 0
    said = policyfs("unit", "--to", str(to), files[1])
    assert said.returncode == 1
    assert f"policyfs-home-b-c.service belongs to another site file, {files[0]}: give one" in said.stderr
    assert not (to / "policyfs-home-b.target").exists()
    assert policyfs("unit", "--to", str(to), files[0]).returncode == 0, "its own are made anew"
    (tmp_path / "link").symlink_to(tmp_path)
    assert policyfs("unit", "--to", str(to), str(tmp_path / "link/home.site.yaml")).returncode == 0


def test_units_that_the_site_does_not_name_any_more_are_removed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, text = tmp_path / "units", Path(site.file).read_text()
    monkeypatch.setattr(site_units, "UNITS", str(to))
    assert policyfs("unit", "--to", str(to), site.file).returncode == 0
    (to / "policyfs-home.target.wants").mkdir()
    (to / "policyfs-home.target.wants/policyfs-home-player.service").symlink_to(to)
    for name, made_by in (("policyfs-other.service", "/other.site.yaml"), ("gallery.service.d/own.conf", "")):
        (to / name).write_text(f"# Made by `policyfs unit` of {made_by}\n")
    (to / "policyfs-own.service").write_text("[Unit]\n")
    less = text[: text.index("  - {app: player")] + text[text.index("  - {shared") :]
    Path(site.file).write_text(less.replace("service: gallery.service", "service: show.service"))
    said = policyfs("unit", "--to", str(to), site.file)
    assert said.returncode == 0, said
    removed = ["policyfs-home-player.service", "gallery.service.d/policyfs-home.conf"]
    told = [line.removeprefix("removed ") for line in said.stdout.splitlines() if line.startswith("removed ")]
    assert told == [str(to / name) for name in removed]
    assert "now: systemctl stop policyfs-home-player.service && " in said.stdout
    assert f" up --places {site.file} && systemctl daemon-reload && systemctl enable --now " in said.stdout
    left = {str(path.relative_to(to)) for path in to.rglob("*") if not path.is_dir()}
    assert left == {
        "gallery.service.d/own.conf", "show.service.d/policyfs-home.conf", "policyfs-home.target",
        "policyfs-home-places.service", "policyfs-home-gallery.service", "policyfs-home-shared.service",
        "policyfs-other.service", "policyfs-own.service", "policyfs-check-home.service",
        "policyfs-check-home.timer",
    }  # fmt: skip
    assert policyfs("unit", "--to", str(to), site.file).returncode == 0
    (to / "gallery.service.d/own.conf").unlink()
    (to / "gallery.service.d").rmdir()
    Path(site.file).write_text(text)
    assert policyfs("unit", "--to", str(to), site.file).returncode == 0
    assert not (to / "show.service.d").exists()


def test_a_unit_of_somebody_else_stays(site: Site, tmp_path: Path) -> None:
    (tmp_path / "policyfs-home.target").write_text("[Unit]\n")
    said = policyfs("unit", "--to", str(tmp_path), site.file)
    assert said.returncode == 1
    assert "was not made by `policyfs unit`" in said.stderr
    assert (tmp_path / "policyfs-home.target").read_text() == "[Unit]\n"
    assert not (tmp_path / "policyfs-home-gallery.service").exists()


def test_a_unit_that_cannot_be_written_or_read_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a full disk has no file name of its own."""
    units_, old = tmp_path / "units", b"# Made by `policyfs unit`"
    assert policyfs("unit", "--to", str(units_), site.file).returncode == 0
    target, draft = units_ / "policyfs-home.target", units_ / ".draft"
    before = target.read_bytes()
    assert before.startswith(old)
    draft.touch()
    full = os.open("/dev/full", os.O_WRONLY)
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkstemp", lambda **_: (full, str(draft)))
        said = policyfs("unit", "--to", str(units_), site.file)
    assert (said.returncode, f"cannot write {target}: No space left" in said.stderr) == (1, True), said
    assert (target.read_bytes(), draft.exists()) == (before, False)
    target.unlink()
    target.mkdir()
    said = policyfs("unit", "--to", str(units_), site.file)
    assert (said.returncode, f"cannot read {target}: Is a directory" in said.stderr) == (1, True), said


def test_a_compose_file_gives_each_container_its_mount(site: Site) -> None:
    assert compose_file(site).endswith(
        f"\n# player: --mount type=bind,src={WHERE}/player,dst=/data,bind-propagation=rslave"
        " --security-opt no-new-privileges\n"
    )
    assert YAML(typ="safe").load(compose_file(site)) == {
        "services": {
            "player": {
                "volumes": [
                    {
                        "type": "bind",
                        "source": f"{WHERE}/player",
                        "target": "/data",
                        "bind": {"create_host_path": False, "propagation": "rslave"},
                    }
                ],
                "security_opt": ["no-new-privileges:true"],
            }
        }
    }


@pytest.mark.parametrize(
    ("volumes", "wrong"),
    [
        ("[]", ""),
        ('["data:/config", "/srv/other:/x", "/data/more", "/srv/other:/data/films2:ro"]', ""),
        ('["data:/data", "/srv/other:/x"]', "the volume at /data of the service player"),
        ('["/srv/other:/data/films/:ro"]', "the volume at /data/films of the service player"),
        ("[{type: tmpfs, target: /data/films/a}]", "the volume at /data/films/a of the service player"),
        ('["/data/films"]', "the volume at /data/films of the service player"),
        ('["/srv/media/DCIM:/data:ro"]', "direct access to the store /srv/media, without a policy"),
        (
            "[{type: bind, source: /srv, target: /x}]",
            "direct access to the store /srv/media, without a policy",
        ),
    ],
)
def test_a_compose_file_that_reaches_the_store_is_refused(
    site: Site, tmp_path: Path, volumes: str, wrong: str
) -> None:
    compose = tmp_path / "compose.yaml"
    compose.write_text(f"services:\n  player:\n    image: x\n    volumes: {volumes}\n")
    said = policyfs("compose", site.file, str(compose))
    assert said.returncode == (1 if wrong else 0), said
    assert wrong in said.stderr
    compose.write_text("services: {other: {image: x}}\n")
    assert (
        "has no service player; its services are other" in policyfs("compose", site.file, str(compose)).stderr
    )


@pytest.mark.parametrize(
    "volume",
    [
        "/srv:/m", "named:/m", "{type: volume, source: named, target: /m}",
        "{type: bind, source: media, target: /m}",
    ],
)  # fmt: skip
def test_a_compose_file_that_reaches_the_store_by_a_link_or_a_name_is_refused(
    site: Site, tmp_path: Path, volume: str
) -> None:
    said = _compose(site, tmp_path, volume)
    assert said.returncode == 1, said
    assert "direct access to the store /srv/media, without a policy" in said.stderr


@pytest.mark.parametrize("volume", ["${STORE}:/m", "/srv/$NAME:/m", "/srv:/${A:-b}", "$$$A:/m", "varied:/m"])
def test_a_volume_with_a_variable_is_refused(site: Site, tmp_path: Path, volume: str) -> None:
    said = _compose(site, tmp_path, volume)
    assert said.returncode == 1, said
    assert "has a variable; pass a file without: `docker compose config` prints it" in said.stderr


@pytest.mark.parametrize("volume", ["/srv/other:/m", "/srv/$$STORE:/m", "elsewhere:/m", "unknown:/m"])
def test_a_compose_file_with_other_volumes_is_accepted(site: Site, tmp_path: Path, volume: str) -> None:
    said = _compose(site, tmp_path, volume)
    assert said.returncode == 0, said


def _compose(site: Site, place: Path, volume: str) -> Any:
    """Run `policyfs compose` with a compose file that has one volume, and named volumes."""
    place.mkdir(exist_ok=True)
    (place / "media").symlink_to("/srv/media")
    quoted = volume if volume.startswith("{") else f"'{volume}'"
    (place / "compose.yaml").write_text(
        f"services:\n  player:\n    image: x\n    volumes: [{quoted}]\n"
        "volumes:\n  unknown:\n"
        "  named: {driver: local, driver_opts: {type: none, o: bind, device: /srv/media}}\n"
        "  varied: {driver_opts: {device: '${STORE}'}}\n"
        "  elsewhere: {driver_opts: {device: '/srv/other'}}\n"
    )
    return policyfs("compose", site.file, str(place / "compose.yaml"))


def test_an_unreadable_compose_file_is_told(site: Site, tmp_path: Path) -> None:
    for text in ("services: [", "just words", "services: 3"):
        (tmp_path / "c.yaml").write_text(text)
        assert policyfs("compose", site.file, str(tmp_path / "c.yaml")).returncode == 1


def test_what_gives_rights_over_the_machine_is_named(site: Site, tmp_path: Path) -> None:
    said = _compose(site, tmp_path, "/dev:/dev")
    assert said.returncode == 0
    assert "warning: " in said.stderr
    assert "gives the service player devices or kernel files" in said.stderr
    compose = tmp_path / "compose.yaml"
    compose.write_text(compose.read_text().replace("image: x", "privileged: true"))
    said = policyfs("compose", site.file, str(compose))
    assert said.returncode == 0
    assert "the service player has privileged" in said.stderr


def test_a_volume_that_cannot_be_followed_is_told(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a traceback."""

    def refused(path: str) -> str:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "readlink", refused)
    said = _compose(site, tmp_path, "/proc/1/root:/m")
    assert said.returncode == 1
    assert "the volume /proc/1/root cannot be checked: Permission denied" in said.stderr


def test_a_unit_is_not_written_through_a_link(site: Site, tmp_path: Path) -> None:
    """An app that can write in the directory knew the name of the new file beforehand."""
    to, victim = tmp_path / "units", tmp_path / "victim"
    to.mkdir()
    victim.write_text("as before")
    for name, _ in units(site):
        link = (to / name).with_name(f".{Path(name).name}.new")
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(victim)
    assert policyfs("unit", "--to", str(to), site.file).returncode == 0
    assert victim.read_text() == "as before"
    assert {(to / name).stat().st_mode & 0o777 for name, _ in units(site)} == {0o644}


def test_no_unit_makes_a_mountpoint_behind_a_link_of_an_app(tmp_path: Path) -> None:
    """Its ExecStartPre= would: `mkdir -p` follows links."""
    (tmp_path / "app").mkdir()
    os.chown(tmp_path / "app", 10_010, 10_010)
    (tmp_path / "app/link").symlink_to("/etc")
    at = tmp_path / "app/link/new"
    (tmp_path / "home.site.yaml").write_text(GOOD.replace("/mnt/media", str(at)))
    said = policyfs("unit", "--to", str(tmp_path / "units"), str(tmp_path / "home.site.yaml"))
    assert (said.returncode, (tmp_path / "units").exists()) == (1, False)
    assert "leads through the symbolic link" in said.stderr


def test_a_path_with_a_line_break_reaches_no_unit(tmp_path: Path) -> None:
    place = tmp_path / "x\n[Service]\nExecStart=evil\n"
    place.mkdir()
    (place / "home.site.yaml").write_text(GOOD)
    said = policyfs("unit", "--to", str(tmp_path / "units"), str(place / "home.site.yaml"))
    assert said.returncode == 1
    assert "characters that unit files cannot hold" in said.stderr
    (tmp_path / "home.site.yaml").write_text(GOOD)
    program = ("--policyfs", "/bin/x\nExecStartPre=evil")
    said = policyfs("unit", *program, "--to", str(tmp_path / "units"), str(tmp_path / "home.site.yaml"))
    assert (said.returncode, (tmp_path / "units").exists()) == (2, False)


@pytest.mark.parametrize(
    "key",
    ["env_file", "build", "privileged", "devices", "cap_add", "pid"],
)
def test_a_key_that_is_not_checked_is_named(key: str) -> None:
    (told,) = unchecked({"services": {"player": {key: ["x"]}, "other": {key: None}, "odd": 3}})
    assert told.startswith(f"the service player has {key}: ")


def test_what_is_checked_is_not_named() -> None:
    assert not list(unchecked({"services": {"player": {"image": "x", "volumes": ["/a:/b"]}}}))
    assert not list(unchecked({"services": 3}))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/run/docker.sock", "socket of a container engine"), ("/run/user/0/podman/podman.sock", "socket"),
        ("/run", "socket"), ("/dev", "devices or kernel files"), ("/dev/sda", "devices"),
        ("/proc", "kernel files"),
        ("/proc/1", "kernel files"), ("/sys/fs", "kernel files"), ("/srv/media", ""), ("/devices", ""),
    ],
)  # fmt: skip
def test_a_volume_with_rights_over_the_machine_is_named(source: str, told: str) -> None:
    found = " ".join(dangers("player", [source]))
    assert told in found
    assert bool(found) == bool(told)
