"""Options of a site's file that a running mount does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli.main import build_parser
from policyfs.cli.mounts.start import options_of
from policyfs.cli.site.site_changes import OTHER_CODE, changes
from policyfs.cli.site.site_document import Site, read_site
from policyfs.daemon.control.control import Json
from policyfs.linux.code_digest import code_digest

TEXT = """\
apiVersion: policyfs/v1
kind: Site
name: home
store: /srv/media
policy: /etc/policyfs/home.yaml
trail: /srv/trail
mounts:
  - {app: gallery, at: /srv/apps/gallery, any_uid: true, options: {copy_max: 64M, posix: true}}
"""


def site_of(path: Path, text: str) -> Site:
    path.write_text(text)
    return read_site(str(path))


def status_of(site: Site, *more: str) -> Json:
    """Return what a daemon reports that was started for this site."""
    parser = build_parser("mount")
    args = parser.parse_args([*site.command(site.mounts[0]), *more])
    policy: Json = {"file": site.policy}
    trail: Json = {"directory": f"{site.trail}/0123456789abcdef"}
    return {"options": options_of(args), "policy": policy, "trail": trail, "code": code_digest()}


def test_a_mount_of_the_site_has_no_changes(tmp_path: Path):
    site = site_of(tmp_path / "site.yaml", TEXT)
    for more in ((), ("--foreground",), ("--log", "log")):
        status = status_of(site, *more)
        assert changes(site, site.mounts[0], status) == ()
        assert changes(site, site.mounts[0], status | {"code": "0123"}) == (OTHER_CODE,)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("posix: true", "posix: false", "posix is true, but the site file says false"),
        ("copy_max: 64M", "copy_max: 32M", "copy_max is 67108864, but the site file says 33554432"),
        ("copy_max: 64M", "copy_max: 65536K", None),
        ("any_uid: true", "uid: 7, gid: [7, 8]", "any_uid is true, but the site file says false"),
        ("any_uid: true", "uid: 7, gid: [7, 8]", "gid is not set, but the site file says 7, 8"),
        ("trail: /srv/trail", "trail: /srv/other", "trail is /srv/trail, but the site file says /srv/other"),
        (
            "home.yaml",
            "new.yaml",
            "policy is /etc/policyfs/home.yaml, but the site file says /etc/policyfs/new.yaml",
        ),
        ("posix: true", "posix: true, modes: store", None),
    ],
)
def test_each_change_is_told(tmp_path: Path, old: str, new: str, told: str | None):
    status = status_of(site_of(tmp_path / "site.yaml", TEXT))
    site = site_of(tmp_path / "site.yaml", TEXT.replace(old, new))
    found = changes(site, site.mounts[0], status)
    assert told in found if told else found == ()


def test_a_daemon_that_does_not_tell_its_options_has_no_changes(tmp_path: Path):
    site = site_of(tmp_path / "site.yaml", TEXT)
    assert changes(site, site.mounts[0], {}) == ()
