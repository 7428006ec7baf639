"""Under redaction no extended attributes are shown: they may say anything, a place too."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.support.processes import call_as
from tests.support.stores import Mounts

GALLERY, MAPS = 10011, 10012
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: xattrs}
apps: {gallery: {uid: 10011}, maps: {uid: 10012, grants: [media.location]}}
rules:
  - {id: read, allow: [see, read], paths: "/***"}
  - {id: no-place, require: {redact: location}, who: {not: {grant: media.location}}}
"""


def _asked(path: Path) -> tuple[list[str], bytes | int]:
    """What an app is told of a file's attributes."""
    try:
        value: bytes | int = os.getxattr(path, "user.place")
    except OSError as error:
        value = error.errno or 0
    return os.listxattr(path), value


def test_only_who_may_know_the_place_sees_them(
    mounts: Mounts, empty_store: Path, media: dict[str, Path]
) -> None:
    photo = empty_store / "a.jpg"
    photo.write_bytes(media["photo_with_place.jpg"].read_bytes())
    os.setxattr(photo, "user.place", b"at home")
    mount = mounts.start(POLICY, empty_store)
    assert call_as(MAPS, _asked, mount / "a.jpg") == (["user.place"], b"at home")
    assert call_as(GALLERY, _asked, mount / "a.jpg") == ([], errno.ENODATA)
    assert call_as(MAPS, _asked, mount / "a.jpg") == (["user.place"], b"at home")
