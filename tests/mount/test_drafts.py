"""`require: {no: [location]}`: what is written is looked through as a whole before it reaches the store."""

from __future__ import annotations

import mmap
import os
import signal
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, code_of, start_as, tool_as, wait_for
from tests.support.mount.corners import Corner, Corners
from tests.support.mount.daemons import policyfs
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: read, allow: [see, read], paths: "/**"}}
  - {{id: camera, allow: [all], who: {{app: camera}}, paths: "/**"}}
  - {{id: share, require: {{no: [location]}}, paths: ["/*/Share/**", "/*/Both/**"]}}
  - {{id: typed, require: {{content: [image/jpeg]}}, paths: "/*/Typed/**"}}
  - {{id: both, allow: [all], who: {{app: gallery}}, paths: "/*/Both/**"}}
  - id: redacted
    require: {{redact: location}}
    who: {{app: gallery}}
    paths: "/*/Both/**"
    unless: {{owner: self}}
"""
PLACED = jpegs.photo_with(jpegs.exif())
CLEAN = jpegs.plain(3, 64)
OTHER = jpegs.plain(4, 200)
PLACES = ("DCIM", "Share", "Both", "Typed")


@pytest.fixture
def share(corner_of) -> tuple[Corner, Path]:
    """A part of a mount, and the share folder in the store."""
    corner = corner_of(POLICY, *PLACES)
    return corner, corner.store / "Share"


@pytest.fixture
def store(share: tuple[Corner, Path]) -> Path:
    return share[0].store


def save(path: Path, data: bytes, flags: int = os.O_CREAT | os.O_TRUNC, piece: int = 1 << 20) -> list[str]:
    """Write a file in pieces; what write and close answered, where it was an error."""
    said = []
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    for at in range(0, len(data), piece):
        said.append(code_of(os.write, fd, data[at : at + piece]))
    said.append(code_of(os.close, fd))
    return [each for each in said if each]


@pytest.mark.parametrize("piece", [1 << 20, 100])
def test_only_what_tells_no_place_gets_in(share, piece: int) -> None:
    mount, directory = share
    path = mount.mountpoint / "Share"
    assert call_as(CAMERA, save, path / "a.jpg", CLEAN, os.O_CREAT, piece) == []
    assert (directory / "a.jpg").read_bytes() == CLEAN
    assert (directory / "a.jpg").stat().st_uid == CAMERA
    assert call_as(CAMERA, save, path / "b.jpg", PLACED, os.O_CREAT, piece) == ["EPERM"]
    wait_for(lambda: not (directory / "b.jpg").exists(), "the refused file to go with its last release")
    wait_for(lambda: mount.events(decision="deny"), "the denial on the trail")
    [event] = mount.events(decision="deny")
    assert event["kind"] == "image/jpeg"
    assert "holds data about location: EXIF IFD:GPSInfo" in event["note"]
    assert event["rules"] == ["share"]


def test_what_is_refused_has_destroyed_nothing(share) -> None:
    mount, directory = share
    path = mount.mountpoint / "Share/a.jpg"
    call_as(CAMERA, save, path, CLEAN)
    assert call_as(CAMERA, save, path, PLACED) == ["EPERM"]
    assert (directory / "a.jpg").read_bytes() == CLEAN
    assert call_as(GALLERY, path.read_bytes) == CLEAN
    assert call_as(CAMERA, save, path, OTHER) == []
    assert call_as(GALLERY, path.read_bytes) == OTHER
    assert call_as(CAMERA, code_of, os.truncate, path, 2) == "EPERM"
    assert (directory / "a.jpg").read_bytes() == OTHER
    assert call_as(CAMERA, code_of, os.truncate, path, 0) == ""
    assert (directory / "a.jpg").read_bytes() == b""


def _read_on(channel, path: Path) -> None:
    with path.open("rb") as file:
        channel.send("open")
        channel.recv()
        channel.send((os.fstat(file.fileno()).st_size, file.read()))


def test_a_refused_truncation_is_not_left_to_those_who_have_the_file_open(share) -> None:
    mount, directory = share
    path = mount.mountpoint / "Share/a.jpg"
    call_as(CAMERA, save, path, OTHER)
    reader = start_as(CAMERA, _read_on, path)
    reader.receive()
    assert call_as(CAMERA, code_of, os.truncate, path, 2) == "EPERM"
    reader.send("go on")
    assert reader.receive() == (len(OTHER), OTHER)
    reader.result()
    assert (directory / "a.jpg").read_bytes() == OTHER


@pytest.mark.parametrize("more", [0, 5 << 19])
def test_under_redaction_a_file_is_written_by_emptying_it_here_too(share, store: Path, more: int) -> None:
    """Of more than one piece, too; and what is refused has destroyed nothing."""
    mount, path = share[0], share[0].mountpoint / "Both/a.jpg"
    file = store / "Both/a.jpg"
    file.write_bytes(PLACED)
    assert call_as(GALLERY, save, path, PLACED) == ["EPERM"]
    assert call_as(GALLERY, code_of, os.truncate, path, 2) == "EACCES"
    assert file.read_bytes() == PLACED
    assert call_as(GALLERY, save, path, CLEAN + bytes(more)) == []
    assert file.read_bytes() == CLEAN + bytes(more)
    file.write_bytes(PLACED)
    assert call_as(GALLERY, code_of, os.truncate, path, 0) == ""
    assert file.read_bytes() == b""
    assert mount.status()["bugs"] == 0


def _sync(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        return code_of(os.fsync, fd)
    finally:
        os.close(fd)


def _hold(channel, path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, data)
    channel.send("written")
    channel.recv()
    channel.send(code_of(os.close, fd))


@pytest.mark.parametrize("where", ["Share", "Typed"])
def test_who_has_a_file_open_for_reading_can_sync_it(share, store: Path, where: str) -> None:
    """As sync(1) does: what is held goes to the store, or is an error."""
    path = share[0].mountpoint / where / "a.jpg"
    for data, said in ((CLEAN, ""), (CLEAN[:2], "EPERM")):
        writer = start_as(CAMERA, _hold, path, data)
        writer.receive()
        assert call_as(CAMERA, _sync, path) == said
        assert said or (store / where / "a.jpg").read_bytes() == data
        writer.send("go on")
        assert writer.receive() == said
        writer.result()


@pytest.mark.parametrize("where", ["Share", "Typed"])
def test_a_refused_new_file_leaves_nothing_where_it_was_moved_meanwhile(
    share, store: Path, where: str
) -> None:
    """In the store, or through another mount: nobody has asked for it here since."""
    writer = start_as(CAMERA, _hold, share[0].mountpoint / where / "new.jpg", CLEAN[:2])
    writer.receive()
    (store / where / "new.jpg").rename(store / "Both/moved.jpg")
    (store / where / "new.jpg").write_bytes(OTHER)
    writer.send("go on")
    assert writer.receive() == "EPERM"
    writer.result()
    wait_for(lambda: not (store / "Both/moved.jpg").exists(), "what was refused is gone")
    assert (store / where / "new.jpg").read_bytes() == OTHER


def test_what_nobody_can_look_through_stays_out(share) -> None:
    mount, directory = share
    path = mount.mountpoint / "Share/notes.txt"
    assert call_as(CAMERA, save, path, b"47.804531, 13.042287\n") == ["EPERM"]
    assert call_as(CAMERA, save, path, b"harmless words\n") == ["EPERM"]
    wait_for(lambda: os.listdir(directory) == [], "what was refused goes with its last release")
    assert call_as(CAMERA, save, path, b"") == []
    assert os.listdir(directory) == ["notes.txt"]


def _step_by_step(channel, path: Path, parts: list[bytes]) -> None:
    """Writes a part when told to; says what close of a duplicate, and fsync, answered."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    for part in parts:
        os.write(fd, part)
        channel.send((code_of(os.close, os.dup(fd)), code_of(os.fsync, fd), os.fstat(fd).st_size))
        channel.recv()
    os.close(fd)


def test_a_draft_is_seen_by_its_writer_alone_until_it_may_be(share) -> None:
    mount, directory = share
    path = mount.mountpoint / "Share/a.jpg"
    call_as(CAMERA, save, path, OTHER)
    first = 2  # of a photo: nobody can say what it is to be
    writer = start_as(CAMERA, _step_by_step, path, [CLEAN[:first], CLEAN[first:]])
    assert writer.receive() == ("EPERM", "EPERM", first)
    assert (directory / "a.jpg").read_bytes() == OTHER
    writer.send("go on")
    assert writer.receive() == ("", "", len(CLEAN))
    assert (directory / "a.jpg").read_bytes() == CLEAN
    writer.send("go on")
    writer.result()
    assert call_as(GALLERY, path.read_bytes) == CLEAN


def _edited(path: Path, at: int, data: bytes) -> str:
    """Change bytes through a shared mapping; what msync or close said."""
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 0) as memory:
        memory[at : at + len(data)] = data
        said = code_of(memory.flush)
    return code_of(os.close, fd) or said


def test_changes_through_a_mapping_are_looked_at(share) -> None:
    mount, directory = share
    comment, place = b"a quince on a table.", b"47.804531, 13.042287"
    data = jpegs.with_segments(CLEAN, jpegs.segment(jpegs.COM, comment))
    path = mount.mountpoint / "Share/a.jpg"
    call_as(CAMERA, save, path, data)
    at = data.index(comment)
    assert call_as(CAMERA, _edited, path, at, place) == "EPERM"
    assert (directory / "a.jpg").read_bytes() == data
    assert call_as(CAMERA, _edited, path, at, comment.upper()) == ""
    assert (directory / "a.jpg").read_bytes() == data.replace(comment, comment.upper())


def test_what_is_moved_in_is_looked_at(share, store: Path) -> None:
    mount, directory = share
    camera = mount.mountpoint / "DCIM"
    for name, data in (("clean.jpg", CLEAN), ("placed.jpg", PLACED)):
        call_as(CAMERA, save, camera / name, data)
    to = mount.mountpoint / "Share"
    number = (store / "DCIM/clean.jpg").stat().st_ino
    assert call_as(CAMERA, code_of, os.rename, camera / "clean.jpg", to / "clean.jpg") == ""
    assert (directory / "clean.jpg").stat().st_ino == number
    assert call_as(CAMERA, code_of, os.rename, camera / "placed.jpg", to / "placed.jpg") == "EPERM"
    assert call_as(CAMERA, code_of, os.link, camera / "placed.jpg", to / "placed.jpg") in {"EPERM", "EXDEV"}
    assert call_as(CAMERA, code_of, os.rename, to / "clean.jpg", to / "b.jpg") == ""
    assert os.listdir(directory) == ["b.jpg"]
    assert (store / "DCIM/placed.jpg").read_bytes() == PLACED


def _replaced_before_close(path: Path, new: Path, data: bytes) -> list[str]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, data)
    return [code_of(os.rename, path, new), code_of(os.close, fd)]


@pytest.mark.parametrize("where", ["Share", "Typed"])
def test_what_is_not_judged_yet_replaces_nothing(share, store: Path, where: str) -> None:
    """Programs move what they have written to its place before they close it."""
    mount, at = share[0].mountpoint / where, store / where
    (at / "a.jpg").write_bytes(OTHER)
    bad = PLACED if where == "Share" else PLACED[:2]
    assert call_as(CAMERA, _replaced_before_close, mount / "new", mount / "a.jpg", bad) == ["EPERM"] * 2
    wait_for(lambda: os.listdir(at) == ["a.jpg"], "the refused file to go")
    assert (at / "a.jpg").read_bytes() == OTHER
    assert call_as(CAMERA, _replaced_before_close, mount / "new", mount / "a.jpg", CLEAN) == ["", ""]
    assert os.listdir(at) == ["a.jpg"]
    assert (at / "a.jpg").read_bytes() == CLEAN


def test_two_names_of_one_file_stay(share, store: Path) -> None:
    """rename(2) of one name of a file onto another does nothing, also where one of them is looked at."""
    mount, directory = share
    call_as(CAMERA, save, mount.mountpoint / "DCIM/a.jpg", CLEAN)
    os.link(store / "DCIM/a.jpg", directory / "b.jpg")
    names = mount.mountpoint / "DCIM/a.jpg", mount.mountpoint / "Share/b.jpg"
    for old, new in (names, names[::-1]):
        assert call_as(CAMERA, code_of, os.rename, old, new) == ""
        assert [call_as(CAMERA, os.stat, name).st_nlink for name in names] == [2, 2]
    assert (store / "DCIM/a.jpg").samefile(directory / "b.jpg")


def test_ordinary_tools(share) -> None:
    """cp -p and rsync keep times; exiftool cannot put a place into what is there."""
    mount, directory = share
    photo = mount.mountpoint / "DCIM/in.jpg"
    call_as(CAMERA, save, photo, CLEAN)
    call_as(CAMERA, os.utime, photo, (10**9, 10**9))
    to = mount.mountpoint / "Share"
    tool_as(CAMERA, "cp", "-p", photo, to / "a.jpg", check=True)
    tool_as(CAMERA, "rsync", "-a", photo, to / "b.jpg", check=True)
    for name in ("a.jpg", "b.jpg"):
        assert (directory / name).read_bytes() == CLEAN
        assert (directory / name).stat().st_mtime == 10**9
    said = tool_as(CAMERA, "exiftool", "-q", "-overwrite_original", "-GPSLatitude=47.8", to / "a.jpg")
    assert said.returncode != 0
    assert (directory / "a.jpg").read_bytes() == CLEAN
    # The draft goes when the kernel sends RELEASE, for which the end of a process does not wait.
    wait_for(lambda: sorted(os.listdir(directory)) == ["a.jpg", "b.jpg"], "the refused draft is gone")


def _writing(channel, path: Path, data: bytes, dated: bool = False) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, data)
    channel.send("written")
    channel.recv()
    if dated:  # as cp -p and rsync do before they close
        os.utime(fd, (10**9, 10**9))
    channel.send(code_of(os.close, fd))


@pytest.mark.parametrize("dated", [False, True])
def test_somebody_else_has_changed_the_file_meanwhile(share, dated: bool) -> None:
    mount, directory = share
    path = mount.mountpoint / "Share/a.jpg"
    call_as(CAMERA, save, path, CLEAN)
    writer = start_as(CAMERA, _writing, path, OTHER, dated)
    writer.receive()
    (directory / "a.jpg").write_bytes(CLEAN + bytes(3))
    writer.send("go on")
    assert writer.receive() == "EBUSY"
    writer.result()
    assert (directory / "a.jpg").read_bytes() == CLEAN + bytes(3)
    [event] = wait_for(lambda: mount.events(operation="quarantine"), "the app's version is kept")
    assert (event["decision"], event["path"]) == ("allow", f"/{mount.name}/Share/a.jpg")
    assert "another program has changed the file" in event["note"]


def test_a_new_file_whose_times_somebody_else_sets_gets_its_bytes(share) -> None:
    """The file is empty in the store until its draft is accepted: there is nothing to be lost."""
    mount, directory = share
    writer = start_as(CAMERA, _writing, mount.mountpoint / "Share/a.jpg", OTHER)
    writer.receive()
    os.utime(directory / "a.jpg", (10**9, 10**9))
    writer.send("go on")
    assert writer.receive() == ""
    writer.result()
    assert (directory / "a.jpg").read_bytes() == OTHER


def test_nothing_of_a_draft_outlives_the_daemon(mounts, empty_store: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    corner = Corners(mount).new(*PLACES)
    directory, path = corner.store / "Share", corner / "Share/a.jpg"
    call_as(CAMERA, save, path, CLEAN)
    writer = start_as(CAMERA, _writing, path, PLACED)
    writer.receive()
    assert mount.process is not None
    mount.expected_exit = -signal.SIGKILL
    mount.process.send_signal(signal.SIGKILL)
    with mount.as_environment():
        assert policyfs("umount", mount.mountpoint).returncode == 0
    writer.send("go on")
    assert writer.receive() in {"ENOTCONN", "ECONNABORTED"}
    writer.result()
    assert (directory / "a.jpg").read_bytes() == CLEAN
    assert os.listdir(directory) == ["a.jpg"]
    mount.control_socket.unlink(missing_ok=True)


def _write_on(channel, path: Path) -> list[object]:
    """Write, and after a word write and read on; what was read, the size, and what close said."""
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"1" * 100, 5000)
    channel.send("open")
    channel.recv()
    os.pwrite(fd, b"2" * 5100, 9000)
    os.ftruncate(fd, 20_000)
    return [os.pread(fd, 100, at) for at in (5000, 9000, 14_000)] + [
        len(os.pread(fd, 1 << 20, 0)), code_of(os.close, fd)
    ]  # fmt: skip


@pytest.mark.parametrize("rule", ["no: [location]", "content: [image/jpeg]"])
def test_who_has_a_file_open_while_a_reload_has_it_checked_goes_on_with_it(
    mounts, empty_store: Path, rule: str
) -> None:
    """Without passthrough: the app's reads and writes come to the daemon, and its writes are in a draft."""
    later = empty_store / "Later"
    later.mkdir()
    later.chmod(0o777)
    (later / "a.jpg").write_bytes(CLEAN + bytes(60_000))
    (later / "a.jpg").chmod(0o666)
    mount = mounts.start(POLICY, empty_store, "--no-passthrough")
    writer = start_as(CAMERA, _write_on, mount / "Later/a.jpg")
    writer.receive()
    mount.policy.write_text(POLICY + f'  - {{id: later, require: {{{rule}}}, paths: "/Later/**"}}\n')
    assert mount.reload().returncode == 0
    writer.send("go on")
    assert writer.result() == [b"1" * 100, b"2" * 100, b"2" * 100, 20_000, ""]
    expected = bytearray((CLEAN + bytes(60_000))[:20_000])
    expected[5000:5100] = b"1" * 100
    expected[9000:14_100] = b"2" * 5100
    assert (later / "a.jpg").read_bytes() == expected
    assert mount.status()["bugs"] == 0
