"""Under redaction no extended attributes are shown: they may say anything, a place too."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from tests.support.machine.processes import call_as
from tests.support.models.twins import error
from tests.support.mount.stores import Mounts

GALLERY, MAPS = 10011, 10012
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
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


CHANGERS = """\
apiVersion: policyfs/v1
kind: Policy
apps: {gallery: {uid: 10011}, maps: {uid: 10012, grants: [media.location]}, lister: {uid: 10013}}
rules:
  - {id: change, allow: [see, read, write, attr], who: {app: [gallery, maps]}, paths: "/***"}
  - {id: list, allow: [see], who: {app: lister}, paths: "/***"}
  - {id: no-place, require: {redact: location}, who: {not: {grant: media.location}}}
"""


def _changed(path: Path) -> list[int]:
    """The errors of every way to change an attribute: set, make, replace, remove; 0 for none."""
    errors = []
    for name in ("user.place", "user.none"):
        for change in (
            lambda name=name: os.setxattr(path, name, b"elsewhere"),
            lambda name=name: os.setxattr(path, name, b"elsewhere", os.XATTR_CREATE),
            lambda name=name: os.setxattr(path, name, b"elsewhere", os.XATTR_REPLACE),
            lambda name=name: os.removexattr(path, name),
        ):
            try:
                change()
                errors.append(0)
            except OSError as error:
                errors.append(error.errno or -1)
    return errors


def test_what_is_hidden_is_neither_changed_nor_told_by_an_error(
    mounts: Mounts, empty_store: Path, media: dict[str, Path]
) -> None:
    photo = empty_store / "a.jpg"
    photo.write_bytes(media["photo_with_place.jpg"].read_bytes())
    os.setxattr(photo, "user.place", b"at home")
    mount = mounts.start(CHANGERS, empty_store)
    errors = call_as(GALLERY, _changed, mount / "a.jpg")
    assert errors[:4] == errors[4:], "there or not, the answers are the same"
    assert errors[:4] == [errno.EOPNOTSUPP, errno.EOPNOTSUPP, errno.ENODATA, errno.ENODATA]
    assert os.getxattr(photo, "user.place") == b"at home"
    assert call_as(MAPS, _changed, mount / "a.jpg") == [0, errno.EEXIST, 0, 0, 0, errno.EEXIST, 0, 0]


OWNERS: Final = """\
apiVersion: policyfs/v1
kind: Policy
apps: {gallery: {uid: 10011}, maps: {uid: 10012}}
rules:
  - {id: change, allow: [all], who: {app: any}, paths: "/***"}
  - {id: no-place, require: {redact: location}, unless: {owner: self}}
"""


def _told_of_removed(path: Path) -> list[str]:
    fd = os.open(path, os.O_RDONLY)
    os.unlink(path)
    return [
        error(lambda: os.listxattr(fd)),
        error(lambda: os.getxattr(fd, "user.place")),
        error(lambda: os.setxattr(fd, "user.place", b"elsewhere")),
    ]


def test_a_removed_file_has_none_either(mounts: Mounts, empty_store: Path, media: dict[str, Path]) -> None:
    """The owner was looked for by the file's name, which it had lost: ESTALE."""
    photo = empty_store / "a.jpg"
    photo.write_bytes(media["photo_with_place.jpg"].read_bytes())
    os.setxattr(photo, "user.place", b"at home")
    mount = mounts.start(OWNERS, empty_store)
    assert call_as(GALLERY, _told_of_removed, mount / "a.jpg") == ["[]", "ENODATA", "ENOTSUP"]


def test_what_may_be_seen_and_not_read_has_none_and_that_is_no_refusal(
    mounts: Mounts, empty_store: Path, media: dict[str, Path]
) -> None:
    (empty_store / "sub").mkdir()
    photo = empty_store / "sub/a.jpg"
    photo.write_bytes(media["photo_with_place.jpg"].read_bytes())
    for path in (photo, photo.parent):
        os.setxattr(path, "user.place", b"at home")
    mount = mounts.start(CHANGERS, empty_store)
    for name in ("sub/a.jpg", "sub"):
        assert call_as(10013, _asked, mount / name) == ([], errno.ENODATA)
    assert mount.events(app="lister", decision="deny") == []
    assert call_as(10014, lambda: _errno(mount / "sub")) == errno.ENOENT, "a stranger sees nothing there"


def _errno(path: Path) -> int:
    try:
        os.listxattr(path)
    except OSError as error:
        return error.errno or -1
    return 0
