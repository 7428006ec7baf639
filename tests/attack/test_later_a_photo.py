"""A3: a file that was harmless when it was opened becomes a photo; a policy that hid nothing hides something.

The gallery may not know places. It opens what has none, keeps the descriptor and a mapping, and somebody
who may know them then puts a photo there: through the same mount, another mount, or in the store.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs
from tests.support.samples.jpegs import leaks

GALLERY, MAPS = 10011, 10012
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  gallery: {{uid: {GALLERY}, gid: {GALLERY}}}
  maps: {{uid: {MAPS}, gid: {MAPS}, grants: [media.location]}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - id: no-location
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    paths: "/**"
    unless: {{owner: self}}
"""
SHOWN: Final = POLICY.replace("unless: {owner: self}", "unless: {type: image/jpeg}")
HIDDEN: Final = POLICY.replace("    unless: {owner: self}\n", "")
PHOTO: Final = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
HARMLESS: Final = jpegs.plain(2, 64).ljust(len(PHOTO), b"\0")
assert leaks(PHOTO)
assert not leaks(HARMLESS)
assert {SHOWN, HIDDEN} != {POLICY}


def keeps(channel: Connection, path: Path, mapped: bool) -> None:
    """Open a file, keep it, and say at each word what it shows by every way there is."""
    with contextlib.ExitStack() as stack:
        fd = os.open(path, os.O_RDONLY)
        stack.callback(os.close, fd)
        memory = stack.enter_context(mmap.mmap(fd, 0, prot=mmap.PROT_READ)) if mapped else b""
        channel.send(os.pread(fd, 1 << 20, 0) + memory[:])
        while channel.recv() is not None:
            channel.send([_said(lambda: os.pread(fd, 1 << 20, 0)), memory[:], _said(path.read_bytes)])


def _said(call: Callable[[], bytes]) -> bytes | str:
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def rewrite(path: Path) -> None:
    """Put a photo into the very same file, in place."""
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, PHOTO, 0)
    os.close(fd)


def placed(shown: list[bytes | str]) -> bool:
    """Is there a place in anything that was shown."""
    return any(leaks(one) for one in shown if isinstance(one, bytes))


@pytest.fixture
def store(empty_store: Path) -> Path:
    empty_store.chmod(0o700)
    for name, data in (("empty", b""), ("harmless", HARMLESS)):
        (empty_store / name).write_bytes(data)
        (empty_store / name).chmod(0o666)
    return empty_store


@pytest.mark.parametrize("name", ["empty", "harmless"])
def test_what_becomes_a_photo_shows_no_place(mounts: Mounts, store: Path, name: str) -> None:
    """Attack A3.3: Open a harmless file, and keep the descriptor and a mapping until the file is a photo
    Guard: policyfs/fs/redacted/copies.py::Redactor.redacted
    Also: tests/mount/test_views.py::test_a_harmless_file_that_becomes_a_photo_shows_no_place
    Without: ::test_the_place_is_read_where_what_is_harmless_is_no_copy
    """
    data = (store / name).read_bytes()
    shared, maps = mounts.start(POLICY, store), mounts.start(POLICY, store, "--app", "maps")
    gallery = mounts.start(POLICY, store, "--app", "gallery")
    for writer in (shared, maps, store):
        (store / name).write_bytes(data)
        watchers = [start_as(GALLERY, keeps, here / name, bool(data)) for here in (shared, gallery)]
        assert [watcher.receive() for watcher in watchers] == [data * 2] * 2
        call_as(0 if writer is store else MAPS, rewrite, writer / name)
        for watcher in watchers:
            watcher.send("look")
            shown = watcher.receive()
            assert not placed(shown), writer
            assert jpegs.pixels(shown[2]) == jpegs.pixels(PHOTO)
            watcher.send(None)
            watcher.result()
    assert call_as(MAPS, (maps / name).read_bytes) == PHOTO, "the honest app has the photo"


def test_the_place_is_read_where_what_is_harmless_is_no_copy(without, store: Path) -> None:
    mount = without("shown-live", POLICY, store)
    watcher = start_as(GALLERY, keeps, mount / "harmless", True)
    watcher.receive()
    rewrite(store / "harmless")
    watcher.send("look")
    shown = watcher.receive()
    watcher.send(None)
    watcher.result()
    assert leaks(shown[0])
    assert leaks(shown[1])


def own_and_then_not(mount: Mount, there: Mount) -> list[bytes | str]:
    """The gallery's own file, kept open, into which another app puts a photo."""

    def make() -> None:
        (mount / "own").write_bytes(HARMLESS)
        (mount / "own").chmod(0o666)

    call_as(GALLERY, make)
    watcher = start_as(GALLERY, keeps, mount / "own", True)
    assert watcher.receive() == HARMLESS * 2
    call_as(MAPS, rewrite, there / "own")
    watcher.send("look")
    shown = watcher.receive()
    watcher.send(None)
    watcher.result()
    return shown


@pytest.mark.parametrize("apps", [False, True], ids=["shared", "apps"])
def test_an_own_file_is_not_own_once_another_app_writes_it(mounts: Mounts, store: Path, apps: bool) -> None:
    """Attack A3.5: The same with the app's own file, which another app writes
    Guard: policyfs/fs/opening/byte_paths.py::LivePath.read
    Without: ::test_the_place_is_read_where_own_is_own_for_ever,
    ::test_its_creator_reads_what_another_wrote_where_the_name_comes_first

    Attack F2.6: Use the old owner of a file that another app has open for writing, or become its owner:
    by `policyfs owner set`, or by creating a file that the other opens at once
    Guard: policyfs/fs/opening/write_access.py::WriteAccess.before_writing,
    policyfs/store/owner.py::Owners.get, policyfs/fs/namespace/create.py::Creator._made
    Also: ::test_a_new_file_has_its_owner_before_its_name,
    tests/mount/test_owner.py::test_a_file_that_an_app_has_open_for_writing_gets_no_owner,
    tests/unit/test_fs_opening_write_access.py::test_a_file_that_gets_an_owner_before_it_is_open_for_writing_loses_this_owner
    Without: ::test_the_place_is_read_where_own_is_own_for_ever,
    ::test_its_creator_reads_what_another_wrote_where_the_name_comes_first
    """
    options = [("--app", app) if apps else () for app in ("gallery", "maps")]
    here, there = (mounts.start(POLICY, store, *more) for more in options)
    assert not placed(own_and_then_not(here, there))


def test_the_place_is_read_where_own_is_own_for_ever(without, store: Path) -> None:
    mount = without("own-for-ever", POLICY, store)
    assert placed(own_and_then_not(mount, mount))


def written_as_it_is_made(here: Mount, there: Mount) -> bytes:
    """What its creator reads of a file that another app writes, and has opened as soon as it was there."""

    def write(channel: Connection) -> None:
        channel.send("ready")
        while True:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(there / "new", os.O_WRONLY)
                break
        channel.recv()
        os.write(fd, PHOTO)
        os.close(fd)

    writer = start_as(MAPS, write)
    writer.receive()
    call_as(GALLERY, create, here / "new")
    writer.send("go on")
    writer.result()
    return call_as(GALLERY, (here / "new").read_bytes)


def create(path: Path) -> None:
    os.umask(0)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))


def slow_mounts(mounts: Mounts, store: Path, *guards: str) -> list[Mount]:
    """A mount of each app. In that of the gallery, to set an owner takes long, and these guards are gone."""
    here = mounts.prepare(POLICY, store, "--app", "gallery")
    here.program = ("tests.attack.weakened", ",".join(("owner-takes-long", *guards)))
    return [here.start(), mounts.start(POLICY, store, "--app", "maps")]


def test_a_new_file_has_its_owner_before_its_name(mounts: Mounts, store: Path) -> None:
    assert not leaks(written_as_it_is_made(*slow_mounts(mounts, store)))


def test_its_creator_reads_what_another_wrote_where_the_name_comes_first(mounts: Mounts, store: Path) -> None:
    assert leaks(written_as_it_is_made(*slow_mounts(mounts, store, "name-before-owner")))


ROADS: Final = {"a copy": ("--no-passthrough",), "a lease": ("--copy-max", "64")}


def read_on_after_a_reload(mount: Mount) -> list[bytes | str]:
    """What a descriptor shows that was opened while nothing was hidden, once something is."""
    watcher = start_as(GALLERY, keeps, mount / "photo", False)
    assert watcher.receive() == PHOTO
    mount.policy.write_text(HIDDEN)
    assert mount.reload().returncode == 0
    watcher.send("look")
    shown = watcher.receive()
    watcher.send(None)
    watcher.result()
    return shown


@pytest.mark.parametrize(
    ("road", "apps"), first(2, [("a copy", False), ("a lease", True), ("a copy", True), ("a lease", False)])
)
def test_what_a_reload_hides_is_not_read_on(mounts: Mounts, store: Path, road: str, apps: bool) -> None:
    """Attack A3.2: Continue to read after a reload that hides more: a large file, or a copy in which
    nothing was hidden
    Guard: policyfs/fs/inodes/handles.py::Handle.hides,
    policyfs/fs/redacted/leased.py::LeasedFiles._current
    Also:
    tests/mount/test_review_leased.py::test_a_large_file_shown_as_it_is_is_not_read_on_when_a_reload_hides_something,
    tests/unit/test_fs_opening_copy_path.py::test_a_copy_in_which_nothing_was_hidden_is_not_read_on_when_a_reload_hides_something
    Without: ::test_it_is_where_what_was_opened_is_open_for_ever
    """
    (store / "photo").write_bytes(PHOTO)
    mount = mounts.start(SHOWN, store, *ROADS[road], *(("--app", "gallery") if apps else ()))
    mount.expected_mediated = True
    shown = read_on_after_a_reload(mount)
    assert not placed(shown)
    assert isinstance(shown[2], bytes), "opened again it can be read, without the place"


@pytest.mark.parametrize("road", ROADS)
def test_it_is_where_what_was_opened_is_open_for_ever(without, store: Path, road: str) -> None:
    (store / "photo").write_bytes(PHOTO)
    mount = without("opened-for-ever", SHOWN, store, *ROADS[road])
    mount.expected_mediated = True
    assert leaks(read_on_after_a_reload(mount)[0])
