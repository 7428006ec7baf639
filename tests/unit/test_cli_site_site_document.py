"""Files of sites: all errors at once with their lines, and the commands that a good one means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.cli.common.target_places import private_places
from policyfs.cli.main import build_parser
from policyfs.cli.site.site_document import MountDoc, OptionsDoc, Target, label, read_site
from policyfs.errors import PolicyfsError
from policyfs.policy.errors import PolicyErrors
from tests.support.machine.documents import CHECKOUT

GOOD = """\
apiVersion: policyfs/v1
kind: Site
name: home
store: /srv/media
policy: /etc/policyfs/home.yaml
mounts:
  - app: gallery
    service: gallery.service
    path: /media
  - {app: player, container: player, path: /data/films,
     options: {read_only: true, copy_max: 64M}}
  - {shared: true, at: /mnt/media}
"""
WHERE = f"{private_places()}/home"
BAD = """\
apiVersion: policyfs/v1
kind: Site
name: home
store: srv/media
policy: /etc/policyfs/home.yaml
polcy: x
mounts:
  - {app: gallery, at: /srv/apps/gallery, services: gallery.service}
  - {app: films, at: /srv/z, service: films.service, path: /media}
  - {app: music, service: music.service, path: /media, gid: 5}
  - {app: tv, container: tv, path: /media}
  - {app: none}
  - {app: top, service: top.service, path: /}
  - {shared: true, at: /srv/all, container: tv, path: /a/b}
  - {app: gallery, shared: true, at: /srv/x}
  - {app: maps, at: /srv/apps/gallery/in, service: maps}
  - {app: player, at: /srv/apps/player, container: player}
  - {app: player, at: /srv/apps/player/below, path: /x}
  - {shared: true, at: /mnt/../media, any_uid: yes}
  - {at: /srv/y, options: {readonly: true, modes: both}}
"""


def _read(tmp_path: Path, text: str):
    path = tmp_path / "home.site.yaml"
    path.write_text(text, encoding="utf-8")
    return read_site(str(path))


def test_another_machine_than_the_writer_only_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GOOD.replace("mounts:", "writer: ada\nmounts:").replace(
        "at: /mnt/media", "at: /m, options: {inotify: true}"
    )
    for host, only_reads in (("ada", False), ("bob", True), ("ada.example.org", True)):
        names = type(os.uname())(("Linux", host, "6.18", "1", "x86_64"))
        monkeypatch.setattr(os, "uname", lambda names=names: names)
        site = _read(tmp_path, text)
        commands = [site.command(mount) for mount in site.mounts]
        assert ["--read-only" in words for words in commands] == [only_reads, True, only_reads]
        assert ("--inotify" in commands[2]) is not only_reads, "it needs changes by the mount"


def test_a_good_site_means_these_commands(tmp_path: Path) -> None:
    site = _read(tmp_path, GOOD)
    assert [label(mount) for mount in site.mounts] == ["gallery", "player", "shared"]
    assert [site.command(mount) for mount in site.mounts] == [
        ["mount", "--policy", "/etc/policyfs/home.yaml", "--app", "gallery", "--any-uid",
         "/srv/media", f"{WHERE}/gallery/media"],
        ["mount", "--policy", "/etc/policyfs/home.yaml", "--app", "player", "--any-uid", "--read-only",
         "--copy-max", "64M", "/srv/media", f"{WHERE}/player/films"],
        ["mount", "--policy", "/etc/policyfs/home.yaml", "/srv/media", "/mnt/media"],
    ]  # fmt: skip


def test_all_errors_of_a_bad_site_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(PolicyErrors) as found:
        _read(tmp_path, BAD)
    told = [(error.where.line, error.message) for error in found.value.errors]
    assert told == [
        (4, 'store: "srv/media" is not an absolute path'),
        (6, 'unknown key "polcy"'),
        (8, 'mount of "gallery": unknown key "services"'),
        (9, 'mount of "films": only its services and containers reach this mount, with any uid'),
        (10, 'mount of "music": only its services and containers reach this mount, with any uid'),
        (11, 'mount of "tv", path: a container cannot have its own root from outside'),
        (12, 'mount of "none": needs at, service or container'),
        (13, 'mount of "top", path: a service cannot have a mount as its root'),
        (14, "mount number 7, at: a container would reach all directories beside this one"),
        (15, 'mount of "gallery": needs either app or shared: true'),
        (16, 'mount of "maps", service: "maps" is not a service'),
        (17, 'mount of "player": service and container need path'),
        (18, 'mount of "player": path needs service or container'),
        (18, 'mount of "player": two mounts have this name'),
        (18, 'mount of "player", at: this directory overlaps with the directory of the mount of "player"'),
        (19, 'mount number 12, at: "/mnt/../media" is not an absolute path'),
        (19, "mount number 12, any_uid: must be true or false, not text"),
        (20, 'mount number 13, options: unknown key "readonly"'),
        (20, 'mount number 13, options.modes: "both" is not known here'),
    ]
    assert "known keys: app, shared, at, any_uid, uid, gid, options, service" in str(found.value)


def test_the_keys_to_remove_beside_a_service_are_named_where_they_are(tmp_path: Path) -> None:
    old = GOOD.replace("path: /media", "path: /media\n    uid: 7\n    any_uid: true", 1)
    with pytest.raises(PolicyErrors) as found:
        _read(tmp_path, old)
    (error,) = found.value.errors
    line = old[: old.index("uid: 7")].count("\n") + 1
    assert (error.where.line, error.help) == (line, "remove uid and any_uid")


def test_two_mounts_at_one_path_of_a_service_are_refused(tmp_path: Path) -> None:
    both = GOOD.replace("  - {shared: true, at: /mnt/media}", "  - {shared: true, %s}")
    site = _read(tmp_path, both % "service: gallery.service, path: /all")
    assert [mount.service for mount in site.mounts] == [("gallery.service",), (), ("gallery.service",)]
    for user in ("service: gallery.service, path: /media", "container: [other, player], path: /data/more"):
        with pytest.raises(PolicyErrors) as found:
            _read(tmp_path, both % user)
        (error,) = found.value.errors
        assert " has the mount of " in error.message
        assert error.where.line == 12


@pytest.mark.parametrize(
    ("user", "written", "told"),
    [
        ("container: tv", "{media: /DCIM}", "directories: these are names beside path"),
        ("container: tv", "{photos: DCIM}", 'directories.photos: "DCIM" is not an absolute path'),
        ("container: tv", "{a/b: /DCIM}", '"a/b" is not a name'),
        ("container: tv", "{photos: /../DCIM}", "is not an absolute path"),
        ("service: tv.service", "{photos: /DCIM}", "directories: only containers get them"),
    ],
)
def test_directories_are_names_beside_path(tmp_path: Path, user: str, written: str, told: str) -> None:
    mount = f"{{shared: true, {user}, path: /data/media, directories: {written}}}"
    with pytest.raises(PolicyErrors) as found:
        _read(tmp_path, GOOD.replace("{shared: true, at: /mnt/media}", mount))
    (error,) = found.value.errors
    assert told in error.message


TARGETS = "{app: tv, %s, targets: {/movies: /Films, /music: {path: /Music, read_only: true}, /all: /}}"


def test_targets_have_binds_of_their_own(tmp_path: Path) -> None:
    site = _read(tmp_path, GOOD.replace("{shared: true, at: /mnt/media}", TARGETS % "container: tv"))
    mount = site.mounts[-1]
    assert (mount.at, mount.path, mount.places) == (f"{WHERE}/tv/mount", None, [])
    assert mount.targets == {
        "/movies": Target(path="/Films"),
        "/music": Target(path="/Music", read_only=True),
        "/all": Target(path="/"),
    }
    places = {target: site.target_place(mount, target) for target in (*mount.targets, "/a/b", "/a%2Fb")}
    assert places["/movies"] == f"{WHERE}/tv/targets/movies"
    assert places["/a/b"] == f"{WHERE}/tv/targets/a%2Fb"
    assert len(set(places.values())) == len(places)


@pytest.mark.parametrize(
    ("mount", "told"),
    [
        (TARGETS % "service: tv.service, path: /media", "targets say where the service or container finds"),
        (TARGETS % "service: tv.service, gid: 5", "targets say where the service or container finds what"),
        (TARGETS % "description: of nobody", "only services and containers of an app have targets"),
        ("{shared: true, container: tv, targets: {/a: /A}}", "only services and containers of an app have"),
        ("{app: tv, container: tv, targets: {/: /A}}", "a service cannot have a mount as its root"),
        ("{app: tv, service: tv.service, targets: {/a: /A, /a/b: /B}}", '"/a/b" is inside another target'),
        ("{app: tv, container: tv, targets: {/a: Films}}", '"Films" is not an absolute path'),
        ("{app: tv, container: tv, targets: {a: /Films}}", '"a" is not an absolute path'),
        ("{app: tv, container: tv, targets: {/a: {path: /A, ro: true}}}", 'unknown key "ro"'),
        (f"{{app: tv, container: tv, targets: {{/{'ü' * 50}: /A}}}}", " is too long"),
        ("{app: tv, container: player, targets: {/data: /A}}", 'player has the mount of "player" at /data'),
    ],
)
def test_targets_that_cannot_be_are_errors(tmp_path: Path, mount: str, told: str) -> None:
    with pytest.raises(PolicyErrors) as found:
        _read(tmp_path, GOOD.replace("{shared: true, at: /mnt/media}", mount))
    (error,) = found.value.errors
    assert told in error.message


def test_a_container_may_have_a_target_inside_another(tmp_path: Path) -> None:
    mount = "{app: tv, container: tv, targets: {/a: /A, /a/b: /B}}"
    assert _read(tmp_path, GOOD.replace("{shared: true, at: /mnt/media}", mount)).mounts[-1].targets


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ('trail_keep: "-1"', "is not a whole number of at least 0"),
        ('trail_segment: "0"', "is too small for a segment"),
        ('nodes_max: "0"', "is not a whole number of at least 1"),
        ("copy_max: 1T", "is not a size"),
        ("copies_max: 1T", "is not a size"),
    ],
)
def test_an_option_that_mount_refuses_is_an_error_of_the_file(tmp_path: Path, option: str, told: str) -> None:
    with pytest.raises(PolicyErrors) as found:
        _read(tmp_path, GOOD.replace("copy_max: 64M", option))
    (error,) = found.value.errors
    assert error.where.line == 11
    assert told in error.message
    assert "write" in error.help


def test_a_site_has_every_option_of_mount_that_concerns_a_mount(tmp_path: Path) -> None:
    """A new option of `policyfs mount` needs a key in the site file, and a word in the table of its page."""
    parser = build_parser("mount")
    known = vars(parser.parse_args(["mount", "--policy", "p", "/s", "/m"])).keys()
    flags = {f"no_{name}" if name == "avc" else name for name in known}
    keys = MountDoc.model_fields.keys() | OptionsDoc.model_fields.keys()
    of_the_process = {"foreground", "log", "run", "command", "follow"}  # `up --restart` follows
    assert flags - keys == {"policy", "store", "trail", "mountpoint", *of_the_process}
    page = (CHECKOUT / "docs/mount-sets.md").read_text(encoding="utf-8")
    assert [key for key in OptionsDoc.model_fields if f"`{key}`" not in page] == []


def test_options_become_words_of_the_command(tmp_path: Path) -> None:
    more = "trail_keep_age: 90d, trail_keep_size: 20G, quarantine_max: 2G, quarantine_files: '9'"
    site = _read(tmp_path, GOOD.replace("copy_max: 64M", f"copy_max: 64M, watch: true, no_avc: true, {more}"))
    words = site.command(site.mounts[1])
    assert words[words.index("--read-only") + 1 : -2] == [
        *("--no-avc", "--watch", "--copy-max", "64M", "--trail-keep-age", "90d"),
        *("--trail-keep-size", "20G", "--quarantine-max", "2G", "--quarantine-files", "9"),
    ]
    site = _read(tmp_path, GOOD.replace("copy_max: 64M", "keeper: false"))
    assert "--no-keeper" in site.command(site.mounts[1])


def test_the_site_of_the_page_is_a_good_one(tmp_path: Path) -> None:
    page = (CHECKOUT / "docs/mount-sets.md").read_text(encoding="utf-8")
    site = _read(tmp_path, page.partition("```yaml\n")[2].partition("```")[0])
    assert [label(mount) for mount in site.mounts] == ["gallery", "jellyfin", "shared"]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyfsError, match=r"cannot read the site .*: No such file"):
        read_site(str(tmp_path / "none.yaml"))
    with pytest.raises(PolicyErrors) as caught:
        _read(tmp_path, "apiVersion: policyfs/v1\nkind: Policy\nrules: []\n")
    assert [error.message for error in caught.value.errors] == ["this file is a policy, but a site is needed"]
    with pytest.raises(PolicyErrors, match='kind "Sites" is not known'):
        _read(tmp_path, GOOD.replace("kind: Site", "kind: Sites"))
