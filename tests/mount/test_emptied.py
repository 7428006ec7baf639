"""An app may write files for their kind, and saves a file as programs do: it empties the file first.

An empty file is of another kind. Where each write is decided again (not in passthrough) the app could not
write the file then, and its bytes would be gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as, code_of
from tests.support.mount.stores import Mounts, wait_until_closed
from tests.support.samples import jpegs

CAMERA, MAPS = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  maps: {{uid: {MAPS}}}
rules:
  - {{id: all, allow: [all], who: {{app: camera}}, paths: "/**"}}
  - {{id: photos, allow: [see, read, write], who: {{app: maps}}, paths: "/**", when: {{type: image/*}}}}
"""
RULES: Final = {
    "raw": "",
    "redacted": '  - {id: places, require: {redact: [location]}, who: {app: maps}, paths: "/**"}\n',
    "checked": '  - {id: kinds, require: {content: [image/jpeg]}, who: {app: maps}, paths: "/**"}\n',
    "searched": '  - {id: nobody, require: {no: [people]}, who: {app: maps}, paths: "/**"}\n',
}
OLD, NEW = jpegs.plain(5, 64), jpegs.plain(6, 100)


def by_open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_TRUNC)


def by_ftruncate(path: Path) -> int:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(fd, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def saved(emptied: Callable[[Path], int], path: Path) -> list[str]:
    """The errors of emptying, writing and closing a file, up to the first one of emptying."""
    fds: list[int] = []
    said = [code_of(lambda: fds.append(emptied(path)))]
    for fd in fds:
        said += [code_of(os.write, fd, NEW), code_of(os.close, fd)]
    return said


@pytest.mark.parametrize(
    ("rule", "options", "works"),
    [("raw", (), True), ("raw", ("--no-passthrough",), False), ("redacted", (), False),
     ("checked", (), False), ("searched", (), True)],
)  # fmt: skip
def test_what_could_not_be_written_any_more_is_not_emptied(
    mounts: Mounts, empty_store: Path, rule: str, options: tuple[str, ...], works: bool
) -> None:
    mount = mounts.start(POLICY + RULES[rule], empty_store, *options)
    for emptied in (by_open, by_ftruncate):
        photo = empty_store / f"{emptied.__name__}.jpg"
        photo.write_bytes(OLD)
        photo.chmod(0o666)
        said = call_as(MAPS, saved, emptied, mount / photo.name)
        assert said == (["", "", ""] if works else ["EACCES"]), emptied
        assert photo.read_bytes() == (NEW if works else OLD), emptied
        note = mount.events(decision="deny")[-1]["note"] if not works else ""
        told = "but not an empty file" in note
        assert told == (not works and (rule, emptied) != ("redacted", by_ftruncate)), emptied
        assert call_as(CAMERA, saved, emptied, mount / photo.name) == ["", "", ""], emptied
        assert photo.read_bytes() == NEW
    assert mount.status()["bugs"] == 0


REPLACED: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{camera: {{uid: {CAMERA}}}}}
rules:
  - {{id: all, allow: [all], who: {{app: camera}}, paths: "/**"}}
  - {{id: kinds, require: {{content: [image/jpeg]}}, paths: "/**"}}
"""
WORDS: Final = b"words and no picture, " * 9


def written_over(emptied: Callable[[Path], int], path: Path, pieces: list[bytes]) -> list[str]:
    """The errors of the writes of these pieces into an emptied file, and of its close."""
    fd = emptied(path)
    said = [code_of(os.write, fd, piece) for piece in pieces]
    taken = [len(piece) for piece, error in zip(pieces, said, strict=True) if not error]
    assert os.fstat(fd).st_size == sum(taken)
    return [*said, code_of(os.close, fd)]


@pytest.mark.parametrize("options", [(), ("--app", "camera")], ids=["shared", "app"])
def test_an_emptied_photo_is_there_until_the_new_bytes_are_a_photo(
    mounts: Mounts, empty_store: Path, options: tuple[str, ...]
) -> None:
    photo = empty_store / "a.jpg"
    mount = mounts.start(REPLACED, empty_store, *options)
    small = [NEW[:2], NEW[2:40], NEW[40:]]
    for emptied in (by_open, by_ftruncate):
        for pieces, said, left in (
            ([WORDS], ["EPERM", "EPERM"], OLD),
            ([WORDS, NEW], ["EPERM", "", ""], NEW),
            (small, [""] * 4, NEW),
            ([NEW, OLD], [""] * 3, NEW + OLD),
            ([NEW[:2]], ["", "EPERM"], OLD),
            ([], [""], b""),
        ):
            photo.write_bytes(OLD)
            photo.chmod(0o666)
            assert call_as(CAMERA, written_over, emptied, mount / "a.jpg", pieces) == said, (emptied, pieces)
            wait_until_closed(mount)
            assert photo.read_bytes() == left, (emptied, pieces)
    assert mount.status()["bugs"] == 0


def synced(path: Path) -> list[str]:
    """The errors of a write of words into an emptied photo, fsync, and close, as of dd with conv=fsync."""
    fd = by_open(path)
    return [code_of(os.write, fd, WORDS), code_of(os.fsync, fd), code_of(os.close, fd)]


def test_fsync_after_a_refusal_leaves_the_photo(mounts: Mounts, empty_store: Path) -> None:
    photo = empty_store / "a.jpg"
    photo.write_bytes(OLD)
    photo.chmod(0o666)
    mount = mounts.start(REPLACED, empty_store)
    assert call_as(CAMERA, synced, mount / "a.jpg") == ["EPERM"] * 3
    wait_until_closed(mount)
    assert photo.read_bytes() == OLD
