"""The worked cases of the policy language, owners and monitor mode, with real media on a real mount."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, start_as, tool_as, wait_for
from tests.support.models.policies import FAMILY, HEAD
from tests.support.models.twins import content, error, fd_of
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, populate
from tests.support.samples.media import HOME

CAMERA, GALLERY, MAPS, BACKUP, STRANGER = 10010, 10011, 10012, 10020, 10099
POLICY = HEAD + FAMILY
TABLE = "fruit,number,village\n" + "quince,2,Zirbelstadt\n" * 20


def carries_place(data: bytes) -> bool:
    return any(name.encode() in data for name in HOME.names)


@pytest.fixture(scope="module")
def library(module_mounts: Mounts, module_arena: Path, media: dict[str, Path]) -> Mount:
    """The store of the worked cases; a.jpg was taken by camera, through the mount."""
    store = module_arena / "store"
    store.mkdir(mode=0o700)
    populate(store, media)
    (store / "Pictures" / "list.csv").write_text(TABLE)
    (store / "Pictures" / "unknown.bin").write_bytes(random.Random(4).randbytes(5000))
    (store / "Android" / "data" / "camera" / "db").write_bytes(b"camera's\n")
    shutil.copy(store / "Pictures" / "drawing.png", store / "DCIM" / "x.png")
    mount = module_mounts.start(POLICY, store)
    photo = media["photo_with_place.jpg"].read_bytes()
    call_as(CAMERA, _write_new, mount / "DCIM/Camera/taken.jpg", photo)
    return mount


def _write_new(path: Path, data: bytes) -> None:
    with fd_of(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]


def test_who_lists_what(library: Mount) -> None:
    listed = {
        uid: call_as(uid, lambda: sorted(os.listdir(library)))
        for uid in (CAMERA, GALLERY, MAPS, BACKUP, STRANGER, 0)
    }
    assert listed == {
        CAMERA: ["DCIM", "Pictures"], GALLERY: ["DCIM", "Pictures"], MAPS: ["DCIM", "Pictures"],
        BACKUP: ["Android", "DCIM", "Documents", "Download", "Movies", "Music", "Pictures"],
        STRANGER: [], 0: [],
    }  # fmt: skip


def test_the_worked_cases(library: Mount, media: dict[str, Path]) -> None:
    photo = media["photo_with_place.jpg"].read_bytes()
    taken = library / "DCIM/Camera/taken.jpg"
    seen = {uid: call_as(uid, content, str(taken)) for uid in (CAMERA, GALLERY, MAPS, BACKUP)}
    assert carries_place(photo)
    assert not carries_place(seen[GALLERY])
    assert len(seen[GALLERY]) == len(photo)
    assert [seen[uid] == photo for uid in (CAMERA, MAPS, BACKUP)] == [True] * 3
    assert call_as(GALLERY, lambda: [
        error(os.open, taken, os.O_WRONLY), error(os.open, taken, os.O_RDWR), error(os.truncate, taken, 0),
    ]) == ["EACCES"] * 3  # fmt: skip
    assert call_as(STRANGER, lambda: error(os.stat, taken)) == "ENOENT"
    assert call_as(CAMERA, lambda: [
        error(os.unlink, library / "DCIM/x.png"),
        error(os.link, taken, library / "Pictures/a.jpg"),
    ]) == ["EACCES", "EACCES"]  # fmt: skip
    assert call_as(MAPS, lambda: error(os.rename, taken, library / "Pictures/a.jpg")) == "EACCES"
    assert call_as(GALLERY, lambda: error(os.stat, library / "Android/data/gallery")) == "ENOENT"
    assert call_as(BACKUP, content, str(library / "Android/data/camera/db")) == b"camera's\n"
    assert call_as(GALLERY, lambda: error(content, library / "Pictures/unknown.bin")) == "EACCES"
    assert call_as(GALLERY, content, str(library / "Pictures/list.csv")) == TABLE.encode()
    denied = library.events(path="/Pictures/unknown.bin", decision="deny")
    assert {event["kind"] for event in denied} == {"application/octet-stream"}


def test_how_the_bytes_go_is_on_record(library: Mount) -> None:
    taken = library / "DCIM/Camera/taken.jpg"
    for uid in (CAMERA, GALLERY, MAPS):
        call_as(uid, content, str(taken))

    def opens() -> dict[str, dict]:
        found = library.events(path="/DCIM/Camera/taken.jpg", operation="open", decision="allow")
        return {event["app"]: event for event in found}

    events = wait_for(lambda: opens() if len(opens()) >= 3 else None, "three opens on record")
    assert (events["maps"]["io"], events["maps"]["view"]) == ("passthrough", "checked") or events["maps"][
        "view"
    ]
    assert events["maps"]["view"] == "raw"
    assert events["maps"]["io"] == "passthrough"
    assert events["gallery"]["view"] == "redacted(location)"
    assert events["gallery"]["io"] == "passthrough"
    assert sum(length for _, length in events["gallery"]["redacted"]) > 50
    assert events["gallery"]["kind"] == "image/jpeg"
    assert events["camera"]["view"] == "checked+redacted(location)"
    assert events["camera"]["io"] == "mediated"
    assert "redacted" not in events["camera"]


# ---------------------------------------------------------------- checked writes


def test_what_is_written_must_be_a_photo(library: Mount, media: dict[str, Path]) -> None:
    directory = library / "DCIM"

    def write_text() -> list[str]:
        with fd_of(directory / "b.jpg", os.O_WRONLY | os.O_CREAT) as fd:
            return [error(os.write, fd, b"only words, no picture\n" * 50)]

    assert call_as(CAMERA, write_text) == ["EPERM"]
    wait_for(lambda: not (library.store / "DCIM/b.jpg").exists(), "the refused file is gone")
    refused = wait_for(
        lambda: library.events(path="/DCIM/b.jpg", decision="deny"), "the refusal is on record"
    )
    assert {event["errno"] for event in refused} == {"EPERM"}
    assert refused[0]["rules"] == ["media.types"]
    photo = media["photo_without_place.jpg"].read_bytes()
    call_as(CAMERA, _write_new, directory / "c.jpg", photo)
    assert (library.store / "DCIM/c.jpg").read_bytes() == photo
    # Moving is no way round: what is taken away under another name stays what it is.
    assert call_as(CAMERA, lambda: error(os.rename, directory / "c.jpg", directory / "d.txt")) == "None"


def test_a_file_too_short_to_tell_says_so_at_close(library: Mount) -> None:
    path = library / "DCIM" / "short.png"

    def write_little() -> list[str]:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        said = [error(os.write, fd, b"\x89PN"), error(os.fsync, fd), str(os.fstat(fd).st_size)]
        return [*said, error(os.write, fd, b"?" * 9), error(os.close, fd)]

    assert call_as(CAMERA, write_little) == ["3", "EPERM", "3", "EPERM", "EPERM"]
    wait_for(lambda: not (library.store / "DCIM/short.png").exists(), "nothing is left")

    def write_nothing() -> str:
        return error(os.close, os.open(path, os.O_WRONLY | os.O_CREAT))

    assert call_as(CAMERA, write_nothing) == "None"  # an empty file carries nothing
    assert (library.store / "DCIM/short.png").read_bytes() == b""


# ---------------------------------------------------------------- owners


OWN = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: owners}
apps:
  one: {uid: 10010}
  two: {uid: 10011}
  root: {uid: 0}
rules:
  - {id: look, allow: [see, create], who: {app: any}, paths: "/**"}
  - {id: own, allow: [all], who: {app: any}, paths: "/**", when: {owner: self}}
  - {id: shared, allow: [all], who: {app: any}, paths: "/shared/***"}
  - {id: free, allow: [see, read, delete], who: {app: any}, paths: "/**", when: {owner: none}}
"""


@pytest.fixture(scope="module", params=["ext4", "tmpfs"])
def own(request, module_arena: Path) -> Iterator[Callable[[], Mount]]:
    """`own()`: the mount of a store; `own(anew=True)`: after a restart of its daemon."""
    directory = module_arena / f"own-{request.param}"
    directory.mkdir()
    directory.chmod(0o711)
    with file_system(request.param, directory) as disk:
        store = disk / "store"
        store.mkdir(mode=0o700)
        (store / "shared").mkdir()
        (store / "put.txt").write_text("put into the store\n")
        mounts = Mounts(directory)
        running: list[Mount] = []

        def start(*, anew: bool = False) -> Mount:
            if running and not anew:
                return running[0]
            while running:
                assert running.pop().stop() == []
            running.append(mounts.start(OWN, store))
            return running[0]

        try:
            yield start
        finally:
            wrong = mounts.stop_all()
        assert wrong == []


def _rights(path: Path) -> tuple[str, ...]:
    return (error(os.open, path, os.O_RDONLY), error(os.open, path, os.O_WRONLY), error(os.utime, path))


MINE, NOT_MINE, FREE = ("fd",) * 3, ("EACCES",) * 3, ("fd", "EACCES", "EACCES")


def rights(uid: int, path: Path) -> tuple[str, ...]:
    """What a uid may do with a file: its owner all, others nothing; with nobody's, all may read."""
    return tuple("fd" if said.isdigit() or said == "None" else said for said in call_as(uid, _rights, path))


def test_owners_survive_a_remount_and_cannot_be_forged(own: Callable[[], Mount]) -> None:
    mount = own()
    call_as(10010, _write_new, mount / "mine.txt", b"one's own\n")
    call_as(10011, _write_new, mount / "other.txt", b"two's own\n")
    for again in (False, True):
        if again:
            mount = own(anew=True)
        assert rights(10010, mount / "mine.txt") == MINE
        assert rights(10011, mount / "mine.txt") == NOT_MINE
        assert rights(10010, mount / "other.txt") == NOT_MINE
        assert rights(10010, mount / "put.txt") == FREE
        assert rights(10099, mount / "mine.txt") == ("ENOENT",) * 3
    # No request reads or sets it: not as the app, not as a listed root.
    for uid in (10010, 10011, 0):
        said = call_as(uid, lambda: [
            error(os.setxattr, mount / "shared", "trusted.policyfs.owner", b"1 0 0 two"),
            error(os.getxattr, mount / "shared", "trusted.policyfs.owner"),
            error(os.removexattr, mount / "shared", "trusted.policyfs.owner"),
            os.listxattr(mount / "shared"),
        ])  # fmt: skip
        assert said == ["EPERM", "ENODATA", "EPERM", []]
    # A new owner of the file by chown is no new owner of it.
    assert call_as(0, lambda: error(os.chown, mount / "mine.txt", 10011, 10011)) == "EACCES"
    os.chown(mount.store / "mine.txt", 10011, 10011)
    assert rights(10011, mount / "mine.txt") == NOT_MINE
    assert rights(10010, mount / "mine.txt") == MINE


def test_names_come_and_go_and_the_owner_stays(own: Callable[[], Mount]) -> None:
    mount = own()
    call_as(10010, _write_new, mount / "a", b"a")
    assert call_as(10010, lambda: error(os.rename, mount / "a", mount / "b")) == "None"
    assert call_as(10010, lambda: error(os.link, mount / "b", mount / "c")) == "None"
    for name in ("b", "c"):
        assert rights(10010, mount / name) == MINE
        assert rights(10011, mount / name) == NOT_MINE
    (mount.store / "b").rename(mount.store / "moved in the store")
    wait_for(lambda: rights(10010, mount / "moved in the store") == MINE, "the move is seen")
    assert rights(10011, mount / "moved in the store") == NOT_MINE
    # Directories and symlinks have owners too.
    call_as(10010, lambda: (os.mkdir(mount / "dir"), os.symlink("b", mount / "link")))
    assert (
        call_as(10011, lambda: [error(os.rmdir, mount / "dir"), error(os.unlink, mount / "link")])
        == ["EACCES"] * 2
    )
    assert (
        call_as(10010, lambda: [error(os.rmdir, mount / "dir"), error(os.unlink, mount / "link")])
        == ["None"] * 2
    )


def test_a_copy_made_in_the_store_owns_nothing(own: Callable[[], Mount]) -> None:
    mount = own()
    call_as(10010, _write_new, mount / "original", b"bytes")
    subprocess.run(["cp", "-a", "original", "copy"], cwd=mount.store, check=True, timeout=10)
    assert b"one" in os.getxattr(mount.store / "copy", "trusted.policyfs.owner")  # copied, and worthless
    assert rights(10010, mount / "original") == MINE
    assert rights(10010, mount / "copy") == FREE
    # Nor does a new file that got the inode number of an old one.
    number = (mount.store / "original").stat().st_ino
    xattr = os.getxattr(mount.store / "original", "trusted.policyfs.owner")
    call_as(10010, os.unlink, mount / "original")
    for attempt in range(50):
        (mount.store / f"new{attempt}").touch()
        if (mount.store / f"new{attempt}").stat().st_ino == number:
            os.setxattr(mount.store / f"new{attempt}", "trusted.policyfs.owner", xattr)
            assert rights(10010, mount / f"new{attempt}") == FREE
            break


def owned_by_one(mount: Mount, name: str) -> bool:
    """Does the store say that app `one` owns a file in /shared."""
    try:
        return b"one" in os.getxattr(mount.store / "shared" / name, "trusted.policyfs.owner")
    except OSError as none:
        if none.errno != errno.ENODATA:
            raise
        return False


def test_whoever_else_writes_it_makes_it_nobodys(own: Callable[[], Mount]) -> None:
    mount = own()
    names = ("opened", "cut", "appended")
    for name in names:
        call_as(10010, _write_new, mount / "shared" / name, b"one's")
    reads = call_as(10011, lambda: [content(mount / "shared" / name) for name in names])
    assert reads == [b"one's"] * 3
    assert all(owned_by_one(mount, name) for name in names)

    def write(channel) -> None:
        with fd_of(mount / "shared/opened", os.O_WRONLY):
            channel.send("opened")  # and not a byte written
            channel.recv()
        os.truncate(mount / "shared/cut", 1)
        with fd_of(mount / "shared/appended", os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b" two's")

    writer = start_as(10011, write)
    assert writer.receive() == "opened"
    assert not owned_by_one(mount, "opened")
    writer.send("go on")
    writer.result()
    for name in names:
        assert not owned_by_one(mount, name)
    # The owner itself writing changes nothing.
    call_as(10010, _write_new, mount / "shared/kept", b"x")
    call_as(10010, lambda: os.truncate(mount / "shared/kept", 0))
    assert owned_by_one(mount, "kept")


# ---------------------------------------------------------------- monitor mode


MONITOR = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: monitor}
apps:
  gallery: {uid: 10011}
rules:
  - {id: read, allow: [see, read, create], who: {app: gallery}, paths: "/**"}
  - {id: more, allow: [write], who: {app: gallery}, paths: "/**", mode: monitor}
  - {id: less, deny: [read], who: {app: gallery}, paths: "/Documents/**", mode: monitor}
  - {id: hide, require: {redact: [location]}, audit: best_effort}
  - {id: never, deny: [all], paths: "/Music/***"}
"""


def test_monitored_rules_are_recorded_and_not_enforced(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(
        MONITOR.replace("  - {id: hide, require: {redact: [location]}, audit: best_effort}\n", ""), store
    )
    notes = mount / "Documents/notes.txt"
    assert call_as(10011, content, str(notes)) == b"plain words\n"
    assert call_as(10011, lambda: error(os.open, notes, os.O_WRONLY)) == "EACCES"
    assert call_as(10011, lambda: error(os.listdir, mount / "Music")) == "ENOENT"
    events = wait_for(
        lambda: (
            found if len(found := mount.events(path="/Documents/notes.txt", operation="open")) == 2 else None
        ),
        "two opens on record",
    )
    read, write = events
    assert (read["decision"], read["would_deny"]) == ("would_deny", ["less"])
    assert (write["decision"], write["errno"], write["would_allow"]) == ("deny", "EACCES", ["more"])


def test_a_dry_run_denies_listed_apps_nothing_and_redacts_all_the_same(mounts: Mounts, store: Path) -> None:
    (store / "Pictures/unknown.bin").write_bytes(random.Random(4).randbytes(5000))
    mount = mounts.start(MONITOR, store, "--monitor")
    assert mount.status()["policy"]["monitor"] is True
    photo = mount / "DCIM/Camera/a.jpg"
    assert not carries_place(call_as(10011, content, str(photo)))
    assert call_as(10011, lambda: [
        os.path.exists(mount / "Music/song.mp3"), error(os.utime, photo),
        error(content, mount / "Pictures/unknown.bin"),
    ]) == [True, "None", "EACCES"]  # fmt: skip
    assert call_as(10011, lambda: sorted(os.listdir(mount / "Music"))) == ["song.mp3"]
    for stranger in (STRANGER, 0):
        assert call_as(stranger, lambda: [
            os.listdir(mount), error(os.stat, photo), error(os.mkdir, mount / "new"), error(os.utime, photo),
        ]) == [[], "ENOENT", "ENOENT", "ENOENT"]  # fmt: skip
    would = wait_for(
        lambda: mount.events(decision="would_deny", operation="list"), "the listing is on record"
    )
    assert would[0]["would_deny"] == ["never"]


def test_exiftool_of_who_may_not_know(library: Mount) -> None:
    """An independent reader finds no place in what the gallery gets, and the rest whole."""
    said = {
        uid: tool_as(uid, "exiftool", "-a", "-G1", "-s", library / "DCIM/Camera/taken.jpg").stdout
        for uid in (GALLERY, MAPS)
    }
    assert b"GPSLatitude" in said[MAPS]
    assert not carries_place(said[GALLERY])
    assert b"Testmaker" in said[GALLERY]
