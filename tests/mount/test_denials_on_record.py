"""Every denial is on the trail, whatever was asked: also what touches no bytes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.support.machine.processes import call_as, start_as
from tests.support.mount.stores import Mounts

CAMERA, GALLERY = 10010, 10011
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {camera: {uid: 10010}, gallery: {uid: 10011}}
rules:
  - {id: look, allow: [see], who: {app: any}, paths: "/***"}
  - {id: own, allow: [all], paths: "/private/{app}/***"}
  - {id: private, deny: [all], paths: "/private/*/***", unless: {path: "/private/{app}/***"}}
"""


def _stay(channel, directory: str) -> None:
    os.chdir(directory)
    channel.send("there")
    channel.recv()


def _error(function, *arguments) -> int:
    """The errno of a call; 0 if it succeeds."""
    try:
        function(*arguments)
    except OSError as error:
        return error.errno or 0
    return 0


def test_what_touches_no_bytes_is_recorded_too(mounts: Mounts, empty_store: Path) -> None:
    (empty_store / "private/gallery").mkdir(parents=True)
    (empty_store / "a.jpg").write_bytes(b"")
    mount = mounts.start(POLICY, empty_store)
    hidden = str(mount / "private/gallery")
    neighbour = start_as(GALLERY, _stay, hidden)
    assert neighbour.receive() == "there"
    try:
        assert call_as(CAMERA, _error, os.stat, hidden) == errno.ENOENT
        assert not call_as(CAMERA, os.access, str(mount / "a.jpg"), os.W_OK)
    finally:
        neighbour.send("enough")
        neighbour.result()
    denied = {(event["operation"], event["path"], event["errno"]) for event in mount.events(decision="deny")}
    assert denied == {("stat", "/private/gallery", "ENOENT"), ("access", "/a.jpg", "EACCES")}
    assert {event["app"] for event in mount.events(decision="deny")} == {"camera"}
