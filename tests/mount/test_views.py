"""Views of one file through one mount: versions, own files, redaction and writing, names that go."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, code_of, start_as, tool_as
from tests.support.mount.corners import Corner
from tests.support.samples import jpegs
from tests.support.samples.jpegs import leaks

CAMERA, GALLERY, MAPS, EDITOR = 10010, 10011, 10012, 10013
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
  maps: {{uid: {MAPS}, grants: [media.location]}}
  editor: {{uid: {EDITOR}, grants: [media.location]}}
path_sets:
  dcim: ["/DCIM/**", "/*/DCIM/**"]
  own: ["/Android/{{app}}/***", "/*/Android/{{app}}/***"]
rules:
  - {{id: read, allow: [see, read], who: {{app: [camera, gallery, maps, editor]}}, paths: "@dcim"}}
  - {{id: camera, allow: [all], who: {{app: [camera, editor]}}, paths: "@dcim"}}
  - {{id: gallery, allow: [see, read, write], who: {{app: gallery}}, paths: "@dcim"}}
  - {{id: private, allow: [all], who: {{app: any}}, paths: "@own"}}
  - id: no-location
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    paths: "@dcim"
    unless: {{owner: self}}
"""
PHOTO = jpegs.with_segments(
    jpegs.plain(1, 64),
    jpegs.exif_segment(jpegs.exif()),
    jpegs.photoshop_segment(jpegs.resource(0x0404, jpegs.iptc_place())),
)
_libc = ctypes.CDLL(None, use_errno=True)
OTHER = jpegs.with_segments(jpegs.plain(2, 64), jpegs.exif_segment(jpegs.exif("MM")))


assert leaks(PHOTO)
assert leaks(OTHER)  # and a child that cannot import any more has all that leaks() needs


def fill(store: Path) -> Path:
    """One photo of nobody's, with a place in it, at DCIM/a.jpg."""
    for name in ("DCIM", "Android/camera", "Android/gallery"):
        (store / name).mkdir(parents=True)
        (store / name).chmod(0o777)
    (store / "DCIM/a.jpg").write_bytes(PHOTO)
    (store / "DCIM/a.jpg").chmod(0o666)
    return store


@pytest.fixture
def photos(empty_store: Path) -> Path:
    """A store with that photo, for tests that start mounts of their own."""
    return fill(empty_store)


@pytest.fixture
def mount(corner_of) -> Corner:
    """A corner with that photo of a mount that the tests of this file share."""
    corner = corner_of(POLICY)
    fill(corner.store)
    return corner


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def touched(memory: bytes | mmap.mmap) -> bytes:
    """Mapped bytes as the kernel copies them: where touching them is SIGBUS, this is EFAULT."""
    sink = os.memfd_create("sink")
    try:
        os.write(sink, memory)
        return os.pread(sink, len(memory), 0)
    finally:
        os.close(sink)


# ---------------------------------------------------------------- names that go while a file is open


def _outlives_its_name(channel, path: Path) -> tuple[int, int, str, bytes]:
    fd = os.open(path, os.O_RDONLY)
    channel.send("open")
    channel.recv()
    status = os.fstat(fd)
    reopened = code_of(lambda: os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)))
    data = os.pread(fd, 1 << 20, 0)
    os.close(fd)
    return status.st_size, status.st_nlink, reopened, data


@pytest.mark.parametrize("app", [MAPS, GALLERY])
@pytest.mark.parametrize("where", ["mount", "store"])
@pytest.mark.parametrize("how", ["unlinked", "replaced"])
def test_an_open_file_outlives_its_name(mount, app, where, how) -> None:
    child = start_as(app, _outlives_its_name, mount / "DCIM/a.jpg")
    child.receive()
    directory = (mount / "DCIM") if where == "mount" else mount.store / "DCIM"
    uid = EDITOR if where == "mount" else 0
    if how == "unlinked":
        call_as(uid, os.unlink, directory / "a.jpg")
    else:
        call_as(uid, write, directory / "b.jpg", OTHER)
        call_as(uid, os.rename, directory / "b.jpg", directory / "a.jpg")
    child.send("go on")
    size, links, reopened, data = child.result()
    assert where == "store" or not reopened
    assert (size, links) == (len(PHOTO), 0)
    assert bool(leaks(data)) == (app == MAPS)
    assert data[:4] == PHOTO[:4]


# ---------------------------------------------------------------- versions


def _keep_versions(channel, path: Path) -> list[bytes]:
    """Opens and maps the file each time it is told to; in the end, what each of them says."""
    files, maps = [], []
    while channel.recv() == "open":
        files.append(path.open("rb", buffering=0))
        maps.append(mmap.mmap(files[-1].fileno(), 0, prot=mmap.PROT_READ))
        channel.send(os.fstat(files[-1].fileno()).st_size)
    mapped = [memory[:] for memory in maps]
    read = [os.pread(file.fileno(), 1 << 20, 0) for file in files]
    assert mapped == read
    return read


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["passthrough", "mediated"])
def test_each_handle_keeps_the_version_that_it_opened(mounts, photos, options) -> None:
    mount = mounts.start(POLICY, photos, *options)
    path = mount / "DCIM/a.jpg"
    longer = jpegs.with_segments(jpegs.plain(3, 96), jpegs.exif_segment(jpegs.exif("MM")))
    versions = [PHOTO, OTHER, longer]
    readers = [start_as(app, _keep_versions, path) for app in (GALLERY, GALLERY)]
    for turn, data in enumerate(versions):
        if turn == 1:
            call_as(EDITOR, write, path, data)
        elif turn == 2:
            call_as(EDITOR, write, mount / "DCIM/new.jpg", data)
            call_as(EDITOR, os.rename, mount / "DCIM/new.jpg", path)
        for reader in readers:
            reader.send("open")
            assert reader.receive() == len(data)
    for reader in readers:
        reader.send("enough")
        shown = reader.result()
        assert [jpegs.pixels(data) for data in shown] == [jpegs.pixels(data) for data in versions]
        assert [leaks(data) for data in shown] == [[], [], []]
    assert call_as(MAPS, read, path) == longer


def _open_and_read(channel, path: Path, turns: int) -> dict[str, int]:
    """Open, read and stat so often; which of them failed how, and how often."""
    failed: dict[str, int] = {}
    for _ in range(turns):
        for name, look in {"read": path.read_bytes, "stat": path.stat}.items():
            try:
                data = look()
                assert name == "stat" or not leaks(data)
            except OSError as error:
                what = f"{name}: {errno.errorcode[error.errno or 0]}"
                failed[what] = failed.get(what, 0) + 1
    return failed


def _rewrite(channel, path: Path, turns: int) -> None:
    """Rewrite, replace and touch a photo, so often at least, and until told that it is enough."""
    turn = 0
    while turn < turns or not channel.poll():
        data = PHOTO if turn % 2 else OTHER
        if turn % 3 == 0:
            path.write_bytes(data)
        elif turn % 3 == 1:
            path.with_name("new.jpg").write_bytes(data)
            os.rename(path.with_name("new.jpg"), path)
        else:
            os.utime(path)
        turn += 1


@pytest.mark.parametrize("app", [(), ("--app", "camera")], ids=["shared", "app"])
def test_what_was_moved_to_where_something_is_hidden_can_be_emptied_at_once(mounts, photos, app) -> None:
    """The name that the kernel knows leads to a raw node: it looks up once more, and only once."""
    (photos / "Android/camera/a.txt").write_text("words\n")
    (photos / "Android/camera/a.txt").chmod(0o666)
    policy = POLICY.replace("    unless: {owner: self}\n", "    raw_types: [text/plain]\n")
    assert policy != POLICY
    mount = mounts.start(policy, photos, *app)
    call_as(CAMERA, os.rename, mount / "Android/camera/a.txt", mount / "DCIM/a.txt")
    assert call_as(CAMERA, code_of, write, mount / "DCIM/a.txt", b"other words\n") == ""
    assert (photos / "DCIM/a.txt").read_bytes() == b"other words\n"


def test_no_program_sees_estale_or_eio(mount) -> None:
    """Three apps look at a photo that is rewritten, replaced and touched all the time."""
    path = mount / "DCIM/a.jpg"
    editor = start_as(EDITOR, _rewrite, path, 60)
    readers = [start_as(GALLERY, _open_and_read, path, 30) for _ in range(2)]
    failed = [reader.result() for reader in readers]
    editor.send("enough")
    editor.result()
    # Half a file is no photo: between O_TRUNC and write it is refused, which is right.
    assert all(set(each) <= {"read: EACCES"} for each in failed), failed


def test_a_harmless_file_that_becomes_a_photo_shows_no_place(mount) -> None:
    """A3: opened and mapped while there was nothing to hide, in the mount and behind it."""
    harmless = jpegs.plain(2, 64)
    for name in ("empty.jpg", "plain.jpg"):
        for where in ("mount", "store"):
            data = b"" if name == "empty.jpg" else harmless.ljust(len(PHOTO), b"\0")
            (mount.store / "DCIM" / name).write_bytes(data)
            (mount.store / "DCIM" / name).chmod(0o666)
            path = mount / "DCIM" / name

            def watch(channel, path: Path = path, mapped: bool = bool(data)) -> list[bytes]:
                fd = os.open(path, os.O_RDONLY)
                memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ) if mapped else b""
                channel.send("open")
                channel.recv()
                with path.open("rb") as again:
                    return [os.pread(fd, 1 << 20, 0), memory[:], again.read()]

            watcher = start_as(GALLERY, watch)
            watcher.receive()
            if where == "mount":
                call_as(EDITOR, write, path, PHOTO)
            else:
                write(mount.store / "DCIM" / name, PHOTO)
            watcher.send("look")
            shown = watcher.result()
            assert [leaks(bytes(one)) for one in shown] == [[], [], []], (name, where)
            assert jpegs.pixels(shown[2]) == jpegs.pixels(PHOTO)


# ---------------------------------------------------------------- redaction and writing


def test_under_redaction_a_file_is_written_only_by_emptying_it(mount) -> None:
    """Attack A5.3: Become a file's owner, to see its places; change single bytes of it under redaction
    Guard: policyfs/fs/opening/preconditions.py::Preconditions.check_emptying,
    policyfs/store/owner.py::Owners.get
    Also: ::test_an_owner_survives_a_remount_and_is_not_forged
    Without: ::test_without_that_rule_single_bytes_could_be_changed
    """
    path, stored = mount / "DCIM/a.jpg", mount.store / "DCIM/a.jpg"
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_CREAT):
        assert call_as(GALLERY, code_of, os.open, path, flags) == "EACCES"
    for size in (1, 20, len(PHOTO), len(PHOTO) + 1):
        assert call_as(GALLERY, code_of, os.truncate, path, size) == "EACCES"
    assert stored.read_bytes() == PHOTO

    def empty_and_write() -> tuple[bytes, str]:
        fd = os.open(path, os.O_RDWR | os.O_TRUNC)
        os.write(fd, OTHER)
        os.ftruncate(fd, len(OTHER) + 5)
        os.pwrite(fd, b"\0\0\0\0\0", len(OTHER))
        back = os.pread(fd, 1 << 20, 0)
        os.close(fd)
        return back, code_of(os.open, path, os.O_RDWR)

    back, again = call_as(GALLERY, empty_and_write)
    assert back[: len(OTHER)] == OTHER or not leaks(back)  # its own bytes, from its own pages
    assert again == "EACCES"
    assert stored.read_bytes() == OTHER + b"\0" * 5
    call_as(GALLERY, os.truncate, path, 0)
    assert stored.read_bytes() == b""
    assert not leaks(call_as(GALLERY, read, path))


def refused(code: int, call, *arguments) -> None:
    with pytest.raises(OSError) as refusal:
        call(*arguments)
    assert refusal.value.errno == code


def test_who_has_emptied_a_file_writes_on_when_its_names_or_attributes_change(mount) -> None:
    """Tools set modes, times and attributes of what they are writing, and move it: no bytes of others come
    into it by that. A refusal would come when the old ones are gone. Extended attributes are hidden from
    it: to ask for them changes nothing either."""
    path, other = mount / "DCIM/a.jpg", mount / "DCIM/other"
    changes = (
        lambda fd: os.fchmod(fd, 0o640),
        lambda fd: os.utime(fd, (10**9, 10**9)),
        lambda fd: refused(errno.EOPNOTSUPP, os.setxattr, fd, "user.rating", b"5"),
        lambda fd: refused(errno.ENODATA, os.removexattr, fd, "user.rating"),
        lambda fd: os.link(path, other),
        lambda fd: os.unlink(other),
        lambda fd: os.rename(path, other),
        lambda fd: os.rename(other, path),
    )

    def write_in_between() -> list[str]:
        size = len(OTHER) // len(changes) + 1
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        said = []
        for number, change in enumerate(changes):
            change(fd)
            said.append(code_of(os.pwrite, fd, OTHER[number * size : (number + 1) * size], number * size))
        return [*said, code_of(os.close, fd)]

    os.chown(mount.store / "DCIM/a.jpg", CAMERA, CAMERA)
    assert call_as(CAMERA, write_in_between) == [""] * (len(changes) + 1)
    assert (mount.store / "DCIM/a.jpg").read_bytes() == OTHER


def test_without_that_rule_single_bytes_could_be_changed(mounts, photos) -> None:
    mount = mounts.prepare(POLICY, photos)
    mount.program = ("tests.attack.weakened", "written-in-place")
    mount.start()
    assert call_as(GALLERY, code_of, os.open, mount / "DCIM/a.jpg", os.O_WRONLY) == ""


SECRET: Final = jpegs.pack("II", 51, 1, 30, 1, 424242, 10000)
"""A place that only the editor knows."""
EDITED: Final = PHOTO.replace(jpegs.pack("II", *jpegs.LATITUDE), SECRET)


def test_what_another_writes_into_an_emptied_file_is_not_read_back(mount) -> None:
    path = mount / "DCIM/a.jpg"
    assert SECRET in EDITED

    def hold(channel, flags: int, mapped: bool) -> dict[str, bytes | str]:
        fd = os.open(path, flags)
        os.ftruncate(fd, 0)
        os.pwrite(fd, jpegs.plain(2, 64).ljust(len(EDITED), b"\0"), 0)
        memory = mmap.mmap(fd, len(EDITED), prot=mmap.PROT_READ) if mapped else b""
        channel.send(touched(memory)[:8])
        channel.recv()
        shown: dict[str, bytes | str] = {}
        for name, look in {
            "pread": lambda: os.pread(fd, 1 << 20, 0),
            "mapping": lambda: touched(memory),
            "new mapping": lambda: touched(mmap.mmap(fd, len(EDITED), prot=mmap.PROT_READ)),
            "new open": path.read_bytes,
        }.items():
            try:
                shown[name] = look()
            except OSError as error:
                shown[name] = errno.errorcode[error.errno or 0]
        shown["write"] = code_of(os.pwrite, fd, b"x", 0)
        return shown

    for mapped in (False, True):
        holder = start_as(GALLERY, hold, os.O_RDWR | os.O_TRUNC, mapped)
        holder.receive()
        call_as(EDITOR, write, path, EDITED)
        holder.send("look")
        shown = holder.result()
        assert shown.pop("write") == "EACCES"
        assert {name for name, data in shown.items() if isinstance(data, str)} == set(), shown
        assert [name for name, data in shown.items() if SECRET in data] == []
        assert (mount.store / "DCIM/a.jpg").read_bytes() == EDITED


# ---------------------------------------------------------------- own files


def test_an_own_photo_is_whole_for_its_owner_and_without_place_for_others(mount) -> None:
    path = mount / "DCIM/mine.jpg"
    call_as(CAMERA, write, path, PHOTO)

    def hold(channel) -> tuple[bytes, bytes, bytes]:
        fd = os.open(path, os.O_RDONLY)
        memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        channel.send(memory[:])
        channel.recv()
        return memory[:], os.pread(fd, 1 << 20, 0), path.read_bytes()

    owner, other = start_as(CAMERA, hold), start_as(GALLERY, hold)
    assert owner.receive() == PHOTO
    assert not leaks(other.receive())
    call_as(EDITOR, write, path, EDITED)  # from now on it is nobody's
    for child in (owner, other):
        child.send("look again")
        for data in child.result():
            assert SECRET not in data
    assert not leaks(call_as(CAMERA, read, path))
    assert call_as(MAPS, read, path) == EDITED


def test_an_open_for_writing_ends_ownership_before_it_is_answered(mount) -> None:
    path = mount / "DCIM/mine.jpg"
    call_as(CAMERA, write, path, PHOTO)
    call_as(GALLERY, code_of, os.open, path, os.O_RDWR)  # refused: nothing changes
    assert call_as(CAMERA, read, path) == PHOTO

    def open_only(channel) -> None:
        os.open(path, os.O_WRONLY)
        channel.send("open")
        channel.recv()

    editor = start_as(EDITOR, open_only)
    editor.receive()
    assert not leaks(call_as(CAMERA, read, path))
    editor.send("end")
    editor.result()
    assert not leaks(call_as(CAMERA, read, path))


def test_an_owner_survives_a_remount_and_is_not_forged(mounts, photos) -> None:
    mount = mounts.start(POLICY, photos)
    call_as(CAMERA, write, mount / "DCIM/mine.jpg", PHOTO)
    stored = os.getxattr(photos / "DCIM/mine.jpg", "trusted.policyfs.owner")
    names = ["trusted.policyfs.owner", "user.policyfs.owner", "security.policyfs.owner", "trusted.x"]
    for uid in (CAMERA, EDITOR, 0):
        for name in names:
            said = call_as(uid, code_of, os.setxattr, mount / "DCIM/a.jpg", name, stored)
            assert said in {"EPERM", "EACCES", "ENOENT", "ENOTSUP"}, (uid, name, said)
            assert call_as(uid, code_of, os.getxattr, mount / "DCIM/mine.jpg", name) in {"ENODATA", "ENOENT"}
    assert call_as(CAMERA, os.listxattr, mount / "DCIM/mine.jpg") == []
    subprocess.run(["cp", "-a", photos / "DCIM/mine.jpg", photos / "DCIM/copy.jpg"], check=True, timeout=30)
    assert os.getxattr(photos / "DCIM/copy.jpg", "trusted.policyfs.owner") == stored
    assert mount.stop() == []
    again = mounts.start(POLICY, photos)
    assert call_as(CAMERA, read, again / "DCIM/mine.jpg") == PHOTO
    for name in ("a.jpg", "copy.jpg"):
        assert not leaks(call_as(CAMERA, read, again / "DCIM" / name)), name


# ---------------------------------------------------------------- ways round a view


def _reopen_as(path: Path, uid: int) -> tuple[str, bytes]:
    """Opened by one app, handed on to another in the same process, opened again through /proc."""
    fd = os.open(path, os.O_RDONLY)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    data = b""

    def again() -> None:
        nonlocal data
        data = Path(f"/proc/self/fd/{fd}").read_bytes()

    return code_of(again), data


def test_a_raw_descriptor_is_not_reopened_by_a_restricted_app(mounts, photos) -> None:
    """Attack A4.1: Open an inherited raw descriptor again by `/proc/self/fd`
    Guard: policyfs/fs/opening/preconditions.py::Preconditions.check_view
    Without: ::test_a_raw_descriptor_is_reopened_where_open_does_not_ask
    """
    policy = POLICY.replace("uid: 10012", "uid: [0, 10012]")  # root, who can become another, is maps
    mount = mounts.start(policy, photos)
    assert call_as(0, _reopen_as, mount / "DCIM/a.jpg", MAPS) == ("", PHOTO)
    said, data = call_as(0, _reopen_as, mount / "DCIM/a.jpg", GALLERY)
    assert said in {"EACCES", "ESTALE", "EPERM"}
    assert data == b""


def test_a_raw_descriptor_is_reopened_where_open_does_not_ask(mounts, photos) -> None:
    mount = mounts.prepare(POLICY.replace("uid: 10012", "uid: [0, 10012]"), photos)
    mount.program = ("tests.attack.weakened", "any-node")
    mount.start()
    assert call_as(0, _reopen_as, mount / "DCIM/a.jpg", GALLERY)[1] == PHOTO


def test_nothing_is_gained_by_moving_or_linking(mount) -> None:
    """The camera may do anything in both places, but sees the place only in one of them. A copy by mv would
    lose the place for all. So mv is refused, and changes nothing."""
    photo, there = mount / "DCIM/a.jpg", mount / "Android/camera/a.jpg"
    call_as(CAMERA, write, mount / "Android/camera/b.jpg", OTHER)
    assert call_as(CAMERA, code_of, os.rename, photo, there) == "EACCES"
    assert call_as(CAMERA, code_of, os.link, photo, there) == "EXDEV"
    exchange = (photo, mount / "Android/camera/b.jpg", 2)
    assert call_as(CAMERA, code_of, renameat2, *exchange) == "EACCES"
    (mount.store / "DCIM/album").mkdir()
    (mount.store / "DCIM/album").chmod(0o777)
    os.link(mount.store / "DCIM/a.jpg", mount.store / "DCIM/album/a.jpg")
    for path in ("DCIM/album", "DCIM/album/a.jpg"):
        target = mount / "Android/camera" / Path(path).name
        assert call_as(CAMERA, code_of, os.rename, mount / path, target) == "EACCES"
    assert b"Permission denied" in tool_as(CAMERA, "mv", photo, there).stderr
    assert (mount.store / "DCIM/a.jpg").read_bytes() == PHOTO
    assert not (mount.store / "Android/camera/a.jpg").exists()
    tool_as(CAMERA, "cp", photo, there, check=True)
    assert not leaks((mount.store / "Android/camera/a.jpg").read_bytes()), (
        "cp has copied what the camera may see"
    )
    assert (mount.store / "DCIM/a.jpg").read_bytes() == PHOTO


def renameat2(old: Path, new: Path, flags: int) -> None:
    """renameat2(2)."""
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


BY_OWNER: Final = POLICY.replace(
    "who: {app: [camera, gallery, maps, editor]}, paths", "when: {owner: [camera]}, paths"
).replace("[see, read, write], who: {app: gallery}", "[write], who: {app: gallery}")
"""Only what the camera has taken is read, so each read hangs on the owner."""


@pytest.mark.parametrize("policy", first(1, [(BY_OWNER,), (POLICY,)]), ids=["by owner", ""])
def test_without_passthrough_the_bytes_are_the_same(mounts, photos, policy) -> None:
    passing, mediated = (mounts.start(policy, photos, *options) for options in ((), ("--no-passthrough",)))
    call_as(CAMERA, write, passing / "DCIM/mine.jpg", OTHER)
    for uid in (CAMERA, GALLERY, MAPS, EDITOR):
        shown = call_as(uid, read, passing / "DCIM/mine.jpg")
        assert bool(leaks(shown)) == (uid != GALLERY)
        for name in ("a.jpg", "mine.jpg"):
            assert answer(uid, passing / "DCIM" / name) == answer(uid, mediated / "DCIM" / name)
    assert passing.fuse("READ") < mediated.fuse("READ")


def answer(uid: int, path: Path) -> bytes | str:
    """The bytes that an app reads, or its error."""
    try:
        return call_as(uid, read, path)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
