"""The line on what a site's programs still have: by the policy, whoever has changed it."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from policyfs.cli.site.as_before import told_of
from policyfs.cli.site.site_document import Site, read_site
from policyfs.errors import PolicyfsError
from tests.support.mount.daemons import policyfs

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: m}
apps: {arr: {}, tv: {}}
rules:
  - {id: arr, allow: [all], who: {app: arr}, paths: "/Films/***"}
  - {id: tv, allow: [see, read], who: {app: tv}, paths: "/Films/***"}
"""
SITE = """\
apiVersion: policyfs/v1
kind: Site
name: m
store: /srv/m
policy: POLICY
mounts:
  - {app: arr, container: arr, targets: {/tv: /Films}}
  - {app: tv, container: tv, targets: {/tv: {path: /Films, read_only: true}}}
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "m.yaml").write_text(POLICY)
    (tmp_path / "m site.yaml").write_text(SITE.replace("POLICY", str(tmp_path / "m.yaml")))
    return read_site(str(tmp_path / "m site.yaml"))


def test_nothing_is_restricted_yet(site: Site) -> None:
    todo = f"`policyfs tighten '{site.file}'` proposes rules by what they did"
    day = dt.datetime.now().astimezone().date() + dt.timedelta(days=7)
    assert told_of(site) == f"as before: 2 services, nothing restricted yet; on {day}, {todo}"
    os.utime(site.policy, (1, 1))
    assert told_of(site) == f"as before: 2 services, nothing restricted yet; {todo}"
    assert told_of(site) in policyfs("status", site.file).stderr


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("require: {redact: [location]}, who: {app: tv}", "1 service, 1 restricted; "),
        ("deny: [delete], who: {app: [arr]}, paths: /x", "1 service, 1 restricted; "),
        ("deny: [delete], who: {app: stranger}", "2 services, nothing restricted yet; "),
        ("deny: [delete]", "0 services, 2 restricted"),
    ],
)
def test_what_is_restricted(site: Site, rule: str, told: str) -> None:
    Path(site.policy).write_text(f"{POLICY}  - {{id: more, {rule}}}\n")
    assert told_of(site).startswith(f"as before: {told}")


def test_fewer_rights_are_a_restriction(site: Site) -> None:
    Path(site.policy).write_text(POLICY.replace("[all]", "[see, read, write, create]"))
    assert told_of(site).startswith("as before: 1 service, 1 restricted; ")
    Path(site.policy).write_text(POLICY.replace("tv, paths", "arr, paths").replace("app: tv", "app: arr"))
    assert told_of(site).startswith("as before: 1 service, 1 restricted; ")


def test_a_site_without_targets_has_no_such_line(site: Site) -> None:
    assert told_of(site._replace(mounts=())) == ""


def test_status_goes_on_without_the_policy(site: Site) -> None:
    os.unlink(site.policy)
    with pytest.raises(PolicyfsError):
        told_of(site)
    assert "0 of 2 mounts are up" in policyfs("status", site.file).stderr
