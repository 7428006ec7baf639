"""The trail names the true cause of a denial: a missing allow, a rule, or the mount itself."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.machine.processes import call_as, code_of
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts

APP = 10010
HEAD = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{app: {{uid: {APP}}}}}
rules:
"""
ADDS = """\
  - {id: add, allow: [see, read, create, write], who: {app: app}, paths: "/In/**"}
  - {id: photos, require: {content: image/jpeg}, paths: "/In/**"}
"""
READS = """\
  - {id: look, allow: [see, read], who: {app: app}, paths: "/In/**"}
  - {id: places, require: {redact: location}, paths: "/In/**"}
"""
MISSING = "no rule allows the request: add an `allow` for app app"


def told(mount: Mount, operation: str) -> tuple[dict[str, object], str]:
    """The one denial of this sort on the trail, and what the summary says of it."""
    [event] = mount.events(operation=operation, decision="deny")
    with mount.as_environment():
        said = policyfs("audit", "summary")
        shown = policyfs("audit", "show", f"{mount.trail_dir.name}:{event['seq']}")
    assert said.returncode == shown.returncode == 0, said.stderr + shown.stderr
    return event, said.stdout + shown.stdout


def test_a_rename_without_delete_is_no_matter_of_content(
    mounts: Mounts, store: Path, media: dict[str, Path]
) -> None:
    (store / "In").mkdir(mode=0o777)
    (store / "In/t").write_bytes(media["photo_with_place.jpg"].read_bytes())
    mount = mounts.start(HEAD + ADDS, store)
    old, new = mount / "In/t", mount / "In/u"
    assert call_as(APP, code_of, os.rename, str(old), str(new)) == "EACCES"
    event, said = told(mount, "rename")
    assert event["rules"] == []
    assert MISSING in said
    assert "cannot clean" not in said


def test_an_open_without_write_is_no_matter_of_redaction(
    mounts: Mounts, store: Path, media: dict[str, Path]
) -> None:
    (store / "In").mkdir(mode=0o777)
    (store / "In/t").write_bytes(media["photo_with_place.jpg"].read_bytes())
    mount = mounts.start(HEAD + READS, store)
    assert call_as(APP, code_of, os.open, str(mount / "In/t"), os.O_RDWR) == "EACCES"
    event, said = told(mount, "open")
    assert event["rules"] == []
    assert MISSING in said
    assert "cannot clean" not in said


def test_a_fifo_is_refused_by_the_mount_and_by_no_rule(mounts: Mounts, store: Path) -> None:
    (store / "In").mkdir(mode=0o777)
    mount = mounts.start(HEAD + '  - {id: all, allow: [all], who: {app: app}, paths: "/***"}\n', store)
    assert call_as(APP, code_of, os.mkfifo, str(mount / "In/fifo")) == "EPERM"
    event, said = told(mount, "mknod")
    assert "add an `allow`" not in said
    cause = f"the mount itself refuses the request, and an `allow` changes nothing: {event['note']}"
    assert said.count(cause) >= 2, said
    replayed = policyfs("policy", "replay", mount.trail_dir, "--policy", mount.policy)
    assert replayed.returncode == 0, replayed.stdout
    assert "0 wider, 0 narrower, 0 other" in replayed.stdout
    assert "0 undecidable" in replayed.stdout
    with mount.as_environment():
        shown = policyfs("policy", "explain", mount, "/In/fifo", "--uid", str(APP), "--op", "mknod")
    assert "but only for a regular file: a mount without --posix refuses fifos" in shown.stdout
